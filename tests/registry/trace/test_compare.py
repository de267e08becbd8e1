"""Two results side by side: registered versions whose runs hold the files, and revisions whose `dvc.lock` does."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.core.errors import ConfigError, StoreError
from isthmus.core.files import md5_file, write_json
from isthmus.registry.publish.publish import CANDIDATE, model_name
from isthmus.registry.store.stores import open_store
from isthmus.registry.trace.compare import compare
from tests.registry.project_files import commit, dvc, git

MODEL = model_name("demo")


def lock(epochs: int, md5: str = "1", code: str = "1") -> dict[str, Any]:
    """Entries of `dvc.lock` that lead to the report of `demo`; the scenario's task is in the report's params."""
    params = {"models": {"vit": {"epochs": epochs}}, "train": {"seeds": [0, 1]}}
    entries = {
        "ingest": ("--raw 'data/raw/demo'", ["data/raw/demo"], ["manifest.parquet"], {}),
        "train": ("", ["out/demo/manifest.parquet", "out/code/train/mmd"], ["train/mmd"], params),
        "select": ("--choice out/demo/choice.json", ["out/demo/train"], ["choice.json"], {"methods": {"mmd": {}}}),
        "report": (
            "--scores out/demo/scores.json",
            ["out/demo/choice.json"],
            ["scores.json"],
            {"scenarios.demo": {"task": "segmentation"}},
        ),
    }
    return {
        f"{stage}@demo{'-mmd' if stage == 'train' else ''}": {
            "cmd": f"python -m x {words}",
            "deps": [{"path": path, "md5": code if "code" in path else md5 * 32} for path in deps],
            "outs": [{"path": f"out/demo/{path}", "md5": md5 * 32} for path in outs],
            "params": {"params.yaml": values},
        }
        for stage, (words, deps, outs, values) in entries.items()
    }


def add_version(project: Path, target: float, entries: dict[str, Any]) -> str:
    """Registers an empty model, whose run holds what a run of an older version held too."""
    store = open_store(project)
    run = store.start_run(store.experiment(MODEL), "test", 1000, {})
    row = {"mean_iou": {"mean": target}, "minus_source_only": {"mean": 0.1, "low": 0.0, "high": 0.2}}
    truth = {"available": True, "methods": {"mmd": row, "source_only": row}, "regret": {"mean": 0.0}}
    lineage = {"scenario": "demo", "git_commit": "c" * 40, "lock_entries": entries, "requirements_sha256": "p"}
    chosen = {"chosen": {"method": "mmd", "epoch": 5}, "ensemble": None}
    for name, values in (("truth", truth), ("lineage", lineage), ("choice", chosen), ("metrics", {})):
        write_json(project / f"{name}.json", values)
        store.log_file(run, project / f"{name}.json")
    version = store.register(MODEL, store.create_model(store.experiment(MODEL), run, MODEL, {}), run, {})
    store.set_alias(MODEL, CANDIDATE, version)
    return version


def test_versions_are_compared_by_scores_settings_data_and_code(empty_files: Path) -> None:
    add_version(empty_files, 0.5, lock(5))
    add_version(empty_files, 0.625, lock(20, md5="2", code="2"))

    found = compare(empty_files, "demo/1", "demo@candidate")

    lines = [line.split() for line in found.text().splitlines()]
    assert lines[0] == [f"{MODEL}/1", f"{MODEL}/2", "difference"]
    assert lines[1] == ["target", "0.5000", "0.6250", "+0.1250"]
    assert ["gain", "0.1000", "0.1000", "0"] in lines and ["models.vit.epochs", "5", "20"] in lines
    assert ["data/raw/demo", "1" * 8, "2" * 8] in lines
    assert "code: differs in train/mmd" in found.text() and "packages: the same" in found.text()
    told = found.as_json()
    assert told["settings"] == {"models.vit.epochs": (5, 20)} and told["second"]["scores"]["target"] == 0.625
    assert json.loads(json.dumps(told))["code"] == {"train/mmd": ["1", "2"]}


def test_a_version_compared_with_itself_differs_in_nothing(empty_files: Path) -> None:
    add_version(empty_files, 0.5, lock(5))

    text = compare(empty_files, MODEL + "/1", "models:/demo/1").text()

    assert "settings: the same\n" in text and "data: the same\n" in text and "code: the same\n" in text


@pytest.fixture
def revisions(empty_project: Path) -> Path:
    """A repository whose branch `before` and whose present state have results of `demo` in the cache."""
    project = empty_project
    dvc(project, "init", "-q")
    (project / "requirements.lock").write_text("torch==1\n")
    for name, target, epochs in (("before", 0.5, 5), ("now", 0.75, 10)):
        entries = lock(epochs) | {"train@demo-dropped": lock(99)["train@demo-mmd"]}
        entries["train@demo-dropped"]["outs"][0]["path"] = "out/demo/train/dropped"
        for stage, file, values in (
            ("select@demo", "choice", {"chosen": {"method": "mmd", "epoch": epochs}, "ensemble": None}),
            ("report@demo", "scores", {"target": target}),
        ):
            write_json(project / f"{file}.json", values)
            md5 = md5_file(project / f"{file}.json")
            entries[stage]["outs"][0]["md5"] = md5
            cached = project / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
            cached.parent.mkdir(parents=True, exist_ok=True)
            (project / f"{file}.json").rename(cached)
        (project / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": entries}))
        commit(project)
        git(project, "branch", name)
    return project


def test_revisions_are_compared_from_their_lock_and_the_cache(revisions: Path) -> None:
    git(revisions, "update-ref", "refs/exps/ab/abcdef/tried-it", "before")

    for first, second in (("before", "now"), ("tried-it", "workspace"), ("HEAD~1", "HEAD")):
        found = compare(revisions, first, second)

        assert (found.first.scores, found.second.scores) == ({"target": 0.5}, {"target": 0.75})
        assert found.differences("settings") == {"models.vit.epochs": (5, 10)}  # and nothing of the dropped method
        assert found.first.packages == found.second.packages != ""
    assert found.first.chosen == "mmd, epoch 5"


def test_what_cannot_be_compared_is_named_with_the_next_step(revisions: Path) -> None:
    with pytest.raises(ConfigError, match=r"'nothing' is no registered model \(there are: none\), no git revision and"):
        compare(revisions, "nothing", "now")
    with pytest.raises(StoreError, match=r"now: its dvc.lock has no report of scenario 'steel'. There are: demo"):
        compare(revisions, "now", "before", "steel")
    stages = yaml.safe_load((revisions / "dvc.lock").read_text())
    stages["stages"]["report@other"] = stages["stages"]["report@demo"]
    (revisions / "dvc.lock").write_text(yaml.safe_dump(stages))
    with pytest.raises(ConfigError, match=r"workspace: has results of demo, other. Name one: --scenario demo"):
        compare(revisions, "workspace", "workspace")
    stages["stages"]["report@demo"]["cmd"] = "python -m x"
    (revisions / "dvc.lock").write_text(yaml.safe_dump(stages))
    with pytest.raises(StoreError, match=r"workspace: was made before there was --scores in dvc.yaml"):
        compare(revisions, "workspace", "now", "demo")
    for file in (revisions / ".dvc" / "cache").rglob("??????????????????????????????"):
        file.unlink()
    with pytest.raises(StoreError, match=r"now: its out/demo/choice.json is not in DVC's cache .*--all-commits"):
        compare(revisions, "now", "before")
    git(revisions, "rm", "-q", "-f", "dvc.lock")
    commit(revisions)
    with pytest.raises(StoreError, match=r"HEAD: commit [0-9a-f]{8} has no dvc.lock, so no results. Commit dvc.lock"):
        compare(revisions, "HEAD", "now")
