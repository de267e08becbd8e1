"""One record of runs and one server of Prefect's for all tests here: making the tables anew costs ten seconds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import running_prefect


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record of flows that bring Prefect's temporary server up themselves, as a user's first run does."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def prefect_record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the server that stays up keeps its record of runs."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def prefect_api(prefect_record: Path) -> Iterator[str]:
    """The address of a server that stays up: a flow ends in half the time where how it starts is not what is tested."""
    with running_prefect(prefect_record) as address:
        yield address
