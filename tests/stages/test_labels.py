"""The stage `labels` and what `evaluate` makes of its measuring part: no label serves what it was not given for."""

from pathlib import Path

import numpy as np
import pytest

from isthmus.core.files import read_json
from isthmus.data.labels.given import GIVEN_LABELS, Given, drawing_order, pool_of, write_given
from isthmus.data.manifest import MANIFEST, read_table, write_table
from isthmus.evaluation.confidence.measured import wilson
from isthmus.stages import labels
from isthmus.stages._cli import stage
from tests.scenario_files import CLASSES, ScenarioFiles, sharpen, write_scenario
from tests.stages.test_evaluate import chosen, judge


@pytest.fixture
def files(tmp_path: Path) -> ScenarioFiles:
    return write_scenario(tmp_path, {"source_only": 0.5, "coral": 0.9}, target_labels="none")


def part(files: ScenarioFiles) -> None:
    names = {"params": files.params, "scenario": "demo", "labels": files.root / "labels", "manifest": files.manifest}
    names |= {"measure": files.labels_measure, "train": files.labels_train}
    stage(labels.run, [word for name, value in names.items() for word in (f"--{name}", str(value))])


def give(files: ScenarioFiles, purposes: dict[str, str], truth: dict[str, str]) -> None:
    given = {i: Given(i, truth.get(i, "dent"), p, "Ann", "2026-01-02") for i, p in purposes.items()}  # type: ignore[arg-type]
    write_given(files.root / "labels" / "demo.csv", given)


def test_without_labels_both_parts_are_empty(files: ScenarioFiles) -> None:
    part(files)

    assert len(read_table(files.labels_measure, GIVEN_LABELS)) == 0
    assert len(read_table(files.labels_train, GIVEN_LABELS)) == 0


def test_the_measured_part_is_counted_by_hand_and_labels_for_training_change_nothing_in_it(
    files: ScenarioFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    sharpen(files, "coral")
    one_group_each(files)
    order = drawing_order(pool_of(read_table(files.manifest, MANIFEST), "line_b"))
    measured, trained = order[:20], order[20:40]
    logits = _shipped_logits(files)
    ids = list(read_table(files.manifest, MANIFEST)["image_id"])
    shown = {i: CLASSES[int(logits[ids.index(i)].argmax())] for i in order}
    truth = {i: name for n, (i, name) in enumerate(shown.items()) if n >= 3}  # the rest is "dent"
    right = sum(truth.get(i, "dent") == shown[i] for i in measured)
    purposes = dict.fromkeys(measured, "measure") | dict.fromkeys(trained, "train")
    give(files, purposes | {"f" * 32: "train"}, truth)
    part(files)

    said = judge(chosen(files))[0]

    assert "20 for measuring, 20 for training; 1 are of images that are no longer in" in capsys.readouterr().err
    found = said["measured"]
    assert said["available"] is False
    assert (found["count"], found["skipped"], found["pool"]) == (20, 0, len(order) - 20)  # what was trained on is apart
    assert found["methods"]["coral"]["right"] == right
    assert found["methods"]["coral"]["low"] == wilson(right, 20, len(order) - 20).low
    assert set(found["methods"]) == {"coral", "source_only"}

    give(files, dict.fromkeys(measured, "measure"), truth)  # without those for training
    part(files)
    assert judge(files)[0]["measured"]["methods"]["coral"]["right"] == right


def test_labels_of_a_group_that_has_a_measured_image_are_not_trained_on(
    files: ScenarioFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    one_group_each(files, {0: "patient", 1: "patient"})
    order = drawing_order(pool_of(read_table(files.manifest, MANIFEST), "line_b"))
    give(files, {order[0]: "measure", order[1]: "train", order[2]: "train"}, {})

    part(files)

    assert read_table(files.labels_train, GIVEN_LABELS)["image_id"].tolist() == [order[2]]
    assert "1 for measuring, 1 for training; 1 are not trained on, for their groups" in capsys.readouterr().err


def test_labels_for_training_alone_measure_nothing(files: ScenarioFiles) -> None:
    sharpen(files, "coral")
    give(files, dict.fromkeys(pool_of(read_table(files.manifest, MANIFEST), "line_b"), "train"), {})
    part(files)

    assert judge(chosen(files))[0] == {"available": False}


def test_an_image_of_the_test_split_is_in_neither_part(files: ScenarioFiles) -> None:
    rows = read_table(files.manifest, MANIFEST)
    test = rows.loc[(rows["domain"] == "line_b") & (rows["split"] == "test"), "image_id"]
    give(files, {i: ("measure", "train")[n % 2] for n, i in enumerate(test)}, {})

    part(files)

    assert len(read_table(files.labels_measure, GIVEN_LABELS)) == 0
    assert len(read_table(files.labels_train, GIVEN_LABELS)) == 0


def one_group_each(files: ScenarioFiles, of_drawn: dict[int, str] | None = None) -> None:
    """Gives each image a group of its own, but those at these places of the drawing order."""
    rows = read_table(files.manifest, MANIFEST)
    order = drawing_order(pool_of(rows, "line_b"))
    named = {order[place]: group for place, group in (of_drawn or {}).items()}
    rows["group"] = [named.get(image_id, image_id) for image_id in rows["image_id"]]
    write_table(files.manifest, rows, MANIFEST)


def _shipped_logits(files: ScenarioFiles) -> np.ndarray:
    made = chosen(files).root / "choice.json"
    epoch = read_json(made)["epochs"]["coral"]
    return np.load(files.trained / "coral" / "seeds" / "0" / "epochs" / f"{epoch:03d}.logits.npy")
