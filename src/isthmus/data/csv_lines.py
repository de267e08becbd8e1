"""A CSV file -> its lines with their numbers. Nothing is guessed: what would lose or shift a cell is refused."""

import csv
import io
import os
import re
from pathlib import Path
from typing import NamedTuple

from isthmus.core.errors import DataError

_SEPARATORS = {";": "';'", "\t": "tabs", "|": "'|'"}
_SAVE = "Save it as 'CSV UTF-8', with ',' between the fields"


class Line(NamedTuple):
    """One record: the number of its first line in the file, from 1, and column -> cell."""

    number: int
    cells: dict[str, str]


def read_csv(table: Path, any_dialect: bool = False) -> tuple[list[str], list[Line]]:
    """Returns the columns and the records.

    Args:
        table: the file.
        any_dialect: takes ';', tabs, UTF-16 and Windows' Latin letters too; else they are refused with what to do.

    Raises:
        DataError: the file cannot be read, or a line is not what a table's line is; with the line's number.
    """
    text, separator = _text(table, any_dialect), ","
    first, _, rest = text.partition("\n")
    if found := re.fullmatch(r"sep=(.)\r?", first):  # how Excel is told
        separator, text = found.group(1), rest
        first = text.partition("\n")[0]
    elif "," not in first:
        separator = next((sign for sign in _SEPARATORS if sign in first), ",")
    if separator != "," and not any_dialect:
        raise DataError(f"{table}: fields are separated by {_SEPARATORS.get(separator, separator)}. {_SAVE}")
    skipped = 1 if found else 0
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    columns: list[str] = []
    lines: list[Line] = []
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(_quote(table, start + skipped, str(error))) from None
        if cells is None:
            return columns, lines
        if not any(cells):
            continue
        if not columns:
            columns = [cell.strip() for cell in cells]
            if twice := sorted({c for c in columns if c and columns.count(c) > 1}):
                raise DataError(f"{table}: column {', '.join(twice)} appears twice. Rename or remove one")
            continue
        if len(cells) < len(columns) or any(cells[len(columns) :]):
            if reader.line_num > start:
                raise DataError(_quote(table, start + skipped, f"it runs to line {reader.line_num + skipped}"))
            raise DataError(
                f"{table}: line {start + skipped}: {len(cells)} fields where the header has {len(columns)}. Put a field"
                " that holds ',' or a quote into quotes, and double a quote in it"
            )
        lines.append(Line(start + skipped, dict(zip(columns, cells, strict=False))))


def _quote(table: Path, line: int, what: str) -> str:
    return (
        f"{table}: line {line}: a field begins with a quote that is not closed correctly ({what}). Remove the"
        ' stray quote, or put the field into quotes and double each quote in it: "3"" plate"'
    )


def stray_quote(table: Path, line: int, cell: str) -> str:
    """Returns what to say of a cell that holds line ends and is nothing that is known."""
    return _quote(table, line, f"it runs over {len(cell.splitlines())} lines")


def _text(table: Path, any_dialect: bool) -> str:
    try:
        data = table.read_bytes()
    except OSError as error:
        raise DataError(f"{table}: cannot be read ({error.strerror})") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        if not any_dialect:
            raise DataError(f"{table}: is UTF-16, as Excel's 'Unicode text'. {_SAVE}")
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if any_dialect:
            return data.decode("cp1252", "replace")
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{table}: line {line}: is not UTF-8 (byte 0x{data[error.start]:02x}): probably Windows-1252 or Latin-1."
            f" {_SAVE}{'' if os.name == 'nt' else f', or run: iconv -f WINDOWS-1252 -t UTF-8 {table.name} > utf8.csv'}"
        ) from None
