"""Failures that were planted: each ends in its own verdict, in the numbers, and in a gate that does not say yes."""

from pathlib import Path

import numpy as np
import pytest

from isthmus.core.files import read_json
from isthmus.data.manifest import MANIFEST, TARGET_LABELS, read_table, write_table
from isthmus.gates.judge import Judgement, judge
from tests.report_files import ReportFiles, run_stages
from tests.scenario_files import ScenarioFiles, write_scenario

ACCURACY = {"source_only": 0.5, "coral": 0.85, "dann": 0.8}


def spoilt_logits(files: ScenarioFiles, methods: list[str], spoil) -> None:
    """Replaces the logits of some methods, every seed and epoch."""
    target = (read_table(files.manifest, MANIFEST)["domain"] == "line_b").to_numpy()
    for method in methods:
        for path in sorted((files.trained / method).glob("seeds/*/epochs/*.logits.npy")):
            np.save(path, spoil(np.load(path), target).astype(np.float32))


def one_answer(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """A collapsed model: each target image is the first class, and surely."""
    logits[target] = np.array([9.0, 0.0, 0.0])
    return logits


def majority(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """A model that leans so far to one class that its answers hardly depend on the image."""
    logits[target, 2] += 6.0
    return logits


def guess(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """What training on shuffled source labels ends in: answers that have nothing to do with the labels."""
    return np.random.default_rng(len(logits)).permutation(logits)


def ended(files: ScenarioFiles) -> tuple[str, dict[str, float], dict, Judgement]:
    """Runs shift, select, evaluate and report; returns page, numbers, choice and what the gate says."""
    made: ReportFiles = run_stages(files)
    page = (made.make() / "report.html").read_text()
    named = {name: made.root / f"{name}.json" for name in ("metrics", "truth", "choice")}
    return page, read_json(named["metrics"]), read_json(named["choice"]), judge(files.params, **named)


def first_screen(page: str) -> str:
    return page.split('id="verdict"')[1].split('id="domains"')[0]


def without_labels(files: ScenarioFiles) -> None:
    write_table(files.labels_target, read_table(files.labels_target, TARGET_LABELS).iloc[:0], TARGET_LABELS)


@pytest.mark.parametrize("spoil", [one_answer, majority])
def test_a_collapsed_method_is_held_back_by_a_guard_and_a_sound_one_is_chosen(tmp_path: Path, spoil) -> None:
    files = write_scenario(tmp_path, ACCURACY)
    spoilt_logits(files, ["coral"], spoil)

    page, numbers, choice, _ = ended(files)

    assert choice["chosen"]["method"] != "coral"
    reasons = [c["refused"] for c in choice["candidates"] if c["method"] == "coral"]
    assert all(any("as one class" in text for text in out) for out in reasons)
    assert numbers["target_collapsed"] == 0
    assert "Refused by the guards" in page


@pytest.mark.parametrize("spoil", [one_answer, majority])
@pytest.mark.parametrize("labels", [True, False], ids=["labelled", "unlabelled"])
def test_where_every_model_collapses_even_source_only_is_refused(tmp_path: Path, spoil, labels: bool) -> None:
    files = write_scenario(tmp_path, ACCURACY)
    spoilt_logits(files, list(ACCURACY), spoil)
    if not labels:
        without_labels(files)

    page, numbers, choice, gate = ended(files)

    assert choice["chosen"]["fallback"] is True
    assert numbers["target_collapsed"] == 1
    assert "Collapsed on the target" in first_screen(page)
    assert "Do not promote this model" in first_screen(page)
    assert "isthmus promote" not in first_screen(page)
    assert gate.verdict == ("no" if labels else "person")


@pytest.mark.parametrize("labels", [True, False], ids=["labelled", "unlabelled"])
def test_shuffled_source_labels_are_told_from_a_hard_target(tmp_path: Path, labels: bool) -> None:
    files = write_scenario(tmp_path, ACCURACY, images=400)
    spoilt_logits(files, list(ACCURACY), guess)
    if not labels:
        without_labels(files)

    page, numbers, _, gate = ended(files)

    assert numbers["source_learned"] == 0
    assert numbers["source_val_balanced_accuracy"] < 1 / 3 + 0.1
    assert "Source not learned" in first_screen(page)
    assert "Check the labels of the source" in first_screen(page)
    assert gate.verdict == ("no" if labels else "person")


def test_a_target_that_is_another_task_scores_as_guessing_and_is_refused(tmp_path: Path) -> None:
    files = write_scenario(tmp_path, ACCURACY, images=400)
    labels = read_table(files.labels_target, TARGET_LABELS)
    labels["label"] = np.random.default_rng(0).permutation(labels["label"].to_numpy())
    write_table(files.labels_target, labels, TARGET_LABELS)

    page, numbers, _, gate = ended(files)

    assert numbers["source_learned"] == 1
    assert "No better than guessing" in first_screen(page)
    assert "Is the target the same task" in first_screen(page)
    assert gate.verdict == "no"


def test_without_labels_another_task_ends_in_cannot_tell_and_a_person_must_decide(tmp_path: Path) -> None:
    # On images of no known class each method answers as it likes: they agree on about a third.
    files = write_scenario(tmp_path, {"source_only": 1 / 3, "coral": 1 / 3, "dann": 1 / 3})
    without_labels(files)

    page, numbers, _, gate = ended(files)

    assert numbers["target_estimate_cannot_tell"] == 1
    assert "target_estimated_accuracy" not in numbers
    assert "cannot be estimated without labels" in first_screen(page)
    assert gate.verdict == "person"


@pytest.mark.parametrize("labels", [True, False], ids=["labelled", "unlabelled"])
def test_where_there_is_no_shift_the_report_says_that_adaptation_is_not_needed(tmp_path: Path, labels: bool) -> None:
    files = write_scenario(tmp_path, {"source_only": 0.95, "coral": 0.95, "dann": 0.95})
    for path in files.features.glob("*.npy"):
        np.save(path, np.random.default_rng(len(path.name)).normal(0, 1, np.load(path).shape).astype(np.float32))
    if not labels:
        without_labels(files)

    page, numbers, _, _ = ended(files)

    assert numbers["shift_found"] == 0
    assert "Adaptation is not needed" in first_screen(page)


@pytest.mark.parametrize("labels", [True, False], ids=["labelled", "unlabelled"])
def test_few_images_without_a_shift_do_not_show_that_adaptation_is_not_needed(
    tmp_path: Path, labels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_scenario(tmp_path, {"source_only": 0.95, "coral": 0.95, "dann": 0.95})
    for path in files.features.glob("*.npy"):
        np.save(path, np.random.default_rng(len(path.name)).normal(0, 1, np.load(path).shape).astype(np.float32))
    if not labels:
        without_labels(files)
    monkeypatch.setattr("isthmus.evaluation.shift.distances._FEW", 1000)

    page, numbers, _, _ = ended(files)

    assert numbers["shift_found"] == 0
    assert "Adaptation is not needed" not in first_screen(page)
    assert "images of a domain are too few to rule one out; 1000 are needed." in page


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (1, "images are of one group: that is too few"),
        (2, "images are of 2 groups: too few"),
        (20, "better than source"),
    ],
)
def test_few_groups_of_labelled_images_show_no_gain(tmp_path: Path, groups: int, words: str) -> None:
    files = write_scenario(tmp_path, ACCURACY)
    rows = read_table(files.manifest, MANIFEST)
    rows["group"] = [f"{number % groups:016x}" for number in range(len(rows))]
    write_table(files.manifest, rows, MANIFEST)

    page, _, choice, _ = ended(files)

    assert choice["chosen"]["method"] != "source_only"
    assert words in first_screen(page)
    assert ("Too few groups" in page) == (groups < 6)


def test_none_of_these_verdicts_is_given_to_a_sound_model(tmp_path: Path) -> None:
    page, numbers, _, gate = ended(write_scenario(tmp_path, ACCURACY))

    assert (numbers["source_learned"], numbers["target_collapsed"], numbers["shift_found"]) == (1, 0, 1)
    for words in ("Source not learned", "Collapsed", "guessing", "not needed", "Do not promote"):
        assert words not in first_screen(page)
    assert gate.verdict == "yes"
