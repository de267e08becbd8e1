import shutil
import subprocess
import sys

import pytest
import yaml

from isthmus.core.errors import StoreError
from isthmus.core.files import sha256_file, write_json
from isthmus.data.labels.given import Given, write_given
from isthmus.data.manifest import MANIFEST, read_table
from isthmus.registry.lineage.lineage import ancestors, read_lineage, read_lock
from tests.registry.project_files import CLASSES, dvc, set_truth, truth


def test_the_report_rests_on_its_ancestors_and_on_nothing_else(project):
    lineage = read_lineage(project, "demo")

    stages = ["embed", "evaluate", "explain", "ingest", "labels", "prepare", "report", "robustness", "select", "shift"]
    trained = ["train@demo-coral", "train@demo-source_only"]
    assert list(lineage.entries) == [f"{stage}@demo" for stage in stages] + trained


def test_it_knows_raw_data_params_and_requirements_by_their_hashes(project):
    lineage = read_lineage(project, "demo")
    lock = yaml.safe_load((project / "dvc.lock").read_text())["stages"]

    assert lineage.raw == ("data/raw/demo", lock["ingest@demo"]["deps"][0]["md5"])
    assert lineage.raw[1].endswith(".dir")
    assert lineage.requirements_sha256 == sha256_file(project / "requirements.lock")
    assert len(lineage.params_md5) == 32
    assert (
        lineage.md5_of(project / "out/demo/prepared")
        == {out["path"]: out["md5"] for out in lock["prepare@demo"]["outs"]}["out/demo/prepared"]
    )


def test_paths_come_from_the_commands_in_the_lock(project):
    lineage = read_lineage(project, "demo")

    assert lineage.path("select", "choice") == project / "out/demo/choice.json"
    assert lineage.trained() == {m: project / "out/demo/train" / m for m in ("coral", "source_only")}


def test_a_flag_or_stage_that_is_not_there_is_named(project):
    lineage = read_lineage(project, "demo")

    with pytest.raises(StoreError, match=r"the command of 'select@demo' has no --chosen. Add it"):
        lineage.path("select", "chosen")
    with pytest.raises(StoreError, match=r"dvc.lock: no entry 'score@demo' leads to 'report@demo'"):
        lineage.path("score", "choice")


def test_other_results_have_another_key_and_the_same_results_the_same(project):
    first = read_lineage(project, "demo").key
    set_truth(project, truth(0.7, 0.5))
    second = read_lineage(project, "demo").key
    set_truth(project, truth(0.8, 0.5))

    assert read_lineage(project, "demo").key == first != second


def test_labels_of_another_scenario_change_no_key_and_those_of_this_one_do(project):
    first = read_lineage(project, "demo").key
    (project / "data/labels/other.csv").write_text("image_id,class,purpose,who,date\n")
    others = read_lineage(project, "demo").key  # before its stage has run again, too
    dvc(project, "commit", "-q", "-f", "labels@demo")
    (project / "out/demo/labels_measure.parquet").write_bytes(b"one label")
    dvc(project, "commit", "-q", "-f", "labels@demo", "evaluate@demo")

    assert others == first != read_lineage(project, "demo").key


def test_new_labels_of_this_scenario_make_its_results_stale(project):
    images = read_table(project / "out/demo/manifest.parquet", MANIFEST)
    image = images.loc[(images["domain"] == "line_b") & (images["split"] == "train"), "image_id"].iloc[0]
    given = Given(image, CLASSES[0], "measure", "a person", "2026-11-30")
    write_given(project / "data/labels/demo.csv", {image: given})

    with pytest.raises(StoreError, match=r"not up to date for 'report@demo' \(changed: labels@demo\)"):
        read_lineage(project, "demo")


def test_a_method_that_was_dropped_leaves_the_lineage_though_its_lock_entry_stays(project):
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["methods"] = {"source_only": {}}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.rmtree(project / "out/demo/train/coral")
    dvc(project, "commit", "-q", "-f")

    lineage = read_lineage(project, "demo")

    assert "train@demo-coral" in yaml.safe_load((project / "dvc.lock").read_text())["stages"]
    assert "train@demo-coral" not in lineage.entries


