"""Writes docs/reliability.md: each campaign owns one section of it, which a whole run of that campaign replaces."""

from pathlib import Path

from benchmarks.sections import write_section as write_between_marks

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
_HEAD = """# Reliability

What the campaigns in `tests/soak` found in their last whole run. `make soak` runs all of them and writes this page:
each section between two marks belongs to one campaign.
"""


def write_section(title: str, table: str, page: Path = PAGE) -> None:
    """Replaces the section of this title, or adds it at the end of the page."""
    if not page.exists():
        page.write_text(_HEAD, encoding="utf-8")
    write_between_marks(page, title, f"## {title}\n\n{table}")
