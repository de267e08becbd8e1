"""The order of the tests, and the fixtures that several folders share."""

from collections.abc import Iterator

import pytest

from isthmus.core import plugins

pytest_plugins = ["tests.registry.fixtures"]

LONGEST = (
    "tests/pipelines/",
    "tests/e2e/",
    "tests/registry/",
    "tests/serving/",
    "tests/monitoring/",
    "tests/stages/",
)  # their tests run stages, servers or stores; one can take a minute


@pytest.fixture(autouse=True)
def _no_plugins_of_another_test() -> Iterator[None]:
    """A command or stage that runs in the tests' own process makes its project's plugins known to all of it."""
    yield
    plugins.use(None)


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest first, so that no worker is left alone with one at the end; `make fast` leaves them out."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))
    for item in items:
        if item.nodeid.startswith(LONGEST):
            item.add_marker("slow")