def test_ancestors_follow_folders_in_both_directions():
    lock = {
        "file": {"outs": [{"path": "a/prepared"}]},
        "inside": {"deps": [{"path": "a/prepared/facts.json"}], "outs": [{"path": "a/train/coral"}]},
        "folder": {"deps": [{"path": "a/train"}]},
        "like": {"outs": [{"path": "a/training"}]},
    }

    assert list(ancestors(lock, "folder")) == ["file", "folder", "inside"]


@pytest.mark.parametrize("change", ["params", "output", "raw"])
def test_stale_results_are_refused_with_the_stage_that_changed(project, change):
    if change == "params":
        text = (project / "params.yaml").read_text()
        (project / "params.yaml").write_text(text.replace("bootstrap: 200", "bootstrap: 300"))
    elif change == "output":
        write_json(project / "out/demo/truth.json", truth(0.99, 0.5))
    else:
        shutil.copy(project / "data/raw/demo/line_b/crack/one.png", project / "data/raw/demo/line_b/crack/two.png")
    stage = "ingest@demo" if change == "raw" else "evaluate@demo"

    with pytest.raises(StoreError, match=rf"not up to date for 'report@demo'.*{stage}.*Run 'dvc repro report@demo'"):
        read_lineage(project, "demo")


def test_a_lock_file_that_is_being_written_is_waited_for(project):
    """As beside a running `isthmus run`: dvc empties the file and writes it again, while it holds its lock."""
    text = (project / "dvc.lock").read_text()
    expected = read_lineage(project, "demo").key
    script = """
import fcntl, sys, time
from pathlib import Path
path, text = Path("dvc.lock"), Path("dvc.lock").read_text()
with open(".dvc/tmp/lock", "a") as lock:
    for _ in range(10):
        fcntl.flock(lock, fcntl.LOCK_EX)
        for share in (0, 0.3, 0.6, 1):
            path.write_text(text[:int(len(text) * share)])
            time.sleep(0.05)
        fcntl.flock(lock, fcntl.LOCK_UN)
        time.sleep(0.1)
"""
    writer = subprocess.Popen([sys.executable, "-c", script], cwd=project)

    keys = [read_lineage(project, "demo").key for _ in range(2)]

    assert writer.wait() == 0
    assert keys == [expected, expected]
    assert (project / "dvc.lock").read_text() == text


@pytest.mark.parametrize("text", ["", "stages:\n  report@demo: {cmd: [", "schema: '2.0'\n"])
def test_a_lock_file_that_stays_half_written_says_so(tmp_path, monkeypatch, text):
    monkeypatch.setattr("isthmus.registry.lineage.lineage._SECONDS_TO_WAIT", 0.3)
    (tmp_path / "dvc.lock").write_text(text)

    with pytest.raises(StoreError, match=r"dvc.lock: cannot be read \(.*\). Where 'isthmus run' or dvc is writing it"):
        read_lock(tmp_path)


def test_a_lock_file_with_conflict_markers_says_how_to_settle_it(tmp_path):
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\n<<<<<<< HEAD\nstages: {}\n=======\n>>>>>>> other\n")

    with pytest.raises(StoreError, match=r"git conflict markers .* 'git checkout --ours dvc\.lock' .* run 'dvc repro'"):
        read_lock(tmp_path)


def test_a_folder_that_is_no_project_says_so_and_nothing_is_written(tmp_path):
    with pytest.raises(
        StoreError, match=r"dvc.yaml: no such file: this folder is not a project.*in the project's root"
    ):
        read_lineage(tmp_path, "demo")
    assert list(tmp_path.iterdir()) == []


def test_missing_results_say_which_command_makes_them(project):
    (project / "dvc.lock").unlink()

    with pytest.raises(StoreError, match=r"dvc.lock: no such file.*Run 'dvc repro report@demo'"):
        read_lineage(project, "demo")


def test_an_unknown_scenario_is_named_with_those_that_are_there(project):
    with pytest.raises(StoreError, match=r"there is no scenario 'dmo'. There are: demo"):
        read_lineage(project, "dmo")


def test_a_failure_of_dvc_is_passed_on_with_its_words(project):
    (project / "dvc.yaml").write_text("stages: 3\n")

    with pytest.raises(StoreError, match=r"'dvc stage list --name-only' failed in"):
        read_lineage(project, "demo")
