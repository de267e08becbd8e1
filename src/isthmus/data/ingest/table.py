"""A user's table of images (`images.csv`, `images.parquet`) -> files with what the user says of them."""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from isthmus.core import plugins
from isthmus.core.errors import DataError
from isthmus.data.audit.summary import Bad
from isthmus.data.csv_lines import Line, read_csv, stray_quote
from isthmus.data.ingest.boxed import TABLE_BOXES
from isthmus.data.ingest.walk import refusal, walk
from isthmus.data.names import nfc, printable, shown_name
from isthmus.data.scenario import Scenario

_COLUMNS = ("path", "domain", "label", "mask", "boxes", "image_b", "group", "split")
_SHOWN = 10  # lines in one message


class Found(NamedTuple):
    """One file as the user has it; nothing of it was opened yet.

    `label` is a class's name, `group` a lot, patient or scene, `split` the user's own, `mask` and `second` (the later
    image of two) files beside this one; each None when not given. `without_mask`: why the mask of a target image is not
    used; the image is.
    """

    path: str  # relative to the raw folder, with '/'
    domain: str
    label: str | None
    group: str | None
    split: str | None
    mask: str | None = None
    second: str | None = None
    without_mask: str = ""


class Listed(NamedTuple):
    """The lines of a table: files found, files refused without opening, lines of other domains.

    `beside`: masks and second images that the lines name, whether they are read or not.
    """

    found: list[Found]
    bad: list[Bad]
    elsewhere: int
    beside: set[str]


def from_table(raw: Path, table: Path, scenario: Scenario, where: str) -> Listed:
    """Returns the lines of the scenario's domains.

    Args:
        raw: the folder that paths are relative to.
        table: the CSV or parquet file.
        scenario: whose domains and classes are allowed.
        where: which scenario of `params.yaml` it is, for messages.

    Raises:
        DataError: columns are missing or lines are wrong: the first ten of them at once, with their numbers.
    """
    if scenario.target_labels == "folders":
        raise DataError(
            f"{table}: 'target_labels: folders' {where}, but a table defines the images."
            " Set 'target_labels: table' or 'none'"
        )
    columns, lines = _read(table)
    group = scenario.group or ("group" if "group" in columns else None)
    answers = scenario.annotation_config()
    one_file = answers.boxes and "boxes" not in columns and (raw / TABLE_BOXES).is_file()
    if one_file:
        columns = [*columns, "boxes"]
    needed = ["path", "domain", *answers.columns] + ([scenario.group] if scenario.group else [])
    if missing := [column for column in needed if column not in columns]:
        raise DataError(
            f"{table}: column {', '.join(missing)} is missing. There are: {', '.join(columns)}."
            f" Known: {', '.join(_COLUMNS)}"
        )
    reading = _Reading(raw, table, scenario, where, group)
    for line in lines:
        reading.take(line._replace(cells=line.cells | {"boxes": TABLE_BOXES}) if one_file else line)
    if reading.problems:
        more = len(reading.problems) - _SHOWN
        after = f"\n... and {more} more" if more > 0 else ""
        told = "\n".join(reading.problems[:_SHOWN])
        raise DataError(f"{told}{after}\nCorrect the table, then run 'dvc repro' again")
    return Listed(reading.found, reading.bad, reading.elsewhere, reading.beside)


def _read(table: Path) -> tuple[list[str], list[Line]]:
    if table.suffix != ".parquet":
        return read_csv(table)
    try:
        # nullable: beside an empty cell, pandas would make 1 a 1.0
        frame = pd.read_parquet(table, dtype_backend="numpy_nullable").astype("string").fillna("").astype(object)
    except (OSError, ValueError) as error:
        raise DataError(f"{table}: cannot be read ({error}). It must be parquet with columns {_COLUMNS}") from None
    columns = [str(column) for column in frame]
    rows = enumerate(frame.itertuples(index=False, name=None), 1)
    return columns, [Line(number, dict(zip(columns, map(str, cells), strict=True))) for number, cells in rows]


