import shutil
from pathlib import Path

import pytest

from isthmus.registry.publish import Published, publish
from isthmus.registry.stores import open_store
from tests.registry.asked_project import fill
from tests.registry.project_files import build_project


@pytest.fixture(autouse=True)
def _no_store_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "ISTHMUS_PROMOTION_DB"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(build_project(tmp_path_factory.mktemp("built") / "project"))


@pytest.fixture
def project(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "project", symlinks=True))


@pytest.fixture(scope="session")
def published(built: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Published]:
    place = Path(shutil.copytree(built, tmp_path_factory.mktemp("published") / "project", symlinks=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return place, publish(place, "demo", "flow-7")


@pytest.fixture(scope="session")
def fresh_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fresh")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        open_store(place)
    return place / "mlflow.db"


@pytest.fixture
def empty(fresh_store: Path, tmp_path: Path) -> Path:
    shutil.copy(fresh_store, tmp_path / "mlflow.db")  # making the tables takes a second each time
    return tmp_path
