"""The order of the tests, and the fixtures that several folders share."""

import pytest

pytest_plugins = ["tests.registry.fixtures"]

LONGEST = (
    "tests/pipelines/",
    "tests/e2e/",
    "tests/registry/",
    "tests/serving/",
    "tests/monitoring/",
)  # a test of these can take a minute


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest first, so that no worker is left alone with one at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))