class _Reading:
    """Takes a table's lines one after another."""

    def __init__(self, raw: Path, table: Path, scenario: Scenario, where: str, group: str | None) -> None:
        self.found: list[Found] = []
        self.bad: list[Bad] = []
        self.problems: list[str] = []
        self.elsewhere = 0
        self.beside: set[str] = set()
        self._raw, self._table, self._scenario, self._where, self._group = raw, table, scenario, where, group
        self._answers = scenario.annotation_config()
        self._line = "row" if table.suffix == ".parquet" else "line"
        self._seen: dict[str, int] = {}

    def take(self, line: Line) -> None:
        """Takes one line: into `found`, `bad` or `problems`, or none of them where its domain is another scenario's."""
        if problems := list(self._domain_problems(line)):
            self.problems += problems
            return
        if (domain := self._domain(line)) not in self._scenario.domains:
            self.elsewhere += 1
            return
        written, cells = line.cells["path"], line.cells
        answers, keeps = self._answers, self._keeps_label(domain)
        entry = Found(
            self._on_disk(str(PurePosixPath(written))) if written else "",
            domain,
            (self._label(cells["label"]) or None) if answers.labelled and keeps else None,
            (nfc(cells[self._group]).strip() or None) if self._group else None,
            cells.get("split", "").strip() or None,
            self._beside(cells.get(answers.noun, "")) if answers.by_place and keeps else None,
            self._beside(cells["image_b"]) if answers.second else None,
        )
        if problem := self._problem(entry, line):
            self.problems.append(problem)
            return
        self._seen[nfc(entry.path)] = line.number
        self.beside |= {path for name in ("mask", "boxes", "image_b") if (path := self._beside(cells.get(name, "")))}
        no_second = f"its second image: {why}" if entry.second and (why := self._refused(entry.second)) else ""
        no_mask = f"its {answers.noun}: {why}" if entry.mask and (why := self._refused(entry.mask)) else ""
        target = domain == self._scenario.target
        if reason := self._refused(entry.path) or no_second or ("" if target else no_mask):
            self.bad.append(Bad(entry.path, entry.domain, reason))
        else:
            self.found.append(entry._replace(mask=None, without_mask=no_mask) if no_mask else entry)

    def _keeps_label(self, domain: str) -> bool:
        return domain != self._scenario.target or self._scenario.target_labels == "table"

    def _beside(self, written: str) -> str | None:
        return self._on_disk(str(PurePosixPath(written.strip()))) if written.strip() else None

    def _domain(self, line: Line) -> str:
        written = nfc(line.cells["domain"])
        return written if written in self._scenario.domains else written.strip()

    def _label(self, written: str) -> str:
        label = nfc(written)
        label = label if label in self._scenario.classes else label.strip()
        return self._answers.class_of(label, self._scenario.classes) if label else ""

    def _domain_problems(self, line: Line) -> Iterator[str]:
        domain = self._domain(line)
        alike = [d for d in self._scenario.domains if d.casefold() == domain.casefold() and d != domain]
        if "\n" in domain:
            yield stray_quote(self._table, line.number, domain)
        elif not domain:
            yield f"{self._at(line)}: domain is empty. Allowed: {', '.join(self._scenario.domains)}"
        elif alike:
            yield f"{self._at(line)}: domain '{printable(domain)}'. Did you mean '{alike[0]}'?"

    def _problem(self, entry: Found, line: Line) -> str:
        scenario, written, target = self._scenario, line.cells["path"], entry.domain == self._scenario.target
        here = shown_name(entry.path, scenario.kind, "this line")
        splits = ("train", "test") if target else ("train", "val", "cal", "test")
        at = self._at(line)
        for column, given in (("path", written), (self._answers.noun, entry.mask), ("image_b", entry.second)):
            if given is not None and _leaves(given):
                shown = shown_name(given, scenario.kind, "of this line")
                return (
                    f"{at}: {column} '{shown}' leaves the raw folder. Allowed: paths relative to it, with '/' and"
                    " without '..'"
                )
        for cell in (entry.path if not _is_there(self._raw / entry.path) else "", entry.label, entry.split):
            if cell and re.search(r"[\r\n]", cell) and cell not in scenario.classes:
                return stray_quote(self._table, line.number, cell)
        if (before := self._seen.get(nfc(entry.path))) is not None:
            return f"{at}: path '{here}' is named twice, first in {self._line} {before}. Keep one line a file"
        if entry.label is not None and entry.label not in scenario.classes:
            hint = plugins.did_you_mean(entry.label, scenario.classes)
            label = shown_name(entry.label, scenario.kind, "of this line")
            return (
                f"{at}: label '{label}' of {here} is not among 'classes' {self._where}.{hint}"
                f" Allowed: {', '.join(scenario.classes)}"
            )
        if self._answers.second and entry.second is None:
            return f"{at}: image_b of {here} is empty. Every example needs a second image"
        if self._answers.cells and entry.mask is None and not target:
            return f"{at}: {self._answers.noun} of {here} is empty. Every source image needs one"
        if self._answers.labelled and entry.label is None and not target:
            return f"{at}: label of {here} is empty. Every source image needs one of: {', '.join(scenario.classes)}"
        if entry.split is not None and entry.split not in splits:
            split = shown_name(entry.split, scenario.kind, "of this line")
            return f"{at}: split '{split}' of {here}. Allowed in '{entry.domain}': {', '.join(splits)}, or empty"
        return ""

    def _at(self, line: Line) -> str:
        return f"{self._table}: {self._line} {line.number}"

    def _on_disk(self, path: str) -> str:
        """Returns how a path is spelt on the disk: accents composed or apart, whichever the table has."""
        if path.isascii() or _is_there(self._raw / path):
            return path
        return self._spellings.get(nfc(path), path)

    @cached_property
    def _spellings(self) -> dict[str, str]:
        seen = walk(self._raw)
        return {nfc(path): path for path in (*seen.files, *seen.refused)}

    def _refused(self, path: str) -> str:
        here = self._raw
        for name in PurePosixPath(path).parts[:-1]:
            here = here / name
            try:
                linked = here.is_symlink()
            except OSError:  # no path can be so long
                break
            if linked:
                return refusal(here)
        there = self._raw / path
        if not _is_there(there):
            return f"named in {self._table.name} but not there"
        return refusal(there)


def _leaves(written: str) -> bool:
    pure = PurePosixPath(written)
    return not written or pure.is_absolute() or ".." in pure.parts or "\\" in written or "\0" in written


def _is_there(path: Path) -> bool:
    """Returns whether something lies at a path, be it a broken link; False where no path can be so long."""
    try:
        path.lstat()
    except (OSError, ValueError):
        return False
    return True
