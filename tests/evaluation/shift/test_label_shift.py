"""Class shares of the target: known answers, coverage of intervals, and the refusal where label shift does not hold."""

import itertools

import numpy as np
import pytest

from isthmus.evaluation.metrics import softmax
from isthmus.evaluation.shift import label_shift
from isthmus.evaluation.shift.label_shift import Scores

CLASSES = ["a", "b", "c"]
EVEN = (1 / 3, 1 / 3, 1 / 3)
SKEWED = (0.7, 0.2, 0.1)
TRAINED = np.arange(300) % 3


def drawn(count: int, shares: tuple[float, ...], seed: int, moved: float = 0.0) -> Scores:
    """Logits of the optimal classifier for three unit Gaussians in the plane, overconfident by a factor of 2."""
    rng = np.random.default_rng(seed)
    centres = np.array([[1.5, 0.0], [-1.0, 1.2], [-1.0, -1.2]])
    labels = rng.choice(3, count, p=shares)
    points = centres[labels] + rng.normal(size=(count, 2)) + moved
    logits = 2 * (points @ centres.T - (centres**2).sum(axis=1) / 2)
    return Scores(logits, labels, np.arange(count).astype(str))


def target(count: int, shares: tuple[float, ...], seed: int, moved: float = 0.0) -> Scores:
    scores = drawn(count, shares, seed, moved)
    return Scores(scores.logits, np.zeros(0, np.int64), scores.groups)


def test_bbse_solves_a_hand_worked_confusion() -> None:
    held = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]])  # class 0 answers .8 / .2, class 1 answers .2 / .8

    shares = label_shift.bbse(held, np.array([0, 0, 1]), np.array([[0.35, 0.65]]))

    assert shares == pytest.approx([0.25, 0.75])  # .8 * .25 + .2 * .75 = .35


def test_bbse_stays_a_distribution_where_inversion_goes_negative() -> None:
    held = np.array([[0.8, 0.2], [0.2, 0.8]])

    assert label_shift.bbse(held, np.array([0, 1]), np.array([[0.95, 0.05]])) == pytest.approx([1.0, 0.0], abs=1e-6)


def test_mlls_has_the_highest_likelihood_of_a_grid() -> None:
    rows = softmax(drawn(150, SKEWED, 3).logits / 2)
    source = np.array([0.5, 0.3, 0.2])
    grid = [(a / 50, b / 50, 1 - (a + b) / 50) for a, b in itertools.product(range(51), repeat=2) if a + b <= 50]

    def likelihood(shares: np.ndarray) -> float:
        return float(np.log((rows * np.asarray(shares) / source).sum(axis=1)).sum())

    found = label_shift.mlls(rows, source)

    assert likelihood(found) >= max(map(likelihood, map(np.array, grid))) - 1e-6
    assert found.sum() == pytest.approx(1.0)


def test_calibration_undoes_a_planted_temperature_and_bias() -> None:
    scores = drawn(20_000, EVEN, 0)
    planted = scores.logits + np.array([0.0, 1.0, -1.0])

    inverse, bias = label_shift.bias_corrected_temperature(planted, scores.labels)

    assert inverse == pytest.approx(0.5, abs=0.02)
    assert bias - bias.mean() == pytest.approx([0.0, -0.5, 0.5], abs=0.05)


def test_both_estimates_find_planted_shares() -> None:
    for found in label_shift.estimates(drawn(1500, EVEN, 1), target(1500, SKEWED, 2)):
        assert found == pytest.approx(SKEWED, abs=0.04)


@pytest.mark.slow
@pytest.mark.soak  # half a minute of draws
def test_intervals_hold_the_true_shares_about_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_shift, "RESAMPLES", 60)
    held = np.zeros((2, 3))

    for trial in range(12):
        spans = label_shift.intervals(drawn(150, EVEN, 100 + trial), target(150, SKEWED, 200 + trial), trial)
        held += [[low <= true <= high for low, high, true in zip(*span, SKEWED, strict=True)] for span in spans]

    assert (held.mean(axis=1) >= 0.85 * 12).all()  # 11.4 of 12 are expected of each estimate
    assert (spans[0][1] - spans[0][0] < 0.4).all()  # and not by being useless


def test_groups_are_drawn_whole_so_that_few_groups_make_wide_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_shift, "RESAMPLES", 60)
    held, scores = drawn(200, EVEN, 1), target(200, SKEWED, 2)
    order = np.argsort(drawn(200, SKEWED, 2).labels, kind="stable")
    lots = np.empty(200, object)
    lots[order] = [f"lot{place // 40}" for place in range(200)]

    single = label_shift.intervals(held, scores, 0)[0]
    whole = label_shift.intervals(held, Scores(scores.logits, scores.labels, lots), 0)[0]

    assert (whole[1] - whole[0])[0] > 2 * (single[1] - single[0])[0]


