"""The whole line where answers are boxes: raw files, every stage, registry, gate, promotion, prediction."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from benchmarks import boxes
from isthmus.core.files import read_json
from isthmus.data.manifest import INDEX, LOCATIONS, read_table
from isthmus.evaluation.boxes import predicted_boxes
from isthmus.evaluation.scoring.boxes import Detections
from isthmus.evaluation.selection.ensemble import open_compared
from isthmus.gates.scored import read_answers, read_scored
from isthmus.monitoring.watch import watch
from isthmus.registry.gate.decision import gate
from isthmus.registry.gate.score import score
from isthmus.registry.promotion.promotion import promote
from isthmus.registry.publish.publish import publish
from isthmus.registry.store.stores import open_store
from isthmus.serving.predict import predict
from isthmus.training import extents
from tests.mask_project import CLASSES, SIDE, build_project, record, run_stages

# no accuracy is asked for, which random features have not
GATES = {"no_negative_transfer": {"margin": 1.0}, "loads_alone": {}, "compatible": {}, "source_kept": {"margin": 1.0}}


def pipelines_boxes(project: Path) -> dict[str, Detections]:
    """Returns file -> boxes that the chosen model gave it in the pipeline."""
    out = project / "out" / "demo"
    choice, index = read_json(out / "choice.json"), read_table(out / "prepared" / "index.parquet", INDEX)
    chosen = choice["chosen"]
    run = open_compared(out / "train", choice, CLASSES, len(index))[chosen["method"]]
    found = predicted_boxes(run, chosen["seed"], chosen["epoch"], np.arange(len(index)), SIDE)
    paths = read_table(out / "locations.parquet", LOCATIONS).set_index("image_id")["path"]
    return {paths[image_id]: one for image_id, one in zip(index["image_id"], found, strict=True)}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose stages have run; extents train for few steps, since the tests check no accuracy."""
    project = build_project(tmp_path_factory.mktemp("detection") / "project", "detection")
    params = yaml.safe_load((project / "params.yaml").read_text()) | {"gates": GATES}
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extents, "_STEPS", 20)
        return run_stages(project)


@pytest.mark.slow  # every stage once
def test_boxes_go_through_every_stage_to_truth_page_and_card(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = project / "out" / "demo"

    truth, page = read_json(out / "truth.json"), (out / "report" / "report.html").read_text()
    assert (truth["metric"], truth["count"], truth["boxes"]) == ("ap50", 4, 4)
    assert set(truth["methods"]) >= {"source_only", "mmd", "domain_randomisation"}
    assert "AP50 on the target test split" in page and "worst image 1 with its boxes" in page
    assert "Find objects of these classes" in (out / "report" / "model_card.md").read_text()
    chosen, scores = truth["methods"][truth["chosen"]], read_json(out / "scores.json")
    assert (scores["target"], scores["ap"]) == tuple(round(chosen[name]["mean"], 4) for name in ("ap50", "ap"))
    assert "blob,missed," in (out / "plots" / "confusion.csv").read_text()
    trained = out / "train" / "mmd" / "seeds" / "0" / "epochs"
    assert np.load(next(trained.glob("*.extents.npy"))).shape == (22 * 9, 4)
    monkeypatch.setattr(boxes, "STEPS", 10)
    (folder,) = boxes.finished(project)
    told = boxes.report([boxes.result_of(folder, boxes.on_target(project, folder))])
    assert "| demo | 4 |" in told and f"{truth['methods']['mmd']['ap50']['mean']:.3f} / " in told


@pytest.mark.slow
@pytest.mark.soak
def test_a_model_of_boxes_is_promoted_and_served_as_the_pipeline_evaluated_it(project: Path, tmp_path: Path) -> None:
    record(project)

    version = publish(project, "demo").version
    score(project, "demo")
    decision = gate(project, "demo")
    assert decision.verdict == "yes", decision.reasons
    promote(project, "demo")
    assert open_store(project).aliases("isthmus-demo")["champion"] == version
    folder = next((project / ".isthmus" / "evidence").glob("m-*"))
    assert read_scored(folder, "").metric == "ap50"
    candidate = read_answers(folder, "candidate")
    assert candidate.matches is not None and candidate.matches.true_boxes[:, 1].tolist() == [1] * 6

    night = project / "data" / "raw" / "demo" / "images" / "night"
    done = predict(project, "demo@champion", [night], tmp_path / "answers.parquet", tmp_path / "kept.jsonl")
    rows, expected = pd.read_parquet(tmp_path / "answers.parquet"), pipelines_boxes(project)
    coco = json.loads((tmp_path / "answers.parquet.boxes.json").read_text())
    assert (done.count, done.exit_status, len(coco["images"])) == (10, 0, 10)
    assert coco["categories"] == [{"id": 1, "name": "blob"}]
    for row, image in zip(rows.itertuples(), coco["images"], strict=True):
        answer, own = json.loads(row.boxes), expected[f"images/night/{Path(row.path).name}"]
        np.testing.assert_allclose([box["box"] for box in answer], own.corners, atol=1e-3)
        np.testing.assert_allclose([box["score"] for box in answer], own.scores, atol=1e-5)
        assert row.count_blob == sum(box["score"] >= row.threshold for box in answer)
        listed = [entry for entry in coco["annotations"] if entry["image_id"] == image["id"]]
        assert image["file_name"] == row.path and (image["width"], image["height"]) == (SIDE, SIDE)
        left, top, right, bottom = answer[0]["box"]
        np.testing.assert_allclose(listed[0]["bbox"], [left, top, right - left, bottom - top], atol=1e-3)
        assert len(listed) == len(answer)
    watched = watch(project, "demo", tmp_path / "kept.jsonl")
    assert watched.drift.images == 10 and watched.as_json()["classes"] == {"blob": rows["count_blob"].mean()}
