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
)  # a test of these can take a minute


@pytest.fixture(autouse=True)
def _no_plugins_of_another_test() -> Iterator[None]:
    """A command or stage that runs in the tests' own process makes its project's plugins known to all of it."""
    yield
    plugins.use(None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest first, so that no worker is left alone with one at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))
