"""Fixtures of all tests that need a project, a store or a server; heavy packages are imported when one is asked for."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.registry.project_files import build_project, commit, git
from tests.servers import database_address, psql, running_mlflow, running_postgres

if TYPE_CHECKING:
    from isthmus.registry.publish.publish import Published


@pytest.fixture(autouse=True)
def _no_store_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "ISTHMUS_PROMOTION_DB"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.registry.asked_project import fill

    return fill(build_project(tmp_path_factory.mktemp("built") / "project"))


@pytest.fixture
def project(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "project", symlinks=True))


@pytest.fixture(scope="session")
def published(built: Path, tmp_path_factory: pytest.TempPathFactory) -> "tuple[Path, Published]":
    from isthmus.registry.publish.publish import publish

    place = Path(shutil.copytree(built, tmp_path_factory.mktemp("published") / "project", symlinks=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return place, publish(place, "demo", "flow-7")


@pytest.fixture(scope="session")
def fresh_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from isthmus.registry.store.stores import open_store

    place = tmp_path_factory.mktemp("fresh")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        open_store(place, make=True)
    return place / "mlflow.db"


@pytest.fixture(scope="session")
def postgres() -> Iterator[int]:
    with running_postgres("CREATE DATABASE mlflow;") as port:
        yield port


@pytest.fixture(scope="session")
def server(postgres: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_mlflow(tmp_path_factory.mktemp("server"), database_address(postgres, "mlflow")) as address:
        yield address


@pytest.fixture
def record_database(postgres: int) -> str:
    name = f"promotions_{uuid.uuid4().hex}"
    psql(postgres, "postgres", f"CREATE DATABASE {name}")
    return database_address(postgres, name)


@pytest.fixture
def use_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Makes the server on Postgres the store of this test, with nothing registered and a new record."""

    def use() -> str:
        import mlflow

        address: str = request.getfixturevalue("server")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("ISTHMUS_PROMOTION_DB", request.getfixturevalue("record_database"))
        client = mlflow.MlflowClient(address, address)
        for model in client.search_registered_models():
            client.delete_registered_model(model.name)
        return address

    return use


@pytest.fixture(scope="session")
def bare_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with one commit; without DVC, of which promotion would ask for its remotes each time."""
    place = tmp_path_factory.mktemp("bare")
    git(place, "init", "-q")
    (place / ".gitignore").write_text("*.db*\nmlartifacts\n.isthmus\n")
    (place / "params.yaml").write_text("gates: {absolute_floor: {}}\n")
    commit(place)
    return place


@pytest.fixture
def empty_project(bare_project: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bare_project, tmp_path / "project"))


@pytest.fixture
def empty_files(fresh_store: Path, empty_project: Path) -> Path:
    """A project with nothing registered in a store of files."""
    shutil.copy(fresh_store, empty_project / "mlflow.db")  # making the tables takes a second each time
    return empty_project


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=[pytest.mark.slow, pytest.mark.soak])])
def empty(request: pytest.FixtureRequest) -> Path:
    """A project with nothing registered, on each of the two stores."""
    if request.param == "sqlite":
        return Path(request.getfixturevalue("empty_files"))
    request.getfixturevalue("use_server")()
    return Path(request.getfixturevalue("empty_project"))
