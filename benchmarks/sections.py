"""Puts what a script measured between two marks of a Markdown file; the rest of the file stays as it is."""

from collections.abc import Sequence
from pathlib import Path


def write_section(document: Path, name: str, text: str, *, keep_rows: bool = False) -> None:
    """Replaces what stands between `<!-- NAME -->` and `<!-- end of NAME -->`; without marks, adds them at the end.

    Args:
        document: the Markdown file.
        name: of the section.
        text: what stands there then.
        keep_rows: rows of a table with the same head stay, where none of the new ones has their first cell.
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
    if not first or lines[first - 1] not in before:
        return text
    rows, known = lines[first + 1 :], before[before.index(lines[first - 1]) + 2 :]
    named = {row.split("|")[1] for row in rows}
    rows += [row for row in known if row.startswith("|") and row.split("|")[1] not in named]
    return "\n".join([*lines[: first + 1], *sorted(rows, key=lambda row: row.split("|")[1])])


def table(*rows: Sequence[object]) -> str:
    """Returns rows of cells as Markdown, the first one the head.

    >>> print(table(("method", "score"), ("mcc", 0.9)))
    | method | score |
    | --- | --- |
    | mcc | 0.9 |
    """
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "| --- " * len(rows[0]) + "|", *lines[1:]])
