"""A table that somebody made beside images -> what it says of each of them.

Which column names the files is found by looking for the files themselves; which holds the classes, by its name. What
stays unclear is a question to the user, never a guess.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from isthmus.core.errors import DataError
from isthmus.data.csv_lines import Line, read_csv
from isthmus.data.names import nfc, shown_name

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("cal", "calib", "calibration"), "cal"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_LABELS = (
    "label", "labels", "class", "class_name", "classname", "class_label", "category", "target", "diagnosis", "dx", "y",
    "species", "defect", "disease", "finding", "ground_truth", "gt", "annotation",
)  # fmt: skip
_SPLIT_COLUMNS = ("split", "subset", "set", "partition", "usage")
_GROUPS = (
    "group", "patient", "patient_id", "patientid", "subject", "subject_id", "lot", "lot_id", "lesion_id", "scene",
    "scene_id", "slide", "slide_id", "case", "case_id", "batch_id", "wafer",
)  # fmt: skip
_LOOKED_AT = 500  # lines in which the column of files is looked for
_ENOUGH = 0.5  # [share] of them that must name a file


@dataclass(frozen=True)
class Said:
    """What a table says of one file; each None where it says nothing."""

    label: str | None
    split: str | None
    group: str | None


@dataclass(frozen=True)
class LabelTable:
    """One table that names images.

    Attributes:
        name: its path in the folder.
        said: path of an image -> what it says.
        columns: those of the files, labels, splits and groups; None where there is none.
        absent: lines that name missing files.
    """

    name: str
    said: dict[str, Said]
    columns: tuple[str, str | None, str | None, str | None]
    absent: int


def label_tables(
    folder: Path,
    tables: Iterable[str],
    files: Sequence[str],
    classes: Sequence[str] | None,
    group: str | None,
    kind: str,
) -> list[LabelTable]:
    """Returns the tables of a folder that name its images.

    Args:
        folder: where tables and images lie.
        tables: paths of tables, as `walk` found them.
        files: paths of the images.
        classes: those that are known; a column that holds them is the one of labels.
        group: column of what must not cross splits; None: the first with a usual name.
        kind: of the images, which decides what a message may contain.

    Raises:
        DataError: a table names the images but cannot be read whole, or it is not clear which column is which.
    """
    found = []
    for name in tables:
        columns, lines = _lines(folder / name)
        finder = _finder(files, name)
        column = _files_column(columns, lines, finder)
        if column is not None:
            found.append(_table(folder, name, columns, lines, column, finder, classes, group, kind))
    return found


def _lines(table: Path) -> tuple[list[str], list[Line]]:
    if table.suffix.casefold() != ".parquet":
        return read_csv(table, any_dialect=True)
    try:
        frame = pd.read_parquet(table).astype("string").fillna("").astype(object)
    except (OSError, ValueError):
        return [], []
    columns = [str(column) for column in frame]
    rows = enumerate(frame.itertuples(index=False, name=None), 1)
    return columns, [Line(number, dict(zip(columns, map(str, cells), strict=True))) for number, cells in rows]


def _finder(files: Sequence[str], table: str) -> Callable[[str], str | None]:
    """Returns a function from what a cell says to the path of a file, by path, name or name without its suffix."""
    exact = {nfc(path): path for path in files}
    short: dict[str, set[str]] = {}
    for path in files:
        name = nfc(PurePosixPath(path).name)
        for key in {name, name.rpartition(".")[0] or name}:
            short.setdefault(key, set()).add(path)
    beside = f"{table.rpartition('/')[0]}/".lstrip("/")

    def find(cell: str) -> str | None:
        written = nfc(cell.strip().replace("\\", "/")).removeprefix("./")
        if not written:
            return None
        for candidate in (written, f"{beside}{written}"):
            if candidate in exact:
                return exact[candidate]
        same = short.get(written.rpartition("/")[2], set())
        ends = [path for path in same if nfc(path).endswith(f"/{written}")] or list(same)
        return ends[0] if len(ends) == 1 else None

    return find


def _files_column(columns: list[str], lines: list[Line], find: Callable[[str], str | None]) -> str | None:
    looked = lines[:: max(1, len(lines) // _LOOKED_AT)]
    shares = {c: sum(find(line.cells[c]) is not None for line in looked) / max(len(looked), 1) for c in columns}
    best = max(shares, key=lambda c: shares[c], default=None)
    return best if best is not None and shares[best] >= _ENOUGH else None


def _table(
    folder: Path,
    name: str,
    columns: list[str],
    lines: list[Line],
    files: str,
    find: Callable[[str], str | None],
    classes: Sequence[str] | None,
    group: str | None,
    kind: str,
) -> LabelTable:
    rest = [column for column in columns if column and column != files]
    split = _named(rest, _SPLIT_COLUMNS)
    if split and not all(line.cells[split].strip().casefold() in {*SPLITS, ""} for line in lines):
        split = None
    together = (group if group in rest else None) or (_named(rest, _GROUPS) if group is None else None)
    label = _label_column(folder / name, [c for c in rest if c not in (split, together)], lines, classes)
    said: dict[str, Said] = {}
    first: dict[str, int] = {}
    absent = 0
    for line in lines:
        path = find(line.cells[files])
        if path is None:
            absent += 1
            continue
        cells = [nfc(line.cells[column].strip()) or None if column else None for column in (label, split, together)]
        entry = Said(cells[0], SPLITS[cells[1].casefold()] if cells[1] else None, cells[2])
        if said.setdefault(path, entry) != entry:
            shown = shown_name(path, kind, "a file")
            raise DataError(
                f"{folder / name}: lines {first[path]} and {line.number} give different values for {shown}. Keep"
                f" one line"
            )
        first.setdefault(path, line.number)
    return LabelTable(name, said, (files, label, split, together), absent)


def _named(columns: list[str], usual: Sequence[str]) -> str | None:
    low = {column.casefold().replace(" ", "_").replace("-", "_"): column for column in reversed(columns)}
    return next((low[name] for name in usual if name in low), None)


def _label_column(table: Path, columns: list[str], lines: list[Line], classes: Sequence[str] | None) -> str | None:
    if classes is not None:
        known = {name.casefold() for name in classes}
        held = {c: len({nfc(line.cells[c].strip()).casefold() for line in lines} & known) for c in columns}
        most = max(held.values(), default=0)
        best = [c for c in columns if most and held[c] == most]
        return _named(best, _LABELS) or next(iter(best), None) or _named(columns, _LABELS)
    if (column := _named(columns, _LABELS)) is not None:
        return column
    repeated = [c for c in columns if 1 < len({line.cells[c] for line in lines}) <= max(2, len(lines) // 2)]
    if len(repeated) > 1:
        raise DataError(
            f"{table}: names the images, but which column holds their classes? There are: {', '.join(repeated)}."
            " Rename that column to 'label', or name the classes with --classes"
        )
    return repeated[0] if repeated else None
