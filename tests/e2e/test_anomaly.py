"""The whole line where images are good or defective: folders of good ones, every stage, registry, gate, prediction."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from isthmus.core.files import read_json
from isthmus.data.manifest import LOCATIONS, read_table
from isthmus.registry.gate.decision import gate
from isthmus.registry.gate.score import score
from isthmus.registry.promotion.promotion import promote
from isthmus.registry.publish.publish import publish
from isthmus.serving.predict import predict
from tests.mask_project import SIDE, build_project, record, run_stages

pytestmark = pytest.mark.slow

GATES = {"no_negative_transfer": {"margin": 1.0}, "loads_alone": {}, "compatible": {}, "retrievable": {}}
GATES["source_kept"] = {"margin": 1.0}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = build_project(tmp_path_factory.mktemp("anomaly") / "project", "anomaly")
    params = yaml.safe_load((made / "params.yaml").read_text()) | {"gates": GATES}
    (made / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return record(run_stages(made))


def test_methods_are_compared_by_auroc_and_those_that_train_are_left_out(project: Path) -> None:
    out = project / "out" / "demo"
    truth, choice = read_json(out / "truth.json"), read_json(out / "choice.json")

    assert choice["left_out"] == ["mmd"] and choice["chosen"]["method"] == "target_memory"
    assert read_json(out / "train" / "mmd" / "run.json")["left_out"].startswith("it trains a model")
    assert set(truth["methods"]) == {"source_only", "target_memory"} and truth["metric"] == "auroc"
    assert truth["methods"]["target_memory"]["auroc"]["mean"] > 0.9
    found = truth["anomaly"]
    assert found["false_alarms"] == 0.2 and found["good"] + found["defective"] == truth["count"]
    assert found["with_mask"] == found["defective"] > 0
    rate = found["methods"]["target_memory"]["false_alarm_rate"]
    assert rate["low"] <= 0.2 and rate["low"] < rate["high"]
    assert found["methods"]["target_memory"]["pixel_auroc"] > 0.9
    scores = read_json(out / "scores.json")
    assert scores["target"] == round(truth["methods"]["target_memory"]["auroc"]["mean"], 4)
    assert scores["false_alarms"] == round(rate["mean"], 4) and {"found", "gain_low", "source_only"} <= set(scores)


def test_page_and_card_show_false_alarms_and_where_defects_are(project: Path) -> None:
    report = project / "out" / "demo" / "report"
    page, card = (report / "report.html").read_text(), read_json(report / "model_card.json")

    assert "False alarms and defects found" in page and "map of defects" in page
    assert "AUROC on the target test split" in page and "mmd" not in card["choice"]["why"]
    assert card["target"]["anomaly"]["promised"] == 0.2
    assert "| false alarms, 20.0% promised |" in (report / "model_card.md").read_text()


@pytest.mark.parametrize(
    ("left_out", "words"),
    [
        (
            "hole",
            "labelled target test images are good: .* raise an alarm .*Whether defects are found is not known, nor",
        ),
        (
            "good",
            "labelled target test images are defective: .* raise an alarm .*How often good ones raise an alarm is",
        ),
    ],
)
def test_labels_of_one_kind_say_how_often_it_alarms(left_out: str, words: str, tmp_path: Path) -> None:
    other = build_project(tmp_path / "project", "anomaly")
    shutil.rmtree(other / "data" / "raw" / "demo" / "night" / left_out)

    run_stages(other)

    page = (other / "out" / "demo" / "report" / "report.html").read_text()
    screen = page.split('id="verdict"')[1].split('id="domains"')[0]
    assert re.search(words, screen), screen
    assert "has no labels" not in screen and "no target test image has a label" not in screen


def test_answers_of_unlabelled_target_images_change_nothing_that_is_learnt(project: Path, tmp_path: Path) -> None:
    other = build_project(tmp_path / "project", "anomaly")
    night = other / "data" / "raw" / "demo" / "night"
    swapped = sorted((night / "good").iterdir())[:5], sorted((night / "hole").iterdir())[:5]
    for here, name in ((swapped[0], "hole"), (swapped[1], "good")):
        for path in here:
            path.rename(night / name / path.name)

    run_stages(other, "select")

    for name in ("manifest.parquet", "choice.json", "train/target_memory/run.json"):
        assert (other / "out" / "demo" / name).read_bytes() == (project / "out" / "demo" / name).read_bytes(), name
    weights = "train/target_memory/seeds/0/epochs/001"
    for end in ("safetensors", "logits.npy", "maps.npy"):
        path = f"out/demo/{weights}.{end}"
        assert (other / path).read_bytes() == (project / path).read_bytes(), end


def test_a_detector_is_promoted_and_answers_as_the_pipeline_did(project: Path, tmp_path: Path) -> None:
    publish(project, "demo")
    score(project, "demo")
    decision = gate(project, "demo")
    assert decision.verdict == "yes", decision.reasons
    promote(project, "demo")

    night = project / "data" / "raw" / "demo" / "night"
    done = predict(project, "demo@champion", [night / "hole", night / "good"], tmp_path / "answers.parquet")
    rows = pd.read_parquet(tmp_path / "answers.parquet")
    out = project / "out" / "demo"
    places = read_table(out / "locations.parquet", LOCATIONS).set_index("path")["image_id"]
    predicted = pd.read_parquet(out / "predictions.parquet").set_index("image_id")
    logits = np.load(out / "train/target_memory/seeds/0/epochs/001.logits.npy")[:, 1]
    order = {image_id: row for row, image_id in enumerate(predicted.index)}
    assert (done.count, done.exit_status) == (36, 0)
    compared = 0
    for row in rows.itertuples():
        image_id = places[str(Path(row.path).relative_to(project / "data" / "raw" / "demo"))]
        assert (row.score > 0) == (row._asdict()["class_"] == "hole" if hasattr(row, "class_") else row[2] == "hole")
        mask = np.asarray(Image.open(row.map))
        assert mask.shape == (SIDE, SIDE) and set(np.unique(mask)) <= {0, 1, 255}
        if predicted.loc[image_id, "split"] == "test":  # a training image is compared with itself when it is served
            assert row.score == pytest.approx(logits[order[image_id]], abs=1e-4)
            compared += 1
    assert compared > 0
