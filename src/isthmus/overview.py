"""Where each scenario of a project stands: what is stale, what is published, which version is the champion."""

import json
from pathlib import Path

from isthmus.core.errors import StoreError
from isthmus.core.project import work_in
from isthmus.core.yaml_file import read_yaml
from isthmus.registry.lineage.lineage import read_lock, run_dvc
from isthmus.registry.publish.publish import CANDIDATE, CHAMPION, find_published, model_name
from isthmus.registry.store.store_file import NoStoreError
from isthmus.registry.store.stores import open_store

_SHOWN = 3  # stages in a line


def overview(project: Path) -> dict[str, str]:
    """Returns scenario -> one line about it; the project becomes the current folder.

    Raises:
        StoreError: DVC or the store does not answer.
    """
    work_in(project)
    sections = read_yaml(project / "params.yaml").get("scenarios") or {}
    lock = read_lock(project) if (project / "dvc.lock").is_file() else {}
    changed = sorted(json.loads(run_dvc(project, "status", "--json"))) if lock else []
    found = {}
    for name, section in sections.items():
        raw = str(section.get("raw")) if isinstance(section, dict) else ""
        if f"report@{name}" not in lock:
            found[name] = f"not run yet: isthmus run {name}"
            continue
        stale = [stage for stage in changed if _belongs(stage, str(name), raw)]
        if stale:
            more = f" and {len(stale) - _SHOWN} more" if len(stale) > _SHOWN else ""
            found[name] = (
                f"stale: changed {', '.join(stale[:_SHOWN])}{more}: isthmus run {name}; {_aliases(project, name)}"
            )
        else:
            found[name] = _published(project, str(name))
    return found


def _belongs(stage: str, scenario: str, raw: str) -> bool:
    """Returns whether a stage that DVC calls changed is one that a scenario's report rests on.

    >>> [_belongs(stage, "steel", "data/raw/a") for stage in ("train@steel-mcc", "train@steel_2-mcc", "code")]
    [True, False, True]
    """
    _, _, key = stage.partition("@")
    return key == scenario or key.startswith(f"{scenario}-") or stage in ("code", f"{raw}.dvc", f"simulate@{scenario}")


def _published(project: Path, scenario: str) -> str:
    try:
        _, published, store = find_published(project, scenario)
    except StoreError:
        return f"up to date, not published: isthmus publish {scenario}; {_aliases(project, scenario)}"
    aliases = store.aliases(model_name(scenario))
    if aliases.get(CHAMPION) == published.version:
        return f"published as version {published.version}, which is the champion"
    return f"published as version {published.version}; {_aliases(project, scenario)}"


def _aliases(project: Path, scenario: str) -> str:
    try:
        aliases = open_store(project).aliases(model_name(scenario))
    except NoStoreError:
        aliases = {}
    shown = [f"{alias}: version {aliases[alias]}" for alias in (CHAMPION, CANDIDATE) if alias in aliases]
    return ", ".join(shown) if CHAMPION in aliases else ", ".join(["no champion", *shown])
