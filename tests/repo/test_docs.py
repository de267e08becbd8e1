"""The front matter against the tree."""

import re
import tomllib

import pytest

from tests.repo import REPOSITORY

PAGES = sorted((REPOSITORY / "docs" / "decisions").glob("*.md"))
NUMBERS = [page.name[:4] for page in PAGES]
SOURCE = REPOSITORY / "src" / "isthmus"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_decision_has_a_status_and_what_supersedes_it_exists(page) -> None:
    found = re.findall(r"^Status: (accepted|superseded by (\d{4}))\.$", page.read_text(), re.MULTILINE)

    assert len(found) == 1
    assert found[0][1] in ("", *NUMBERS)
    assert found[0][1] != page.name[:4]


def test_no_two_decisions_have_the_same_number() -> None:
    assert len(set(NUMBERS)) == len(NUMBERS) > 20


def test_the_map_of_rooms_names_every_folder_of_the_source_and_no_other() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    section = text[text.index("## Map of the rooms") : text.index("## Where a new thing goes")]
    named = re.findall(r"^\| `([a-z_/]+)` \|", section, re.MULTILINE)

    rooms = {path.parent.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("__init__.py")} - {"."}

    assert sorted(named) == sorted(rooms)


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/glossary.md"])
def test_links_inside_the_repository_lead_somewhere(page: str) -> None:
    path = REPOSITORY / page
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()) if not link.startswith("http")]

    assert links
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_make_goal_and_test_file_that_contributing_names_exists() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    makefile = (REPOSITORY / "Makefile").read_text()

    goals, files = set(re.findall(r"`make ([a-z-]+)`", text)), set(re.findall(r"`(tests/[\w/*]+\.py)`", text))

    assert {"check", "test", "install-dev"} <= goals
    assert all(re.search(rf"^{goal}:", makefile, re.MULTILINE) for goal in goals)
    assert len(files) > 5
    assert [name for name in files if not list(REPOSITORY.glob(name))] == []


def test_the_licence_is_the_one_that_the_package_declares() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    text = (REPOSITORY / "LICENSE").read_text()

    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "Copyright 2026 Isthmus contributors" in text
    assert "9. Accepting Warranty or Additional Liability." in text


def test_every_entry_of_the_log_has_its_day() -> None:
    headings = re.findall(r"^## (.*)$", (REPOSITORY / "docs" / "log.md").read_text(), re.MULTILINE)

    assert headings
    assert [heading for heading in headings if not re.search(r"\(\d{4}-\d{2}-\d{2}[;)]", heading)] == []
