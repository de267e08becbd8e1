"""A user's table of images (`images.csv`, `images.parquet`) -> files with what the user says of them."""

import csv
import io
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from isthmus.core import plugins
from isthmus.core.errors import DataError
from isthmus.data.links import REFUSED, is_foreign
from isthmus.data.scenario import Scenario

_COLUMNS = ("path", "domain", "label", "group", "split")
_SHOWN = 10  # lines in one message


class Found(NamedTuple):
    """One file as the user has it; nothing of it was opened yet.

    `label` is a class's name, `group` a lot, patient or scene, `split` the user's own; each None when not given.
    """

    path: str  # relative to the raw folder, with '/'
    domain: str
    label: str | None
    group: str | None
    split: str | None


class Bad(NamedTuple):
    """One file that is not used, and why."""

    path: str
    domain: str
    reason: str


def from_table(raw: Path, table: Path, scenario: Scenario, where: str) -> tuple[list[Found], list[Bad]]:
    """Returns the lines of the scenario's domains: files that are there, and files that are refused unopened.

    Args:
        raw: the folder that paths are relative to.
        table: the CSV or parquet file.
        scenario: whose domains and classes are allowed.
        where: which scenario of `params.yaml` it is, for messages.

    Raises:
        DataError: columns are missing or lines are wrong: the first ten of them at once.
    """
    if scenario.target_labels == "folders":
        raise DataError(
            f"{table}: 'target_labels: folders' {where}, but a table says what the images are."
            " Set 'target_labels: table' or 'none'"
        )
    frame = _read(table)
    group = scenario.group or ("group" if "group" in frame else None)
    needed = ["path", "domain", "label"] + ([scenario.group] if scenario.group else [])
    if missing := [column for column in needed if column not in frame]:
        raise DataError(
            f"{table}: column {', '.join(missing)} is missing. There are: {', '.join(map(str, frame))}."
            f" Known: {', '.join(_COLUMNS)}"
        )
    frame = frame[frame["domain"].isin(scenario.domains)]
    found, bad, problems = [], [], []
    seen: set[str] = set()
    for line in frame.to_dict("records"):
        path = str(PurePosixPath(line["path"]))
        keeps_label = line["domain"] != scenario.target or scenario.target_labels == "table"
        entry = Found(
            path,
            line["domain"],
            (line["label"] or None) if keeps_label else None,
            (line[group] or None) if group else None,
            (line.get("split") or None),
        )
        if problem := _line_problem(entry, line["path"], seen, scenario, where):
            problems.append(f"{table}: {problem}")
            continue
        seen.add(path)
        if refused := _refused(raw, path, table.name):
            bad.append(Bad(path, entry.domain, refused))
        else:
            found.append(entry)
    if problems:
        more = f"\n... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise DataError("\n".join(problems[:_SHOWN]) + more + "\nCorrect the table, then run 'dvc repro' again")
    return found, bad


def _read(table: Path) -> pd.DataFrame:
    try:
        if table.suffix == ".parquet":
            return pd.read_parquet(table).astype("string").fillna("").astype(object)
        rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig"))))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"{table}: cannot be read ({error}). It must be UTF-8 with columns {', '.join(_COLUMNS)}"
        ) from None
    return pd.DataFrame(rows).fillna("").astype(object)


def _line_problem(entry: Found, written: str, seen: set[str], scenario: Scenario, where: str) -> str:
    target = entry.domain == scenario.target
    splits = ("train", "test") if target else ("train", "val", "cal", "test")
    pure = PurePosixPath(written)
    if not written or pure.is_absolute() or ".." in pure.parts or "\\" in written or "\0" in written:
        return f"path '{written}' leaves the raw folder. Allowed: paths relative to it, with '/' and without '..'"
    if entry.path in seen:
        return f"path '{entry.path}' is named twice. Keep one line a file"
    if entry.label is not None and entry.label not in scenario.classes:
        hint = plugins.did_you_mean(entry.label, scenario.classes)
        return (
            f"label '{entry.label}' of {entry.path} is not among 'classes' {where}.{hint}"
            f" Allowed: {', '.join(scenario.classes)}"
        )
    if entry.label is None and not target:
        return f"label of {entry.path} is empty. Every source image needs one of: {', '.join(scenario.classes)}"
    if entry.split is not None and entry.split not in splits:
        return f"split '{entry.split}' of {entry.path}. Allowed in '{entry.domain}': {', '.join(splits)}, or empty"
    return ""


def _refused(raw: Path, path: str, table: str) -> str:
    here = raw
    for name in PurePosixPath(path).parts:
        here = here / name
        if is_foreign(here):
            return REFUSED
    return "" if here.is_file() else f"named in {table} but not there"
