"""Two results side by side: their scores, and what differs in settings, data and code."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from isthmus.core import plugins
from isthmus.core.errors import ConfigError
from isthmus.core.files import read_json
from isthmus.registry.lineage.lineage import REQUIREMENTS
from isthmus.registry.lineage.revision import WORKSPACE, read_revision
from isthmus.registry.publish.model_reference import parsed
from isthmus.registry.publish.publish import model_name
from isthmus.registry.store.store_file import NoStoreError
from isthmus.registry.store.stores import open_store
from isthmus.registry.store.tracking import Store
from isthmus.registry.trace.trace import fetched, find_version
from isthmus.report.scores import MEANING, scores

_FILES = ("choice", "metrics", "truth", "trust")
_DATA = ("ingest", "labels")  # stages whose outputs say which images and labels there were
_SHOWN = 8  # [digit] of a hash


@dataclass(frozen=True)
class Result:
    """One of the two.

    Attributes:
        name: registered model and version, or revision.
        scenario: its name.
        commit: the last one of the branch that made it.
        chosen: method and epoch.
        scores: as `scores.json` has them.
        settings: dotted key of `params.yaml` -> value, of all that the results depend on.
        data: path -> md5 of the raw data, and of what was found in it.
        code: stage, and plugin where it names one -> fingerprint.
        packages: sha256 of the lock file; empty where there is none.
    """

    name: str
    scenario: str
    commit: str
    chosen: str
    scores: dict[str, float]
    settings: dict[str, Any] = field(repr=False)
    data: dict[str, str] = field(repr=False)
    code: dict[str, str] = field(repr=False)
    packages: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two results."""

    first: Result
    second: Result

    def differences(self, what: str) -> dict[str, tuple[Any, Any]]:
        """Returns key -> both values, of `scores`, `settings`, `data` or `code`, where they differ; None: absent."""
        one, other = getattr(self.first, what), getattr(self.second, what)
        pairs = {key: (one.get(key), other.get(key)) for key in sorted({*one, *other})}
        return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}

    def as_json(self) -> dict[str, Any]:
        """Returns it as JSON types."""
        named = {side: asdict(getattr(self, side)) for side in ("first", "second")}
        for result in named.values():
            for what in ("settings", "data", "code"):
                del result[what]
        return named | {what: self.differences(what) for what in ("settings", "data", "code")}

    def text(self) -> str:
        """Returns the tables for a person."""
        one, other = self.first, self.second
        rows = [["", one.name, other.name, "difference"]]
        for name in MEANING:
            first, second = one.scores.get(name), other.scores.get(name)
            if first is not None or second is not None:
                gap = "" if first is None or second is None else f"{second - first:+.4f}".replace("+0.0000", "0")
                rows.append([name, _number(first), _number(second), gap])
        facts = [(what, str(getattr(one, what)), str(getattr(other, what))) for what in ("scenario", "chosen")]
        facts.append(("commit", one.commit[:_SHOWN], other.commit[:_SHOWN]))
        rows += [[what, *both, "" if both[0] == both[1] else "differs"] for what, *both in facts]
        lines = _table(rows)
        for what in ("settings", "data"):
            found = self.differences(what)
            shown = [[f"  {key}", *(_value(value, what) for value in pair)] for key, pair in found.items()]
            lines += ["", f"{what}: " + ("differ in" if found else "the same"), *_table(shown)]
        code = ", ".join(self.differences("code"))
        lines += ["", f"code: {f'differs in {code}' if code else 'the same'}"]
        packages = "the same" if one.packages == other.packages else f"{REQUIREMENTS} differs"
        return "\n".join([*lines, f"packages: {packages}"])


def compare(project: Path, first: str, second: str, scenario: str | None = None) -> Comparison:
    """Reads two results; nothing is computed again.

    Args:
        project: its root.
        first: a registered version (`NAME@ALIAS`, `NAME/VERSION`, `NAME`), or a git revision, a DVC experiment or
            `workspace`, whose results are in DVC's cache.
        second: the same.
        scenario: of which results of a revision are meant, where it has several.

    Raises:
        ConfigError: a name means nothing, or a revision has several scenarios and none is named.
        StoreError: its results cannot be had.
    """
    project = project.resolve()
    store = _store(project)
    known = set(store.models()) if store else set()
    found: dict[str, Result] = {}
    for asked in (first, second):
        if store and _is_model(asked, known):
            found[asked] = _version(store, asked)
    if scenario is None and len({result.scenario for result in found.values()}) == 1:
        scenario = next(iter(found.values())).scenario
    for asked in (first, second):
        if asked not in found:
            found[asked] = _revision(project, asked, scenario, known)
    return Comparison(found[first], found[second])


