"""The estimated target accuracy: each part against a slow version, the refusals, and what is told on easy cases."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from isthmus.evaluation import metrics
from isthmus.evaluation.calibration import fit_temperature
from isthmus.evaluation.confidence.estimate import SHIPPED, EstimateLimits, Line, Views, estimate_accuracy, transported
from isthmus.evaluation.confidence.trust import asked_others
from isthmus.evaluation.metrics import entropy
from isthmus.evaluation.validators import softmax

CLASSES = 4


def logits_of(rng: np.random.Generator, labels: np.ndarray, noise: float) -> np.ndarray:
    return np.stack([np.eye(CLASSES)[labels] * 2 + rng.normal(0, noise, (len(labels), CLASSES)) for _ in range(3)])


def problem(target_noise: float, seed: int = 0) -> tuple[Views, np.ndarray]:
    """A model and two others whose mistakes are their own, and the target's labels."""
    rng = np.random.default_rng(seed)
    source, target = rng.integers(0, CLASSES, 300), rng.integers(0, CLASSES, 400)
    others = {name: logits_of(rng, target, target_noise).argmax(axis=2) for name in ("one", "two")}
    second = logits_of(rng, target, target_noise)[0].argmax(axis=1)
    return Views(logits_of(rng, source, 0.8), source, logits_of(rng, target, target_noise), others, second), target


def estimate(views: Views, **limits: float):
    drawn = metrics.group_weights(np.arange(views.target_logits.shape[1]), 200, 0)
    return estimate_accuracy(views, drawn, EstimateLimits(**limits))


def test_the_parts_equal_slow_versions() -> None:
    views, _ = problem(0.9)

    parts = estimate(views)["parts"]

    predicted = views.target_logits.argmax(axis=2)
    thresholded, differences = [], []
    for source, target in zip(views.source_logits, views.target_logits, strict=True):
        temperature = fit_temperature(source, views.source_labels)
        sure, unsure = softmax(source / temperature), softmax(target / temperature)
        right = (source.argmax(axis=1) == views.source_labels).mean()
        limit = np.sort(-entropy(sure))[round((1 - right) * len(sure))]
        thresholded.append((-entropy(unsure) >= limit).mean())
        differences.append(right - sure.max(axis=1).mean() + unsure.max(axis=1).mean())
    assert parts["atc"]["mean"] == pytest.approx(np.mean(thresholded), abs=0.01)
    assert parts["doc"]["mean"] == pytest.approx(np.mean(differences))
    assert parts["seeds"]["mean"] == pytest.approx(metrics.pairwise_agreement(predicted))
    agreed = [(mine == other).mean() for mine in predicted for rows in views.others.values() for other in rows]
    assert parts["methods"]["mean"] == pytest.approx(np.mean(agreed))


def test_transport_equals_the_best_assignment_to_labels_with_the_sources_shares() -> None:
    probabilities = softmax(np.random.default_rng(1).normal(0, 2, (60, 3)))
    labels = np.repeat([0, 1, 2], [30, 20, 10])
    cost = 1 - probabilities[:, labels]
    rows, columns = linear_sum_assignment(cost)

    values = transported(probabilities, np.array([0.5, 1 / 3, 1 / 6]))

    assert values.mean() == pytest.approx(1 - cost[rows, columns].mean())


def test_transport_of_many_images_is_that_of_the_first_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities = softmax(np.random.default_rng(2).normal(0, 2, (2000, 3)))
    whole = transported(probabilities, np.full(3, 1 / 3)).mean()
    monkeypatch.setattr("isthmus.evaluation.confidence.estimate.MOST_CARRIED", 300)

    assert transported(probabilities, np.full(3, 1 / 3)).mean() == pytest.approx(whole, abs=0.01)


def test_models_whose_mistakes_are_their_own_are_told_in_their_order_and_never_too_high() -> None:
    found = []
    for noise in (0.3, 0.7, 0.85, 1.0):
        views, labels = problem(noise)
        found.append((estimate(views, min_method_agreement=0.5), (views.target_logits.argmax(axis=2) == labels).mean()))

    told = [one["accuracy"] for one, _ in found]
    assert told == sorted(told, reverse=True)
    assert all(truth - 0.21 < one["accuracy"] < truth for one, truth in found)


