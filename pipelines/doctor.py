"""Examines what a project needs on this machine, and says for each fault which command mends it. It changes nothing.

`isthmus doctor` starts it.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import httpx
import prefect
from packaging.requirements import Requirement

from isthmus.checks import check
from isthmus.core import engine
from isthmus.core.addresses import without_passwords
from isthmus.core.code import code_lock
from isthmus.core.config import read_yaml
from isthmus.core.errors import IsthmusError, WeightsError
from isthmus.core.locks import DVC_LOCK, flocked
from isthmus.core.project import check_repository, stage_path, work_in
from isthmus.registry.ledger.consistency import disagreement
from isthmus.registry.ledger.ledger import last_done
from isthmus.registry.lineage.dvc_remote import default_remote
from isthmus.registry.lineage.lineage import run_dvc
from isthmus.registry.publish.publish import CHAMPION
from isthmus.registry.store.store_file import NoStoreError
from isthmus.registry.store.stores import open_store

LEAST_FREE = 5.0  # [GB] of disk; one scenario of a few thousand images takes about one
_SHOWN = 5  # names in a line
_PATIENCE = 5.0  # [s] for a server to answer


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        what: a word for it.
        state: fault: something will fail; note: nothing fails, but a person may want it otherwise.
        text: what was found.
        mend: what to run or set; empty where all is well.
    """

    what: str
    state: Literal["ok", "note", "fault"]
    text: str
    mend: str = ""


def examine(project: Path) -> list[Finding]:
    """Returns what was found, in a fixed order; the project becomes the current folder."""
    work_in(project)
    found: list[Finding] = []
    for what, look in EXAMINED.items():
        try:
            found += [Finding(what, state, *map(without_passwords, texts)) for state, *texts in look(project)]
        except IsthmusError as error:
            text = without_passwords(" ".join(str(error).split()))
            found.append(Finding(what, "fault", text, "" if "Run '" in text or "run '" in text else "as it says"))
    return found


Found = Iterator[tuple[Any, ...]]  # the fields of a Finding but the first


def _packages(project: Path) -> Found:
    lock = project / "requirements.lock"
    locked = lock.is_file() and (project / "src" / "isthmus").is_dir()
    lines = lock.read_text(encoding="utf-8").splitlines() if locked else requires("isthmus") or []
    asked = [Requirement(line.split(" #")[0]) for line in lines if line.strip() and not line.startswith(("#", "-"))]
    wanted = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = {str(one): text for one in wanted if (text := _other_version(one))}
    source = "requirements.lock" if locked else "the installed Isthmus"
    if not wrong:
        yield "ok", f"{len(wanted)} packages have the versions that {source} asks for"
        return
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    mend = "make install" if locked else f"pip install {' '.join(map(repr, wrong))}"
    yield "fault", f"not as {source} asks: {', '.join([*wrong.values()][:_SHOWN])}{more}", mend


def _other_version(wanted: Requirement) -> str:
    try:
        there = version(wanted.name)
    except PackageNotFoundError:
        return f"{wanted.name} is missing"
    return "" if wanted.specifier.contains(there, prereleases=True) else f"{wanted.name} {there} for {wanted.specifier}"


def _code(project: Path) -> Found:
    if other := code_lock.other_package(project / code_lock.NAME):
        yield "fault", f"isthmus.lock was written for {other}", "isthmus upgrade, then isthmus upgrade --write"
    else:
        package = code_lock.installed()
        yield "ok", f"isthmus {package['version']} (code {package['code'][:8]})"


def _settings(project: Path) -> Found:
    names = read_yaml(project / "params.yaml").get("scenarios") or {}
    if not names:
        yield "note", "params.yaml has no scenario yet", "isthmus add NAME --source DIR --target DIR --kind KIND"
        return
    try:
        check(project, [])
    except IsthmusError as error:
        lines = str(error).splitlines()
        yield "fault", f"params.yaml or the raw folders: {len(lines)} errors, the first: {lines[0]}", "isthmus check"
    else:
        yield "ok", f"params.yaml and the raw folders of {len(names)} scenarios"


def _dvc(project: Path) -> Found:
    check_repository(project)
    if not (project / ".dvc").is_dir():
        yield "fault", "no DVC project here", "dvc init"
        return
    if (project / DVC_LOCK).exists():
        with flocked(project / DVC_LOCK, patience=0.0):
            pass
    cache = _cache(project)
    yield "ok", f"its cache is {cache}; no other dvc is running"
    if remote := default_remote(project):
        yield "ok", f"the default remote is '{remote}'"
    else:
        yield "note", "no remote: data and results lie on this machine alone", "dvc remote add -d NAME ADDRESS"


