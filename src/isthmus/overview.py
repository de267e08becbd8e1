"""Where each scenario of a project stands: what is stale, what is published, which version is the champion."""

import json
from pathlib import Path
from typing import NamedTuple

from isthmus.core.errors import StoreError
from isthmus.core.params.yaml_file import read_yaml
from isthmus.core.project import work_in
from isthmus.registry.lineage.lineage import read_lock, run_dvc
from isthmus.registry.publish.publish import CANDIDATE, CHAMPION, find_published, model_name
from isthmus.registry.store.store_file import NoStoreError
from isthmus.registry.store.stores import open_store

_SHOWN = 3  # stages in a line


class Standing(NamedTuple):
    """Where one scenario stands.

    Attributes:
        state: `not run`, `stale`, `not published` or `published`; the first three are of what is on disk now.
        changed: stages that DVC would run again.
        version: that holds the results on disk; None: no version does.
        champion: version, None where there is none.
        candidate: the same.
    """

    state: str
    changed: list[str] = []
    version: str | None = None
    champion: str | None = None
    candidate: str | None = None

    def text(self, scenario: str) -> str:
        """Returns one line for a person."""
        shown = [f"{a}: version {v}" for a, v in ((CHAMPION, self.champion), (CANDIDATE, self.candidate)) if v]
        aliases = ", ".join(shown if self.champion else ["no champion", *shown])
        if self.state == "not run":
            return f"not run yet: isthmus run {scenario}"
        if self.state == "stale":
            more = f" and {len(self.changed) - _SHOWN} more" if len(self.changed) > _SHOWN else ""
            return f"stale: changed {', '.join(self.changed[:_SHOWN])}{more}: isthmus run {scenario}; {aliases}"
        if self.state == "not published":
            return f"up to date, not published: isthmus publish {scenario}; {aliases}"
        if self.champion == self.version:
            return f"published as version {self.version}, which is the champion"
        return f"published as version {self.version}; {aliases}"


def overview(project: Path) -> dict[str, Standing]:
    """Returns scenario -> where it stands; the project becomes the current folder.

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
        stale = [stage for stage in changed if _belongs(stage, str(name), raw)]
        found[str(name)] = _standing(project, str(name), f"report@{name}" in lock, stale)
    return found


def _belongs(stage: str, scenario: str, raw: str) -> bool:
    """Returns whether a stage that DVC calls changed is one that a scenario's report rests on.

    >>> [_belongs(stage, "steel", "data/raw/a") for stage in ("train@steel-mcc", "train@steel_2-mcc", "code")]
    [True, False, True]
    """
    _, _, key = stage.partition("@")
    return key == scenario or key.startswith(f"{scenario}-") or stage in ("code", f"{raw}.dvc", f"simulate@{scenario}")


def _standing(project: Path, scenario: str, has_run: bool, stale: list[str]) -> Standing:
    if not has_run:
        return Standing("not run")
    try:
        aliases = open_store(project).aliases(model_name(scenario))
    except NoStoreError:
        aliases = {}
    champion, candidate = aliases.get(CHAMPION), aliases.get(CANDIDATE)
    if stale:
        return Standing("stale", stale, None, champion, candidate)
    try:
        version = find_published(project, scenario)[1].version
    except StoreError:
        return Standing("not published", [], None, champion, candidate)
    return Standing("published", [], version, champion, candidate)