def test_models_that_are_wrong_together_have_their_accuracy_inside_the_interval() -> None:
    # What the line was fitted on: a tenth of the images where every method, and every seed, makes the same mistake.
    views, labels = problem(0.7)
    wrong = np.arange(400) % 10 == 0
    logits = np.where(wrong[:, None], np.roll(views.target_logits, 1, axis=2), views.target_logits)
    others = {name: np.where(wrong, (rows + 1) % CLASSES, rows) for name, rows in views.others.items()}
    truth = (logits.argmax(axis=2) == labels).mean()

    second = np.where(wrong, (views.second + 1) % CLASSES, views.second)

    found = estimate(replace(views, target_logits=logits, others=others, second=second))

    assert found["low"] <= truth <= found["high"]
    assert abs(found["accuracy"] - truth) < 0.05


def test_an_interval_that_reaches_what_cannot_be_told_apart_is_open() -> None:
    assert estimate(problem(0.3)[0])["high"] == 1.0


def test_where_other_methods_see_other_classes_nothing_is_told() -> None:
    views, labels = problem(0.5)
    turned = {name: (rows + (np.arange(400) < 160)) % CLASSES for name, rows in views.others.items()}

    found = estimate(replace(views, others=turned))

    assert found["accuracy"] is None and found["low"] is None and found["high"] is None
    assert any("under 70%: at least one of them is wrong on the rest" in reason for reason in found["cannot_tell"])
    assert (views.target_logits.argmax(axis=2) == labels).mean() > 0.8  # however right it may be


def test_without_a_second_method_nothing_is_told() -> None:
    views, _ = problem(0.5)

    found = estimate(replace(views, others={}))

    assert found["cannot_tell"] == [
        "no other adapted method passed the guards, so no second opinion on the target images exists"
    ]
    assert "methods" not in found["parts"]


def test_an_interval_that_is_too_wide_is_no_answer() -> None:
    views, _ = problem(0.5)

    found = estimate(views, max_width=0.02)

    assert found["accuracy"] is None
    assert "over 2: there are too few images, or the model is too unsure" in found["cannot_tell"][0]


def test_a_single_seed_leaves_the_agreement_of_seeds_out() -> None:
    views, _ = problem(0.5)

    one = replace(views, source_logits=views.source_logits[:1], target_logits=views.target_logits[:1])

    assert set(estimate(one)["parts"]) == {"atc", "doc", "transport", "methods", "second"}
    assert set(estimate(views)["parts"]) == {"atc", "doc", "transport", "methods", "second", "seeds"}


def test_the_estimate_is_the_line_through_agreement_and_confidence_in_log_odds() -> None:
    views, _ = problem(0.7)

    found = estimate(views)

    told = {name: found["parts"][name]["mean"] for name in SHIPPED.weights}
    odds = SHIPPED.intercept + sum(w * np.log(told[n] / (1 - told[n])) for n, w in SHIPPED.weights.items())
    assert found["accuracy"] == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-6)
    low, high = (np.log(p / (1 - p)) for p in (found["low"], found["high"]))
    assert low + high == pytest.approx(2 * odds, abs=1e-6)
    assert high - low > 2 * SHIPPED.reach  # the bootstrap over groups comes on top


def test_who_disagrees_with_the_second_view_is_told_lower() -> None:
    views, _ = problem(0.7)

    lower = estimate(replace(views, second=(views.second + 1) % CLASSES))

    assert lower["parts"]["second"]["mean"] < 0.2
    assert (lower["accuracy"] or 0.0) < estimate(views)["accuracy"]


def test_another_line_may_be_followed() -> None:
    views, _ = problem(0.7)
    drawn = metrics.group_weights(np.arange(views.target_logits.shape[1]), 200, 0)

    found = estimate_accuracy(views, drawn, EstimateLimits(), Line({"second": 1.0}, 0.0, 0.1))

    assert found["accuracy"] == pytest.approx(found["parts"]["second"]["mean"], abs=1e-6)


@pytest.mark.parametrize(
    ("method", "asked"),
    [
        ("mcc", ["shot"]),
        ("shot", ["mcc"]),
        ("dann", ["mcc", "shot"]),
        ("source_only", ["mcc", "shot"]),
        ("half_step", ["source_only"]),
    ],
)
def test_the_preferred_others_are_asked_how_often_a_method_is_right(method: str, asked: list[str]) -> None:
    assert asked_others(["source_only", "dann", "mcc", "shot", "coral", "half_step"], method, ["shot", "mcc"]) == asked


def test_where_no_other_preferred_method_passed_all_others_are_asked() -> None:
    assert asked_others(["source_only", "mcc", "coral", "dann"], "mcc", ["mcc", "shot"]) == ["coral", "dann"]
    assert asked_others(["source_only", "mcc", "half_step"], "mcc", ["mcc"]) == []
