"""The documentation's site: it builds without a warning, asks no other host for anything, and names all there is."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from isthmus.contracts import BASES
from isthmus.core import plugins
from isthmus.listing import FOLDERS
from isthmus.schema import schema
from tests.repo import REPOSITORY

pytestmark = pytest.mark.slow

# what a browser fetches by itself: tag -> attribute
FETCHED = {
    "script": "src",
    "link": "href",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "object": "data",
}


class Fetched(HTMLParser):
    """Collects what a page makes the browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name == FETCHED.get(tag) and value]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_COLOR", "1")
        build(load_config(str(REPOSITORY / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


def test_no_page_fetches_anything_from_another_host(site: Path) -> None:
    pages, fetched = list(site.rglob("*.html")), Fetched()
    for page in pages:
        fetched.feed(page.read_text())
    styles = re.findall(r"(?:url\(|@import)[\s\"']*([^\"')]+)", "".join(p.read_text() for p in site.rglob("*.css")))

    assert len(pages) > 40 and len(fetched.found) > 100 and styles
    assert [place for place in (*fetched.found, *styles) if re.match(r"(\w+:)?//", place)] == []
    # for a diagram the theme's script fetches a package from another host
    assert [page.name for page in pages if 'class="mermaid"' in page.read_text()] == []


def test_every_setting_has_its_row_with_type_and_meaning(site: Path) -> None:
    text = (site / "reference/settings.html").read_text()
    rows = re.findall(r"<tr>\s*<td><code>([^<]+)</code></td>\s*" + 4 * r"<td>(.*?)</td>\s*" + "</tr>", text, re.DOTALL)

    named = {name.rpartition(".")[2] for name, *_ in rows}
    found: dict[str, Any] = schema()
    plugin_keys = {name for what in ("methods", "gates", "pairs") for name in found["$defs"][what]["properties"]}
    options = {name for part in found["$defs"].values() for name in part.get("properties", {})} - plugin_keys
    assert len(options) > 150 and options - named == {"splits", "files", "estimate"}  # sections, named by their options
    assert [name for name, type_, _, _, meaning in rows if not (type_ and meaning)] == []
    assert ("hours", "number &gt; 0", "h", "<code>24.0</code>") in [row[:4] for row in rows]
    headings = re.findall(r"<h2 id=[^>]*>([\w.]+)<", text)
    assert {heading.removesuffix(".NAME") for heading in headings} == set(found["properties"])


def test_what_plugins_derive_from_and_are_given_is_on_a_page(site: Path) -> None:
    text = (site / "reference/interfaces.html").read_text()

    one_part = {folder: names for folder, names in BASES.items() if "tasks" not in folder and len(names) == 1}
    for names in one_part.values():
        for base in names.values():
            if "guards" not in base and "answers" not in base:
                assert f'id="{base.rpartition(".")[2].lower()}"' in text, base
    assert "<code>target_index</code>: int64 <code>[T]</code>" in text
    assert "<code>losses(model: Model, batch: Batch, progress: float) -&gt; dict[str, Tensor]</code>" in text


def test_every_command_plugin_and_exit_status_is_named(site: Path) -> None:
    commands, shipped, statuses = (
        (site / f"reference/{page}.html").read_text() for page in ("commands", "plugins", "statuses")
    )

    assert "--max-megapixels &lt;int range&gt;" in commands and "Usage: isthmus lr-range [OPTIONS]" in commands
    for folder in FOLDERS.values():
        assert [name for name in plugins.shipped_names(folder) if f"<td><code>{name}</code></td>" not in shipped] == []
    assert re.findall(r"<td>(\d)</td>", statuses) == ["1", "1", "2", "2", "2", "2", "2", "3", "4"]
    assert "<td>0 yes, 3 no, 4 a person must decide.</td>" in statuses
