"""Puts what a script measured between two marks of a Markdown file; the rest of the file stays as it is."""

from collections.abc import Sequence
from pathlib import Path


def write_section(document: Path, name: str, text: str, *, keep_rows: bool = False) -> None:
    """Replaces what stands between `<!-- NAME -->` and `<!-- end of NAME -->`; without marks, adds them at the end.

    Args:
        document: the Markdown file.
        name: of the section.
        text: what stands there then.
        keep_rows: rows of a table that has all columns of the new one stay, where none of the new ones has their first
            cell; what a new row has no column for is empty.
    """
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before = document.read_text(encoding="utf-8") if document.exists() else ""
    if keep_rows and start in before:
        text = _with_rows_of(text, before.partition(start)[2].partition(end)[0])
    if start not in before:
        before = f"{before.rstrip()}\n\n{start}\n{end}\n".lstrip()
    head, _, rest = before.partition(start)
    _, _, tail = rest.partition(end)
    document.write_text(f"{head}{start}\n\n{text.strip()}\n\n{end}{tail}", encoding="utf-8")


def _with_rows_of(text: str, old: str) -> str:
    """Returns a text whose last table has the rows of an old one too, by their first cells; see `write_section`."""
    lines, before = text.strip().splitlines(), old.strip().splitlines()
    first = next((n for n, line in enumerate(lines) if line.startswith("| ---")), 0)
    head = _cells(lines[first - 1]) if first else []
    heads = [
        n for n, line in enumerate(before) if head and _cells(line)[:1] == head[:1] and set(head) <= {*_cells(line)}
    ]
    if not heads:
        return text
    columns = _cells(before[heads[0]])
    new = [dict(zip(head, _cells(row), strict=True)) for row in lines[first + 1 :]]
    rows = [[row.get(column, "") for column in columns] for row in new]
    firsts = {row[0] for row in rows}
    old_rows = [_cells(row) for row in before[heads[0] + 2 :] if row.startswith("|")]
    kept = [row for row in old_rows if row[0] not in firsts]
    return "\n".join([*lines[: first - 1], table(columns, *sorted([*kept, *rows], key=lambda row: row[0]))])


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")] if row.startswith("|") else []


def table(*rows: Sequence[object]) -> str:
    """Returns rows of cells as Markdown, the first one the head.

    >>> print(table(("method", "score"), ("mcc", 0.9)))
    | method | score |
    | --- | --- |
    | mcc | 0.9 |
    """
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "| --- " * len(rows[0]) + "|", *lines[1:]])
