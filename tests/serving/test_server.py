"""From results to a champion and back on both stores: SQLite with files, and MLflow's server on Postgres."""

import pytest

from isthmus.core.errors import StoreError
from isthmus.registry.gate.decision import gate
from isthmus.registry.promotion.promotion import promote, rollback
from isthmus.registry.publish.publish import publish
from isthmus.registry.store.stores import open_store
from tests.registry.project_files import set_truth, truth
from tests.registry.versions import record

pytestmark = pytest.mark.slow


# The parts of the pass on SQLite stand in test_publish.py and test_promotion.py: as a whole it is for the soak.
@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.soak), "postgres"])
def store_address(request, project):
    if request.param == "sqlite":
        return f"sqlite:///{project / 'mlflow.db'}"
    return request.getfixturevalue("use_server")()


def test_publish_gate_promote_and_rollback_work_on_both_stores(project, store_address):
    first = publish(project, "demo")

    assert (first.tracking_uri, first.version, first.new) == (store_address, "1", True)
    assert not publish(project, "demo").new
    assert gate(project, "demo").verdict == "yes"
    assert promote(project, "demo").champion == "1"
    set_truth(project, truth(0.9, 0.5))
    assert publish(project, "demo").version == "2"
    assert gate(project, "demo").expected_champion == "1"
    done = promote(project, "demo")
    assert (done.champion, done.previous) == ("2", "1")
    back = rollback(project, "demo")
    assert (back.champion, back.previous) == ("1", "2")
    assert open_store(project).aliases("isthmus-demo") == {"candidate": "2", "champion": "1", "previous": "2"}
    assert [row[1:] for row in record(project)] == [
        ("promote", None, "1", "done"),
        ("promote", "1", "2", "done"),
        ("rollback", "2", "1", "done"),
    ]
    assert (project / "mlflow.db").exists() == store_address.startswith("sqlite")


def test_a_server_without_a_shared_record_is_refused(project, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)

    with pytest.raises(StoreError, match=r"ISTHMUS_PROMOTION_DB is not set, and the store http://127.* is a server"):
        promote(project, "demo")
