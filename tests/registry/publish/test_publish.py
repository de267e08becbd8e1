import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.core.errors import StoreError
from isthmus.core.files import read_json
from isthmus.registry.publish.publish import find_published, publish
from isthmus.registry.store.stores import open_store
from isthmus.registry.store.tracking import PART
from tests.registry.project_files import VERDICT, git, set_truth, truth

pytestmark = pytest.mark.slow
PARTS = {"scenario", *(f"{method}/{seed}" for method in ("coral", "source_only") for seed in (0, 1, 2))}

# Publishes and is killed at one step: before or after the n-th call of one of the store's methods.
KILLED = """
import os, signal, sys
from pathlib import Path
from isthmus.registry.publish.publish import publish
from isthmus.registry.store.tracking import Store
project, method, call, when = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
real, count = getattr(Store, method), 0
def killed(self, *arguments, **named):
    global count
    count += 1
    if count == call and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(self, *arguments, **named)
    if count == call:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(Store, method, killed)
publish(project, "demo")
"""


def test_a_run_for_the_scenario_has_one_child_a_method_and_seed_with_curves_and_params(published):
    project, found = published
    client = open_store(project)._client
    runs = client.search_runs([client.get_run(found.run).info.experiment_id])
    children = {r.data.tags[PART]: r for r in runs if r.data.tags.get("mlflow.parentRunId") == found.run}

    assert {run.data.tags[PART] for run in runs} == PARTS
    assert set(children) == PARTS - {"scenario"}
    assert {run.info.status for run in runs} == {"FINISHED"}
    child = children["coral/1"]
    assert [children[f"{m}/1"].data.metrics["target"] for m in ("coral", "source_only")] == [0.8, 0.5]
    assert "balanced accuracy 0.8000" in child.data.tags["mlflow.note.content"]
    assert child.data.params["seed"] == "1"
    assert child.data.params["model.backbone.name"] == "small_cnn"
    losses = client.get_metric_history(child.info.run_id, "loss_total")
    assert [(m.step, m.value) for m in losses] == [(e, pytest.approx(1 / e)) for e in (1, 2, 3, 4)]


def test_the_parent_has_choice_final_numbers_and_every_origin(published):
    project, found = published
    run = open_store(project)._client.get_run(found.run)

    assert run.data.params["chosen.method"] == "coral"
    assert run.info.run_name == "demo: coral"
    assert run.data.metrics == {"target": 0.8, "source_only": 0.5, "gain": 0.3}
    assert run.data.tags["isthmus.verdict"] == VERDICT["label"] and run.data.tags["isthmus.target"] == "line_b"
    note = run.data.tags["mlflow.note.content"]
    assert "**coral is better.** By 30 points." in note and "| gain | 0.3000 | target - source_only" in note
    assert run.data.tags["isthmus.snapshot"] == found.snapshot == git(project, "rev-parse", "HEAD")
    assert run.data.tags["isthmus.flow_run_id"] == "flow-7"
    assert run.data.tags["isthmus.lock_key"] == found.key


def test_datasets_bear_the_md5_of_dvc(published):
    project, found = published
    inputs = open_store(project)._client.get_run(found.run).inputs.dataset_inputs
    lineage, _, _ = find_published(project, "demo")

    seen = {i.dataset.name: (i.dataset.digest, i.tags[0].value) for i in inputs}

    assert seen == {
        "demo/line_a": (lineage.raw[1], "source"),
        "demo/line_b": (lineage.raw[1], "target"),
        "demo/prepared": (lineage.md5_of(project / "out/demo/prepared"), "prepared"),
    }


def test_artifacts_hold_report_results_params_lock_and_the_whole_lineage(published, tmp_path):
    project, found = published
    client = open_store(project)._client
    names = {item.path for item in client.list_artifacts(found.run)}

    assert names == {
        "report",
        "plots",
        "scores.json",
        "choice.json",
        "truth.json",
        "trust.json",
        "metrics.json",
        "manifest.parquet",
        "index.parquet",
        "params.yaml",
        "requirements.lock",
        "lineage.json",
    }
    lineage = json.loads(Path(client.download_artifacts(found.run, "lineage.json", str(tmp_path))).read_text())
    assert lineage["lock_entries"]["train@demo-coral"]["outs"][0]["path"] == "out/demo/train/coral"
    assert lineage["snapshot"] == found.snapshot
    assert lineage["classes"] == {"class_0": "crack", "class_1": "dent", "class_2": "good"}


def test_the_pictures_of_tables_with_rows_are_png(published, tmp_path):
    project, found = published
    client = open_store(project)._client

    folder = Path(client.download_artifacts(found.run, "plots", str(tmp_path)))

    assert {path.name for path in folder.iterdir()} == {"confusion.png", "curves.png", "leaderboard.png"}
    assert {path.read_bytes()[:4] for path in folder.iterdir()} == {b"\x89PNG"}


