import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.core.errors import StoreError
from isthmus.registry.publish.run_contents import flat, numbered, numbers
from isthmus.registry.store.stores import open_store
from isthmus.registry.store.tracking import PART, PUBLICATION, DatasetRecord, Point

OPEN = """
import sys, pathlib
from isthmus.registry.store.stores import open_store
open_store(pathlib.Path(sys.argv[1]), make=True)
"""


@pytest.fixture(scope="module")
def store(fresh_store, tmp_path_factory):
    place = tmp_path_factory.mktemp("store")
    shutil.copy(fresh_store, place)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return open_store(place)


def test_the_default_store_lies_in_the_project_and_so_do_its_artifacts(store):
    experiment = store.experiment("demo")
    run = store.start_run(experiment, "one", 1000, {})

    assert store.file is not None
    assert store.file.name == "mlflow.db"
    store.log_file(run, Path(__file__), "tests")
    assert (store.file.parent / "mlartifacts/demo" / run / "artifacts/tests/test_stores.py").is_file()


def test_numbers_and_options_by_class_are_logged_whatever_classes_and_domains_are_called(store):
    classes = [
        "Corn_(maize)___healthy",
        "R&D",
        "50% worn",
        "a/../b",
        "\U0001f44d\U0001f3fd",
        "\u0915\u094d\u0937",
        "x" * 255,
    ]
    run = store.start_run(store.experiment("odd"), "one", 1000, {})
    truth = {"class_shift": {"coral": {name: {"mmd2": k / 10} for k, name in enumerate(classes)}}, "count": 3}
    config = {"model": {"class_shares": dict.fromkeys(classes, 0.1)}}

    points = [Point(key, value, 0) for key, value in numbers(numbered({"truth": truth}, classes)).items()]
    store.log(run, 1000, flat(numbered(config, classes)), points)
    store.log_datasets(
        run, [DatasetRecord(f"demo/{name}", "0" * 32, "raw", {"classes": classes}, "source") for name in classes]
    )

    seen = store._client.get_run(run)
    assert seen.data.metrics["truth.class_shift.coral.class_2.mmd2"] == 0.2
    assert seen.data.metrics["truth.count"] == 3
    assert seen.data.params["model.class_shares.class_6"] == "0.1"
    assert {d.dataset.name for d in seen.inputs.dataset_inputs} == {f"demo/{name}" for name in classes}


def test_logging_the_same_again_adds_nothing(store):
    experiment = store.experiment("again")
    run = store.start_run(experiment, "one", 1000, {})
    record = DatasetRecord("demo/line_a", "0" * 32 + ".dir", "data/raw/demo", {"images": 3}, "source")

    for _ in range(2):
        store.log(run, 1000, {"method": "coral"}, [Point("loss", 1 / step, step) for step in range(1, 1500)])
        store.log_datasets(run, [record])

    seen = store._client.get_run(run)
    assert len(store._client.get_metric_history(run, "loss")) == 1499
    assert [(d.dataset.digest, d.tags[0].value) for d in seen.inputs.dataset_inputs] == [("0" * 32 + ".dir", "source")]


def test_runs_of_a_publication_are_found_by_its_tag_alone(store):
    experiment = store.experiment("tags")
    ours = store.start_run(experiment, "one", 1000, {PUBLICATION: "key", PART: "coral/0"})
    store.start_run(experiment, "one", 1000, {PUBLICATION: "other", PART: "coral/0"})

    assert store.runs_of(experiment, "key") == {"coral/0": ours}


def test_what_is_not_there_is_no_error(store):
    assert not store.has_run("0" * 32)
    assert not store.model_is_ready("m-" + "0" * 32)
    assert store.model_of("isthmus-none", "1") is None
    assert store.aliases("isthmus-none") == {}


def test_a_refusal_of_the_store_is_a_clear_error(store):
    with pytest.raises(StoreError, match=r"the MLflow store sqlite:///.* refused or did not answer: .*0000"):
        store.log("0" * 32, 1000, {"a": "1"}, [])


def test_a_file_store_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")

    with pytest.raises(StoreError, match=r"MLFLOW_TRACKING_URI: './mlruns' is a file store.*Allowed: sqlite:///PATH"):
        open_store(tmp_path)


def test_a_path_that_an_address_cannot_hold_is_refused(tmp_path):
    (tmp_path / "what?").mkdir()

    with pytest.raises(StoreError, match=r"a '\?' in the path of a store would begin its options. Rename the folder"):
        open_store(tmp_path / "what?", make=True)
    assert list((tmp_path / "what?").iterdir()) == []


def test_a_server_that_is_down_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    with pytest.raises(StoreError, match=r"the MLflow store http://\*\*\*@127.0.0.1:9 .*MLFLOW_TRACKING_URI") as raised:
        open_store(tmp_path).experiment("demo")
    assert "secret" not in str(raised.value)


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to look like a file with a header" * 20)

    with pytest.raises(StoreError, match=r"mlflow.db: the store cannot be used \(.*not a database.*\). Nothing is"):
        open_store(tmp_path)


@pytest.mark.slow
def test_processes_at_once_can_open_a_fresh_store(tmp_path):
    children = [
        subprocess.Popen([sys.executable, "-c", OPEN, str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]

    assert [(child.communicate()[1], child.returncode) for child in children] == [("", 0)] * 2