@lru_cache(maxsize=1)
def _cache(project: Path) -> Path:
    return Path(run_dvc(project, "cache", "dir").strip())


def _disk(project: Path) -> Found:
    cache = _cache(project) if (project / ".dvc").is_dir() else project
    cache = next(folder for folder in (cache, *cache.parents) if folder.exists())
    other = cache.stat().st_dev != project.stat().st_dev
    for place in [project, *([cache] if other else [])]:
        free = shutil.disk_usage(place).free / 1e9
        text = f"{free:.1f} GB free at {place}"
        if free < LEAST_FREE:
            yield "fault", f"{text}; {LEAST_FREE:.0f} GB are wanted", "dvc gc --workspace, or free some space"
        else:
            yield "ok", text


def _registry(project: Path) -> Found:
    try:
        store = open_store(project)
        champions = {model: store.aliases(model).get(CHAMPION) for model in store.models()}
    except NoStoreError:
        yield "note", "nothing was published yet", "isthmus run SCENARIO"
        return
    yield "ok", f"MLflow {version('mlflow')} reads {store.place}"
    apart = [text for m, there in champions.items() if (text := disagreement(last_done(store, m), m, there))]
    for text in apart:
        yield "fault", text, "isthmus promote or isthmus rollback of that scenario, which settles it"
    if not apart:
        count = sum(there is not None for there in champions.values())
        yield "ok", f"the record of promotions and the registry agree; models with a champion: {count}"


def _prefect(_: Path) -> Found:
    address = os.environ.get("PREFECT_API_URL")
    if not address:
        yield "ok", f"Prefect {prefect.__version__}; no PREFECT_API_URL, so each run starts a server of its own"
        return
    try:
        with httpx.Client(timeout=_PATIENCE) as client:
            client.get(f"{address.rstrip('/')}/health").raise_for_status()
            there = str(client.get(f"{address.rstrip('/')}/admin/version").raise_for_status().json())
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        yield "fault", f"{address} does not answer: {reason}", "prefect server start, or unset PREFECT_API_URL"
        return
    if there.split(".")[0] != prefect.__version__.split(".")[0]:
        mend = f"pip install prefect=={prefect.__version__} where the server runs"
        yield "fault", f"the server at {address} is Prefect {there}, here is {prefect.__version__}", mend
    else:
        yield "ok", f"the server at {address} answers; it is Prefect {there}"


def _weights(project: Path) -> Found:
    from isthmus.models.weights.sources import at_hand

    document = read_yaml(project / "params.yaml")
    stages = read_yaml(project / "dvc.yaml")["stages"]
    used: dict[tuple[str, str], str] = {}
    for name, scenario in (document.get("scenarios") or {}).items():
        backbone = (document.get("models") or {}).get(scenario.get("model"), {}).get("backbone", {})
        if backbone.get("name") == "timm" and backbone.get("weights", "auto") != "random":
            used[str(backbone.get("architecture")), str(backbone.get("weights", "auto"))] = name
    for (architecture, source), name in used.items():
        try:
            yield (
                "ok",
                f"{architecture}: {at_hand(architecture, source, Path(stage_path(stages, 'embed', 'cache', name)))}",
            )
        except WeightsError as error:
            yield "fault", f"{architecture}: {error}", "docs/weights.md lists three ways"


def _device(_: Path) -> Found:
    import torch

    if torch.cuda.is_available():
        yield "ok", f"{torch.cuda.device_count()} GPU, {torch.cuda.get_device_name()}; torch {torch.__version__}"
    else:
        yield "ok", f"no GPU that torch {torch.__version__} can use; {os.cpu_count()} processor cores"


def _engine(_: Path) -> Found:
    chosen = engine.setting()
    if chosen.name == "local":
        yield "ok", f"units of work are computed by {engine.processors()} processes of this machine"
        return
    engine.of(chosen)
    where = chosen.address or "started here by each stage"
    yield "ok", f"units of work are computed by {chosen.name}, {where}"


EXAMINED: dict[str, Callable[[Path], Found]] = {
    "packages": _packages,
    "code": _code,
    "settings": _settings,
    "DVC": _dvc,
    "disk": _disk,
    "registry": _registry,
    "Prefect": _prefect,
    "weights": _weights,
    "device": _device,
    "engine": _engine,
}


def table(found: Sequence[Finding]) -> str:
    """Returns one line a finding, and below a fault or note what to do."""
    lines = []
    for one in found:
        lines.append(f"{one.state:<5}  {one.what:<8}  {one.text}")
        lines += [f"{'':<17}to do: {one.mend}"] if one.mend else []
    faults = sum(one.state == "fault" for one in found)
    return "\n".join([*lines, f"{faults} fault{'' if faults == 1 else 's'}"])
