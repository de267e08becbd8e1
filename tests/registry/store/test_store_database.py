"""A store in Postgres that is spoken to directly, without MLflow's server between."""

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.store.tracking.dbmodels.initial_models import Base
from sqlalchemy import create_engine

from isthmus.core.errors import StoreError
from isthmus.registry.store.stores import open_store
from tests.registry.store.test_stores import OPEN
from tests.servers import free_port, psql

pytestmark = pytest.mark.slow
TABLES = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"


@pytest.fixture
def project(tmp_path: Path, record_database: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", record_database)
    return tmp_path


@pytest.mark.soak
def test_to_ask_makes_no_tables_and_four_publishers_at_once_make_what_is_missing_once(
    project: Path, postgres: int, record_database: str
) -> None:
    database = record_database.rpartition("/")[2]
    with pytest.raises(StoreError, match=r"isthmus:\*\*\*@.*: no such store: nothing was published to it"):
        open_store(project)
    assert psql(postgres, database, TABLES) == "0"

    engine = create_engine(record_database)
    Base.metadata.create_all(engine)  # what a kill leaves: Postgres takes back the rest, which is one transaction
    engine.dispose()
    command = [sys.executable, "-c", OPEN, str(project)]
    children = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]

    assert [(child.communicate()[1], child.returncode) for child in children] == [("", 0)] * 4
    assert open_store(project).versions() == []
    assert list(project.iterdir()) == []
    psql(postgres, database, "INSERT INTO registered_models (name, workspace) VALUES ('demo', 'default')")
    psql(postgres, database, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(
        StoreError, match=r"its tables are of another MLflow \(revision ffffffffffff\). The database's administrator"
    ):
        open_store(project, make=True)


def test_a_database_that_is_out_of_reach_and_an_address_that_is_none_are_told_without_a_password(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://ada:secret@127.0.0.1:{free_port()}/none")
    with pytest.raises(StoreError, match=r"the MLflow store postgresql://ada:\*\*\*@.* cannot be reached") as raised:
        open_store(project)
    assert "secret" not in str(raised.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://ada:secret@127.0.0.1:port/none")
    with pytest.raises(StoreError, match=r"MLFLOW_TRACKING_URI: not an address .*Allowed: sqlite:///PATH") as raised:
        open_store(project)
    assert "secret" not in str(raised.value)
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://ada@127.0.0.1/none")
    with pytest.raises(StoreError, match=r"names a database that needs 'psycopg2': .*pip install -e '\.\[postgres\]'"):
        open_store(project)
