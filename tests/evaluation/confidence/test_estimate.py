"""The estimated target accuracy: each part against a slow version, the refusals, and what is told on easy cases."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from isthmus.evaluation import metrics
from isthmus.evaluation.calibration import fit_temperature
from isthmus.evaluation.confidence.estimate import EstimateLimits, Views, estimate_accuracy, known_pairs
from isthmus.evaluation.confidence.trust import averaged
from isthmus.evaluation.metrics import entropy, softmax

CLASSES = 4


def logits_of(rng: np.random.Generator, labels: np.ndarray, noise: float) -> np.ndarray:
    return np.stack([np.eye(CLASSES)[labels] * 2 + rng.normal(0, noise, (len(labels), CLASSES)) for _ in range(3)])


def problem(target_noise: float, seed: int = 0) -> tuple[Views, np.ndarray]:
    """A model and two methods whose errors are independent, and the target's labels."""
    rng = np.random.default_rng(seed)
    source, target = rng.integers(0, CLASSES, 300), rng.integers(0, CLASSES, 400)
    methods = {name: logits_of(rng, target, target_noise).argmax(axis=2) for name in ("mcc", "zscore")}
    return Views(logits_of(rng, source, 0.8), source, logits_of(rng, target, target_noise), methods), target


def estimate(views: Views, **limits: float):
    count = views.target_logits.shape[1]
    drawn = metrics.group_weights(np.arange(count), 200, 0)
    return estimate_accuracy(views, drawn, count, EstimateLimits(**limits))


def test_the_parts_equal_slow_versions() -> None:
    views, _ = problem(0.9)

    parts = estimate(views)["parts"]

    thresholded, differences, confidences = [], [], []
    for source, target in zip(views.source_logits, views.target_logits, strict=True):
        temperature = fit_temperature(source, views.source_labels)
        sure, unsure = softmax(source / temperature), softmax(target / temperature)
        right = (source.argmax(axis=1) == views.source_labels).mean()
        limit = np.sort(-entropy(sure))[round((1 - right) * len(sure))]
        thresholded.append((-entropy(unsure) >= limit).mean())
        differences.append(right - sure.max(axis=1).mean() + unsure.max(axis=1).mean())
        confidences.append(unsure.max(axis=1).mean())
    assert parts["atc"]["mean"] == pytest.approx(np.mean(thresholded), abs=0.01)
    assert parts["doc"]["mean"] == pytest.approx(np.mean(differences))
    assert parts["confidence"]["mean"] == pytest.approx(np.mean(confidences))
    agreed = [(one == other).mean() for one in views.methods["mcc"] for other in views.methods["zscore"]]
    assert parts["agreement"]["mean"] == pytest.approx(np.mean(agreed))


def test_the_estimate_is_the_agreement_and_its_interval_the_reach_of_known_pairs() -> None:
    views, target = problem(0.9)

    told = estimate(views)

    agreement = told["parts"]["agreement"]
    assert told["accuracy"] == agreement["mean"]
    reach = np.hypot(known_pairs()["reach"], (agreement["high"] - agreement["low"]) / 2)
    assert (told["low"], told["high"]) == (max(0, agreement["mean"] - reach), min(1, agreement["mean"] + reach))
    assert told["low"] <= (views.target_logits[0].argmax(axis=1) == target).mean() <= told["high"]
    assert told["cannot_tell"] == []


def test_one_method_alone_has_no_second_opinion_but_the_parts_are_there() -> None:
    views = problem(0.5)[0]

    told = estimate(replace(views, methods={"mcc": views.methods["mcc"]}))

    assert (told["accuracy"], told["low"], told["high"]) == (None, None, None)
    reason = "no average of several methods was chosen, and one method alone has no second opinion"
    assert told["cannot_tell"] == [reason]
    assert set(told["parts"]) == {"atc", "doc", "confidence"}


def test_an_interval_that_is_too_wide_is_not_told() -> None:
    told = estimate(problem(0.9)[0], max_width=0.05)

    assert told["accuracy"] is None
    assert "points, over 5: there are too few target images" in told["cannot_tell"][0]


@pytest.mark.parametrize(("count", "low"), [(2, None), (4, None), (10, 0.68), (100, 0.81)])
def test_few_images_on_which_all_agree_leave_much_open(count: int, low: float | None) -> None:
    views = problem(0.5)[0]
    same = {name: np.zeros((3, count), dtype=np.int64) for name in views.methods}

    told = estimate(replace(views, target_logits=views.target_logits[:, :count], methods=same))

    assert told["parts"]["agreement"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert told["low"] == (low if low is None else pytest.approx(low, abs=0.01))
    if low is None:
        assert "there are too few target images" in told["cannot_tell"][0]


def test_the_networks_of_an_average_are_read_by_method_and_of_one_method_none() -> None:
    runs = {name: SimpleNamespace(logits=lambda seed, epoch, k=k: np.eye(3)[[k, seed]]) for k, name in enumerate("ab")}
    made = {"ensemble": {"a": [0, 1], "b": [2]}, "epochs": {"a": 4, "b": 4}}

    found = averaged(made, runs)  # type: ignore[arg-type]

    assert {name: rows.tolist() for name, rows in found.items()} == {"a": [[0, 0], [0, 1]], "b": [[1, 2]]}
    assert averaged({"ensemble": None}, runs) == {}  # type: ignore[arg-type]


def test_what_known_pairs_showed_is_data_with_its_origin() -> None:
    found = known_pairs()

    assert set(found) == {"coverage", "families", "holds", "made_by", "pairs", "reach"}
    assert 0 < found["reach"] < 0.5 and found["pairs"] >= 20 and found["families"] >= 5
