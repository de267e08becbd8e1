"""The store's file: made whole or not at all, mended after a kill, never thrown away where it was used."""

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from isthmus.core.errors import StoreError
from isthmus.registry.store import store_file
from isthmus.registry.store.stores import open_store
from tests.pipelines.tiny_project import default_signals

MAKE = """
import sys
from pathlib import Path
from isthmus.registry.store.stores import open_store
print("ready", flush=True)
open_store(Path(sys.argv[1]), make=True)
"""


@pytest.fixture
def store(fresh_store: Path, tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text("{}")
    return Path(shutil.copy(fresh_store, tmp_path / "mlflow.db"))


@pytest.fixture(autouse=True)
def _no_long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_file, "_SECONDS_OF_SILENCE", 0.1)


def change(store: Path, *statements: str) -> None:
    with closing(sqlite3.connect(store)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def half_make(store: Path) -> None:
    """Makes it what a kill while MLflow 3.17 made its tables has left: a table too many for the revision it is at."""
    change(store, "UPDATE alembic_version SET version_num = '5d2d30f0abce'", "DROP TABLE guardrails")


def use(store: Path) -> None:
    change(store, "INSERT INTO registered_models (name, workspace) VALUES ('isthmus-demo', 'default')")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_to_ask_a_folder_without_a_store_makes_none_and_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds no project \(no params.yaml\) and no store .* in the project's root"):
        open_store(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "params.yaml").write_text("{}")
    with pytest.raises(StoreError, match=r"mlflow.db: no such store: nothing was published to it. Run 'isthmus"):
        open_store(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_to_ask_a_store_changes_nothing_in_it(store: Path) -> None:
    open_store(store.parent)
    before = digest(store)

    open_store(store.parent)

    assert digest(store) == before


@pytest.mark.parametrize("content", [b"", None])
def test_an_empty_file_is_no_store_and_is_made_one(tmp_path: Path, content: bytes | None) -> None:
    (tmp_path / "params.yaml").write_text("{}")
    if content is None:
        closing(sqlite3.connect(tmp_path / "mlflow.db")).__enter__().execute("PRAGMA user_version = 1")
    else:
        (tmp_path / "mlflow.db").write_bytes(content)
    with pytest.raises(StoreError, match="no such store"):
        open_store(tmp_path)

    assert open_store(tmp_path, make=True).versions() == []


def test_a_half_made_store_that_nobody_used_is_moved_aside_and_made_again(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half_make(store)
    half_made = digest(store)
    with pytest.raises(StoreError, match=r"are incomplete \(a process was killed\), and .*'isthmus publish"):
        open_store(store.parent)
    assert digest(store) == half_made

    assert open_store(store.parent, make=True).versions() == []

    (aside,) = store.parent.glob("mlflow.db.broken-*")
    assert digest(aside) == half_made
    assert f"its tables were incomplete and empty: moved to {aside.name} and created again" in capsys.readouterr().err
    assert open_store(store.parent).versions() == []


def test_a_used_store_of_an_older_mlflow_is_brought_up_to_date_and_kept_as_it_was(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use(store)
    downgrade(store)
    older = digest(store)

    found = open_store(store.parent)

    assert [model.name for model in found._client.search_registered_models()] == ["isthmus-demo"]
    (kept,) = store.parent.glob("mlflow.db.before-*")
    with closing(sqlite3.connect(kept)) as connection:
        assert connection.execute("SELECT name FROM registered_models").fetchall() == [("isthmus-demo",)]
    assert older != digest(store)
    assert f"MLflow's tables were brought up to date; the old file is kept as {kept.name}" in capsys.readouterr().err
    assert sorted(path.name for path in store.parent.glob(".*")) == []


def test_a_used_store_that_cannot_be_mended_is_left_as_it_is(store: Path) -> None:
    use(store)
    half_make(store)
    before = digest(store)

    for make in (False, True):
        with pytest.raises(
            StoreError, match=r"'mlflow db upgrade' fails on a copy of it: .*It was used, so it is left"
        ):
            open_store(store.parent, make=make)

    assert digest(store) == before
    assert sorted(path.name for path in store.parent.iterdir()) == ["mlflow.db", "mlflow.tables-lock.db", "params.yaml"]


def test_a_store_of_a_newer_mlflow_and_a_database_of_another_program_are_left_alone(
    store: Path, tmp_path: Path
) -> None:
    change(store, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(StoreError, match=r"was written by a newer MLflow \(revision ffffffffffff\), which this"):
        open_store(store.parent, make=True)
    store.unlink()
    change(store, "CREATE TABLE patients (name TEXT)")
    with pytest.raises(StoreError, match=r"holds tables of another program and none of MLflow's. Name another file"):
        open_store(store.parent, make=True)
    assert not list(tmp_path.glob("*broken*"))


def test_a_store_that_another_program_is_making_is_waited_for(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_file, "_SECONDS_OF_SILENCE", 1.0)
    whole = shutil.copy(store, tmp_path / "whole.db")
    half_make(store)
    script = f"""
import sqlite3, time
connection = sqlite3.connect({str(store)!r}, isolation_level=None)
for number in range(8):
    connection.execute(f"CREATE TABLE t{{number}} (x)")
    time.sleep(0.3)
sqlite3.connect({str(whole)!r}).backup(connection)
"""
    maker = subprocess.Popen([sys.executable, "-c", script])
    time.sleep(0.5)

    open_store(store.parent, make=True)

    assert maker.wait() == 0
    assert not list(tmp_path.glob("*broken*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "delay"), [(signal.SIGKILL, 2.5), pytest.param(signal.SIGINT, 3.5, marks=pytest.mark.soak)]
)
def test_a_kill_while_the_tables_are_made_leaves_no_store_or_a_whole_one(
    tmp_path: Path, number: int, delay: float
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", MAKE, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        preexec_fn=default_signals,
    )  # fmt: skip
    assert child.stdout
    child.stdout.readline()
    give_up = time.monotonic() + 60
    while not list(tmp_path.glob(".mlflow.db.*")) and time.monotonic() < give_up:
        time.sleep(0.01)
    time.sleep(delay / 3)
    child.send_signal(number)
    child.wait()
    child.stdout.close()

    assert not (tmp_path / "mlflow.db").exists() or store_file._look(tmp_path / "mlflow.db").condition == "whole"
    assert open_store(tmp_path, make=True).versions() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.tables-lock.db"]


def test_a_journal_without_its_database_is_not_played_back_into_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db-journal").write_bytes(os.urandom(4096))

    assert open_store(tmp_path, make=True).versions() == []

    assert not (tmp_path / "mlflow.db-journal").exists()
    assert len(list(tmp_path.glob("mlflow.db.broken-*-journal"))) == 1


def test_a_folder_that_cannot_be_written_is_a_clear_error(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.unlink()

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("isthmus.registry.store.tables.make", full)
    with pytest.raises(StoreError, match=r"the store cannot be used \(database or disk is full\).*Check the file's"):
        open_store(store.parent, make=True)
    assert sorted(path.name for path in store.parent.iterdir()) == ["mlflow.tables-lock.db", "params.yaml"]


def downgrade(store: Path) -> None:
    """Takes the last migration back, as the store of an MLflow before it."""
    from alembic import command
    from mlflow.store.db import utils
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{store}")
    config = utils._get_alembic_config(str(engine.url))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "-1")
    engine.dispose()