def test_the_fit_test_accepts_label_shift_about_as_often_as_it_says() -> None:
    found = [label_shift.fit_p_value(drawn(150, EVEN, 2 * i), target(150, SKEWED, 2 * i + 1), i) for i in range(20)]

    assert sum(p < label_shift.FITS for p in found) <= 3
    assert np.mean(found) > 0.3


def test_the_fit_test_refuses_classes_that_look_different() -> None:
    assert label_shift.fit_p_value(drawn(200, EVEN, 0), target(200, EVEN, 1, moved=0.8), 0) < label_shift.FITS


def test_where_it_fits_the_shares_are_told_and_far_ones_warn() -> None:
    found = label_shift.label_shift(drawn(300, EVEN, 0), target(300, SKEWED, 1), TRAINED, CLASSES, 0.15, 0)

    assert found["verdict"] == "fits"
    assert list(found["priors"].values()) == pytest.approx(SKEWED, abs=0.1)
    assert found["difference"] == pytest.approx(0.37, abs=0.1)
    assert "aligning marginals (dann, mmd, coral, zscore) then mixes classes" in found["warning"]
    assert found["mlls"]["a"]["low"] < found["mlls"]["a"]["share"] < found["mlls"]["a"]["high"]


def test_near_shares_do_not_warn() -> None:
    found = label_shift.label_shift(drawn(300, EVEN, 0), target(300, EVEN, 1), TRAINED, CLASSES, 0.15, 0)

    assert (found["verdict"], found["warning"]) == ("fits", None)


def test_shares_are_compared_with_those_of_the_training_rows_and_not_of_the_few_held_out_ones() -> None:
    found = label_shift.label_shift(drawn(300, SKEWED, 0), target(300, EVEN, 1), TRAINED, CLASSES, 0.15, 0)

    assert list(found["source"].values()) == pytest.approx(EVEN)
    assert found["difference"] < 0.1
    assert found["warning"] is None


def test_a_difference_that_few_target_images_explain_does_not_warn() -> None:
    found = label_shift.label_shift(drawn(300, EVEN, 0), target(20, EVEN, 2), TRAINED, CLASSES, 0.1, 0)

    assert found["verdict"] == "fits" and found["difference"] > 0.1
    assert all(entry["low"] < 1 / 3 < entry["high"] for entry in found["mlls"].values())
    assert found["warning"] is None


def test_where_it_does_not_fit_the_answer_is_cannot_tell_and_uniform() -> None:
    found = label_shift.label_shift(drawn(300, EVEN, 0), target(300, SKEWED, 1, moved=1.0), TRAINED, CLASSES, 0.15, 0)

    assert found["verdict"] == "cannot tell"
    assert list(found["priors"].values()) == pytest.approx(EVEN)
    assert (found["warning"], found["difference"]) == (None, None)
    assert "no mixture of the source's classes fits its scores" in found["why"]


def test_a_class_with_few_held_out_images_cannot_be_told() -> None:
    held = drawn(60, (0.49, 0.49, 0.02), 0)

    found = label_shift.label_shift(held, target(60, EVEN, 1), TRAINED, CLASSES, 0.15, 0)

    assert found["verdict"] == "cannot tell"
    assert "at least 5 held-out source images of each class are needed; there are: c " in found["why"]


def test_the_probe_tells_classes_and_never_names_one_it_has_not_seen() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2 * 2  # classes 0 and 2
    rows = rng.normal(size=(60, 4)) + labels[:, None]

    (scores,) = label_shift.probe_scores(rows, labels, rows, classes=3)

    assert (scores.argmax(axis=1) == labels).mean() > 0.9
    assert scores.shape == (60, 3)
    assert (scores[:, 1] < scores[:, [0, 2]].min()).all()


def test_a_probe_that_cannot_tell_the_sources_classes_tells_no_shares() -> None:
    held = drawn(90, EVEN, 0)
    blind = Scores(np.random.default_rng(0).normal(size=held.logits.shape), held.labels, held.groups)

    found = label_shift.label_shift(blind, target(90, SKEWED, 1), TRAINED, CLASSES, 0.15, 0)

    assert found["verdict"] == "cannot tell"
    assert "a linear probe barely separates the source's own classes" in found["why"]


def test_a_target_of_one_group_has_the_interval_of_single_images_and_not_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_shift, "RESAMPLES", 60)
    held, scores = drawn(200, EVEN, 1), target(40, SKEWED, 2)
    one = Scores(scores.logits, scores.labels, np.full(40, "scene", object))

    low, high = label_shift.intervals(held, one, 0)[0]

    assert (high - low > 0.1).all()
    single_low, single_high = label_shift.intervals(held, scores, 0)[0]
    assert np.allclose(high - low, single_high - single_low, rtol=0.5)