def test_model_and_version_are_described_and_have_the_scores(published):
    project, found = published
    client = open_store(project)._client
    registered, version = client.get_registered_model(found.model), client.get_model_version(found.model, found.version)
    model = client.get_logged_model(found.model_id)

    assert registered.description.startswith("Sort images.") and registered.tags["isthmus.task"] == "classification"
    assert "**coral is better.**" in version.description and version.tags["isthmus.verdict"] == VERDICT["label"]
    assert {metric.key: metric.value for metric in model.metrics} == {"target": 0.8, "source_only": 0.5, "gain": 0.3}
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": found.model, "version": int(found.version)}]
    assert client.get_experiment_by_name(found.model).tags["mlflow.experimentKind"] == "custom_model_development"


def test_publishing_again_logs_nothing_and_keeps_the_version(published):
    project, found = published

    again = publish(project, "demo")

    assert (found.new, again.new) == (True, False)
    assert (again.version, again.run, again.model_id) == (found.version, found.run, found.model_id)
    assert _counts(project) == (len(PARTS), 1, 1)


def test_publishing_leaves_the_environment_and_the_working_folder_alone(published, tmp_path, monkeypatch):
    copy = Path(shutil.copytree(published[0], tmp_path / "copy", symlinks=True))
    set_truth(copy, truth(0.7, 0.5))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    before = dict(os.environ)

    publish(copy, "demo")

    assert dict(os.environ) == before
    assert list(Path.cwd().iterdir()) == []


def test_uncommitted_changes_are_recorded_and_other_results_are_a_new_version(published, tmp_path, capsys):
    project, first = published[0], published[1]
    copy = Path(shutil.copytree(project, tmp_path / "copy", symlinks=True))
    set_truth(copy, truth(0.7, 0.5))
    (copy / "notes.txt").write_text("an untracked file")
    (copy / "prefect.yaml").write_text("name: demo")

    second = publish(copy, "demo")

    assert second.key != first.key
    assert git(copy, "show", f"{second.snapshot}:prefect.yaml") == "name: demo"
    assert "notes.txt" not in git(copy, "ls-tree", "--name-only", second.snapshot)
    assert "snapshot: untracked files that are not in it: 1 (notes.txt)" in capsys.readouterr().err
    assert open_store(copy).aliases("isthmus-demo")["candidate"] == second.version


def test_a_store_that_was_deleted_is_filled_again(published, tmp_path):
    copy = Path(shutil.copytree(published[0], tmp_path / "copy", symlinks=True))
    (copy / "mlflow.db").unlink()

    with pytest.raises(StoreError, match=r"demo: its results are not in sqlite:///.*Run 'isthmus publish demo'"):
        find_published(copy, "demo")
    assert publish(copy, "demo").new
    assert _counts(copy) == (len(PARTS), 1, 1)


def test_a_store_without_these_results_is_named_without_its_password(published, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")

    with pytest.raises(StoreError, match=r"its results are not in http://\*\*\*@127.0.0.1:9. Run") as raised:
        find_published(published[0], "demo")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("method", "call", "when"),
    [
        ("start_run", 3, "after"),  # the run is there, the record does not know it
        *(
            pytest.param(*step, marks=pytest.mark.soak)  # 20 s each
            for step in (
                ("log", 2, "after"),
                ("create_model", 1, "before"),
                ("create_model", 1, "after"),
                ("write_model", 1, "before"),
                ("write_model", 1, "after"),
                ("register", 1, "after"),
            )
        ),
    ],
)
def test_a_killed_publication_is_finished_by_the_next_without_duplicates(project, method, call, when):
    command = [sys.executable, "-c", KILLED, str(project), method, str(call), when]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -9

    found = publish(project, "demo")

    assert _counts(project) == (len(PARTS), 1, 1)
    assert found.version == open_store(project).aliases("isthmus-demo")["candidate"] == "1"
    assert open_store(project).model_is_ready(found.model_id)
    client = open_store(project)._client
    runs = client.search_runs([client.get_run(found.run).info.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {len(client.get_metric_history(r.info.run_id, "loss_total")) for r in runs} == {0, 4}


def test_a_record_that_is_not_ours_is_named(project):
    publish(project, "demo")
    record = next((project / ".isthmus" / "published").glob("*.json"))
    record.write_text(json.dumps(read_json(record) | {"colour": "red"}))

    with pytest.raises(StoreError, match=r"published/.*\.json: not a record of this version. Delete it"):
        publish(project, "demo")


def _counts(project: Path) -> tuple[int, int, int]:
    client = open_store(project)._client
    experiment = client.get_experiment_by_name("isthmus-demo").experiment_id
    versions = client.search_model_versions("name = 'isthmus-demo'")
    return len(client.search_runs([experiment])), len(client.search_logged_models([experiment])), len(versions)