def _store(project: Path) -> Store | None:
    try:
        return open_store(project)
    except NoStoreError:
        return None


def _is_model(asked: str, known: set[str]) -> bool:
    try:
        name, _, _ = parsed(asked)
    except ConfigError:
        return False
    return name in known or model_name(name) in known


def _version(store: Store, asked: str) -> Result:
    version = find_version(store, asked)
    with tempfile.TemporaryDirectory() as folder:
        lineage = read_json(fetched(store, version, "lineage.json", Path(folder)))
        files = {name: store.fetch_file(version.run, f"{name}.json", Path(folder)) for name in _FILES}
        read = {name: read_json(path) if path else {} for name, path in files.items()}
    entries = lineage["lock_entries"]
    settings = _settings(entries, lineage["scenario"])
    task = plugins.load("report.tasks", settings.get("scenario.task", "classification")).Report
    return _result(
        f"{version.model}/{version.number}", lineage["scenario"], lineage["git_commit"], read["choice"],
        scores(task.scored.metric, *(read[name] for name in _FILES)), entries, lineage["requirements_sha256"],
    )  # fmt: skip


def _revision(project: Path, asked: str, scenario: str | None, known: set[str]) -> Result:
    found = read_revision(project, asked, scenario)
    if found is None:
        models = ", ".join(sorted(known)) or "none"
        raise ConfigError(
            f"'{asked}' is no registered model (there are: {models}), no git revision and no DVC experiment."
            f" Allowed: NAME@ALIAS, NAME/VERSION, NAME, a revision, an experiment, {WORKSPACE}"
        )
    choice, numbers = found.cached("select", "choice"), found.cached("report", "scores")
    return _result(asked, found.scenario, found.commit, choice, numbers, found.entries, found.packages)


def _result(
    name: str, scenario: str, commit: str, choice: Mapping[str, Any], numbers: dict[str, float],
    entries: Mapping[str, dict[str, Any]], packages: str,
) -> Result:  # fmt: skip
    chosen = choice["chosen"]
    of = f" of {', '.join(choice['ensemble'])}" if chosen["method"] == "ensemble" else ""
    raw = re.search(r"--raw '?([^'\s]+)", entries[f"ingest@{scenario}"]["cmd"])
    data = {dep["path"]: dep["md5"] for dep in entries[f"ingest@{scenario}"]["deps"] if raw and dep["path"] == raw[1]}
    for stage in _DATA:
        outs = entries.get(f"{stage}@{scenario}", {}).get("outs", [])
        data |= {out["path"]: out["md5"] for out in outs if out["path"].endswith(".parquet")}
    code = {dep["path"].removeprefix("out/code/"): dep["md5"] for entry in entries.values()
            for dep in entry.get("deps", []) if dep["path"].startswith("out/code/")}  # fmt: skip
    settings = _settings(entries, scenario)
    return Result(
        name,
        scenario,
        commit,
        f"{chosen['method']}{of}, epoch {chosen['epoch']}",
        numbers,
        settings,
        data,
        code,
        packages,
    )


def _settings(entries: Mapping[str, dict[str, Any]], scenario: str) -> dict[str, Any]:
    """Returns the values of `params.yaml` that the entries depend on, the scenario's own under `scenario.`."""
    found: dict[str, Any] = {}
    for entry in entries.values():
        for section, values in entry.get("params", {}).get("params.yaml", {}).items():
            found |= _dotted(re.sub(rf"^scenarios\.{scenario}$", "scenario", section), values)
    return dict(sorted(found.items()))


def _dotted(key: str, values: Any) -> dict[str, Any]:
    if not isinstance(values, dict) or not values:
        return {key: values}
    return {name: value for k, v in values.items() for name, value in _dotted(f"{key}.{k}", v).items()}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _value(value: Any, what: str) -> str:
    return "-" if value is None else str(value)[:_SHOWN] if what == "data" else str(value)


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
