import importlib
import operator
import os
import pickle
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from isthmus.core import engine, plugins
from isthmus.core.code import code_lock
from isthmus.core.engine import EngineConfig, in_order, setting
from isthmus.core.errors import ConfigError, MachineError
from isthmus.data import workers
from tests.engine_here import InThisProcess

double = partial(operator.mul, 2)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> InThisProcess:
    return InThisProcess.used(monkeypatch)


@pytest.fixture
def no_cluster() -> Iterator[None]:
    engine.open_cluster.cache_clear()
    yield
    engine.open_cluster.cache_clear()


def refuse(number: int) -> int:
    if number == 70:
        raise MachineError("item 70 is refused")
    return number


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("", EngineConfig()),
        ("local", EngineConfig()),
        ("ray", EngineConfig(name="ray")),
        ("dask workers=3 memory=1.5", EngineConfig(name="dask", workers=3, memory=1.5)),
        ("dask address=tcp://host:8786", EngineConfig(name="dask", address="tcp://host:8786")),
    ],
)
def test_the_variable_names_engine_and_options(
    monkeypatch: pytest.MonkeyPatch, value: str, meant: EngineConfig
) -> None:
    monkeypatch.setenv("ISTHMUS_ENGINE", value)

    assert setting() == meant
    assert engine.is_local() == (meant.name == "local")


@pytest.mark.parametrize(
    ("value", "refused"),
    [
        ("spark", r"ISTHMUS_ENGINE: name: Input should be 'local', 'dask' or 'ray' .got 'spark'"),
        ("dask adress=x", "ISTHMUS_ENGINE: adress: .* Did you mean 'address'"),
        ("dask workers=0", "ISTHMUS_ENGINE: workers: Input should be greater than or equal to 1"),
        ("local workers=2", "ISTHMUS_ENGINE: local takes no options. Name dask or ray, or drop them"),
        (
            "ray address=auto memory=2",
            "workers and memory are of a cluster on this machine. Drop them",
        ),
    ],
)
def test_a_variable_that_cannot_be_meant_is_refused(monkeypatch: pytest.MonkeyPatch, value: str, refused: str) -> None:
    monkeypatch.setenv("ISTHMUS_ENGINE", value)

    with pytest.raises(ConfigError, match=refused):
        list(in_order(double, [1]))


def test_without_an_engine_this_process_computes_and_nothing_is_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISTHMUS_ENGINE", raising=False)

    assert list(in_order(lambda number: number + 1, range(5), 2)) == [1, 2, 3, 4, 5]


def test_results_of_units_come_in_order_and_few_units_are_in_hand(cluster: InThisProcess) -> None:
    assert list(in_order(double, range(100), 3)) == list(range(0, 200, 2))
    assert (cluster.sent, cluster.most, cluster.dropped) == (34, 6, 0)


def test_the_pool_of_processes_gives_way_to_the_engine(cluster: InThisProcess) -> None:
    assert list(workers.in_order(double, range(40), 2, 16)) == list(range(0, 80, 2))
    assert cluster.sent == 3


def test_an_error_in_a_worker_is_raised_here_with_its_traceback_and_the_rest_is_dropped(
    cluster: InThisProcess,
) -> None:
    with pytest.raises(MachineError, match="item 70 is refused") as raised:
        list(in_order(refuse, range(100), 10))

    assert "in a worker on" in raised.value.__notes__[0] and "refuse" in raised.value.__notes__[0]
    assert cluster.dropped == 2


def test_no_work_opens_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_ENGINE", "dask address=tcp://127.0.0.1:1")

    assert list(in_order(double, [])) == []


@pytest.mark.parametrize(
    ("folder", "code", "refused"),
    [
        ("gone", code_lock.installed()["code"], "does not see .*gone. Put the project on storage that all workers"),
        ("", "other", "has other code of isthmus in .*Install the same there"),
    ],
)
def test_a_worker_that_does_not_see_the_project_or_has_other_code_is_refused(
    tmp_path: Path, folder: str, code: str, refused: str
) -> None:
    place = engine._Place(str(tmp_path / folder), None, code)

    results, error = engine.run_unit(pickle.dumps((place, pickle.dumps((double, [1])))))

    assert results == [] and isinstance(error, MachineError)
    assert re.search(refused, str(error))


def test_a_worker_works_in_the_project_and_knows_its_plugins(
    cluster: InThisProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "plugins" / "data" / "kinds").mkdir(parents=True)
    (tmp_path / "plugins/data/kinds/own_kind.py").write_text("def twice(number): return 2 * number\n")
    monkeypatch.chdir(tmp_path)
    plugins.use(tmp_path / "plugins")
    twice = importlib.import_module("isthmus.data.kinds.own_kind").twice
    answers = in_order(twice, range(4))
    monkeypatch.setattr(cluster, "result", lambda unit: elsewhere(unit, monkeypatch))
    try:
        assert list(answers) == [0, 2, 4, 6]
        assert (Path.cwd(), plugins.own_folder()) == (tmp_path, tmp_path / "plugins")
    finally:
        plugins.use(None)
        sys.modules.pop("isthmus.data.kinds.own_kind", None)


def elsewhere(unit: bytes, monkeypatch: pytest.MonkeyPatch) -> object:
    """Computes a unit as a process would that was started in another folder and knows no plugin."""
    monkeypatch.chdir("/")
    plugins.use(None)
    sys.modules.pop("isthmus.data.kinds.own_kind", None)
    return engine.run_unit(unit)


@pytest.mark.usefixtures("no_cluster")
@pytest.mark.parametrize(("name", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_a_missing_engine_is_reported_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"isthmus.core.engines.{name}", raising=False)
    monkeypatch.setenv("ISTHMUS_ENGINE", name)

    with pytest.raises(ConfigError, match=rf"ISTHMUS_ENGINE: {name} needs '{module}': .*\[{name}\]"):
        list(in_order(double, [1]))


@pytest.mark.usefixtures("no_cluster")
@pytest.mark.parametrize("value", ["dask address=tcp://127.0.0.1:{}", "ray address=127.0.0.1:{}"])
def test_an_address_where_nothing_listens_is_reported_at_once(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    pytest.importorskip("distributed")
    with socket.socket() as bound:  # not listening: its port is refused
        bound.bind(("127.0.0.1", 0))
        address = value.format(bound.getsockname()[1])
        monkeypatch.setenv("ISTHMUS_ENGINE", address)
        start = time.monotonic()

        with pytest.raises(MachineError, match=r"address=.*127.0.0.1:\d+: no cluster answers .*refused.* Start it"):
            list(in_order(double, [1]))

    assert time.monotonic() - start < 10


@pytest.mark.usefixtures("no_cluster")
def test_a_ray_that_does_not_start_here_in_time_is_reported_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def init(*_: object, **__: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("ISTHMUS_ENGINE", "ray workers=1")

    with pytest.raises(MachineError, match=r"Ray could not be started .*timed out.*Run the same command again"):
        list(in_order(double, [1]))


def test_the_first_import_of_the_engine_loads_neither_dask_nor_ray() -> None:
    script = "import sys, isthmus.data.workers; print({'dask', 'distributed', 'ray'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ)

    assert done.stdout == "set()\n"
