"""The order of the tests, and the fixtures that several folders share."""

import gc
from collections.abc import Iterator
from typing import Any

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


def pytest_collection_finish() -> None:
    """Spares the garbage collector what imports and collection left: 6% of the tests' processor time."""
    gc.collect()
    gc.freeze()


class Slow:
    """What `make fast` leaves out: tests, or files whose fixtures, took longer than LIMIT when all were last run.

    Without such a record, tests of the folders in LONGEST. A run that leaves tests out records nothing: who runs first
    in a process pays for the imports of the others.
    """

    LIMIT = 0.1  # [s]
    _KEY = "isthmus/slow"

    def __init__(self, config: pytest.Config) -> None:
        self._records = "slow" not in config.option.markexpr and not hasattr(config, "workerinput")
        self._cache = getattr(config, "cache", None)  # none with `-p no:cacheprovider`
        self._last: list[str] = self._cache.get(self._KEY, []) if self._cache else []
        self._found: dict[str, bool] = {}

    def __contains__(self, item: pytest.Item) -> bool:
        if not self._last:
            return item.nodeid.startswith(LONGEST)
        return item.nodeid in self._last or item.nodeid.partition("::")[0] in self._last

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notes how long a step of a test took."""
        name = report.nodeid if report.when == "call" else report.nodeid.partition("::")[0]
        self._found[name] = self._found.get(name, False) or report.duration > self.LIMIT

    def pytest_sessionfinish(self) -> None:
        """Keeps what was noted, and of tests that did not run what was noted before."""
        if self._records and self._cache:
            kept = [name for name in self._last if name not in self._found]
            self._cache.set(self._KEY, sorted([*kept, *(name for name, slow in self._found.items() if slow)]))


@pytest.hookimpl(trylast=True)  # after pytest's cache
def pytest_configure(config: pytest.Config) -> None:
    """Has slow tests noted."""
    config.pluginmanager.register(Slow(config), "slow")


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts the longest first, so that no worker is left alone with one at the end; `make fast` leaves slow ones out."""
    slow: Any = config.pluginmanager.get_plugin("slow")
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))
    for item in items:
        if item in slow:
            item.add_marker("slow")
