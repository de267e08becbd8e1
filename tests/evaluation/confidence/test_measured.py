"""Accuracy measured on images drawn at random: the interval against exact enumeration, and what skipping does to it."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import hypergeom

from isthmus.evaluation.confidence.measured import measure, measured_on, wilson
from isthmus.evaluation.trained import UNKNOWN, Samples


def coverage(size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the coverage for each number of right images in the population, and the widths, by enumeration."""
    bounds = np.array([wilson(right, count, size) for right in range(count + 1)])
    truth = np.arange(size + 1)
    chance = hypergeom.pmf(np.arange(count + 1)[:, None], size, truth, count)
    share = truth / size
    inside = (bounds[:, :1] <= share + 1e-12) & (share - 1e-12 <= bounds[:, 1:])
    return (chance * inside).sum(axis=0), bounds[:, 1] - bounds[:, 0]


@pytest.mark.parametrize(("count", "widest"), [(20, 0.40), (50, 0.27)])
def test_the_interval_holds_as_many_draws_as_it_promises_and_is_as_narrow_as_the_table_says(
    count: int, widest: float
) -> None:
    held, widths = coverage(2000, count)

    assert 0.945 <= held.mean() <= 0.955
    assert np.percentile(held, 5) > 0.91
    assert widths.max() <= widest + 0.001


def test_in_a_small_population_the_interval_is_narrower_and_holds_as_often() -> None:
    held, widths = coverage(100, 50)

    assert 0.94 <= held.mean() <= 0.97
    assert widths.max() < 0.75 * coverage(2000, 50)[1].max()


def test_simulated_draws_from_a_labelled_target_hold_the_truth() -> None:
    rng = np.random.default_rng(0)
    right = rng.random(600) < 0.7
    held = []
    for _ in range(1000):
        drawn = rng.permutation(600)
        labels = np.where(np.arange(600) < 20, 0, UNKNOWN)
        found = measure(labels, {"mcc": np.where(right[drawn], 0, 1)})
        assert found is not None
        held.append(found["methods"]["mcc"]["low"] <= right.mean() <= found["methods"]["mcc"]["high"])

    assert 0.93 <= np.mean(held) <= 0.97


@pytest.mark.parametrize("right", range(6))
def test_the_bounds_are_possible_and_hold_the_share_itself(right: int) -> None:
    low, high = wilson(right, 5, 8)

    assert right / 8 <= low <= right / 5 <= high <= (8 - 5 + right) / 8


def test_images_that_were_skipped_count_as_wrong_below_and_as_right_above() -> None:
    labels = np.full(100, UNKNOWN)
    labels[[0, 1, 3, 4]] = 0  # the third one drawn has no answer

    found = measure(labels, {"coral": np.zeros(100, np.int64)})

    assert found is not None
    assert (found["count"], found["skipped"], found["pool"]) == (4, 1, 100)
    assert found["methods"]["coral"]["accuracy"] == 1.0
    assert found["methods"]["coral"]["low"] == wilson(4, 5, 100).low < wilson(4, 4, 100).low
    assert found["methods"]["coral"]["high"] == wilson(5, 5, 100).high


def test_without_an_answer_nothing_is_measured() -> None:
    assert measure(np.full(3, UNKNOWN), {"coral": np.zeros(3, np.int64)}) is None


def test_only_the_training_split_of_the_target_is_what_was_drawn_from() -> None:
    ids = np.array([f"{n:032x}" for n in range(8)], dtype=object)
    domain = np.array(["a", "a", *["b"] * 6], dtype=object)
    split = np.array(["train", "train", "test", *["train"] * 5], dtype=object)
    samples = Samples(ids, domain, split, ids, np.full(8, UNKNOWN))
    given = pd.DataFrame({"image_id": ids, "label": pd.array([0] * 8, dtype="Int32")})

    predicted = {"coral": np.array([0, 0, 0, 1, 1, 0, 0, 0])}

    found = measured_on(given, given.iloc[:0], samples, "b", predicted)
    apart = measured_on(given.iloc[:5], given.iloc[5:7], samples, "b", predicted)

    assert found is not None and apart is not None
    assert (apart["count"], apart["skipped"] + apart["pool"]) == (2, 3 + apart["skipped"])
    assert (found["count"], found["pool"], found["methods"]["coral"]["right"]) == (5, 5, 3)
    assert found["methods"]["coral"]["low"] == found["methods"]["coral"]["high"] == 0.6
