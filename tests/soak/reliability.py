"""Writes docs/reliability.md: each campaign owns one section of it and replaces the rows of what it ran."""

from pathlib import Path

from benchmarks.sections import write_section as write_between_marks

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
_HEAD = """# Reliability

What the campaigns in `tests/soak` found when they last ran. `make soak` runs all of them and writes this page: each
section between two marks belongs to one campaign.
"""


def write_section(title: str, table: str, page: Path = PAGE) -> None:
    """Replaces the section of this title, or adds it at the end of the page."""
    if not page.exists():
        page.write_text(_HEAD, encoding="utf-8")
    write_between_marks(page, title, f"## {title}\n\n{table}")


def rows_of(title: str, page: Path = PAGE) -> dict[str, str]:
    """Returns first cell -> row of the table in a section, so that a run of a part of it keeps the other rows."""
    if not page.exists():
        return {}
    _, _, rest = page.read_text(encoding="utf-8").partition(f"<!-- {title} -->")
    section, _, _ = rest.partition(f"<!-- end of {title} -->")
    rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
    return {row.split("|")[1].strip(): row for row in rows}
