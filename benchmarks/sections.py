"""Puts what a script measured between two marks of a Markdown file; the rest of the file is left as it is."""

from pathlib import Path


def write_section(document: Path, name: str, text: str) -> None:
    """Replaces what stands between `<!-- NAME -->` and `<!-- end of NAME -->`; without marks, adds them at the end."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before = document.read_text(encoding="utf-8") if document.exists() else ""
    if start not in before:
        before = f"{before.rstrip()}\n\n{start}\n{end}\n".lstrip()
    head, _, rest = before.partition(start)
    _, _, tail = rest.partition(end)
    document.write_text(f"{head}{start}\n\n{text.strip()}\n\n{end}{tail}", encoding="utf-8")
