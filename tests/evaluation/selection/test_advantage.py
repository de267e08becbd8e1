"""The paired test on the way back, against numbers worked out by hand and against chance."""

import numpy as np
import pytest

from isthmus.evaluation.selection.advantage import RESAMPLES, paired_p_value

LABELS = np.arange(60) % 3
APART = np.arange(60)


def right_on(share: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random((1, 60)) < share, LABELS, (LABELS + 1) % 3)


def test_a_candidate_that_comes_back_right_against_a_floor_that_comes_back_wrong_has_the_least_p_value() -> None:
    p_value = paired_p_value(LABELS[None], (LABELS[None] + 1) % 3, LABELS, APART)

    assert p_value == pytest.approx(1 / (RESAMPLES + 1))


def test_the_same_answers_under_more_seeds_are_no_advantage() -> None:
    floor = right_on(0.7, 0)

    assert paired_p_value(np.concatenate([floor] * 3), floor, LABELS, APART) == 1.0


def test_the_test_is_one_sided() -> None:
    better, worse = right_on(0.95, 1), right_on(0.6, 2)

    assert paired_p_value(better, worse, LABELS, APART) < 0.01
    assert paired_p_value(worse, better, LABELS, APART) > 0.99


def test_where_nothing_is_better_about_five_in_a_hundred_fall_under_five_in_a_hundred() -> None:
    values = [paired_p_value(right_on(0.8, 2 * n), right_on(0.8, 2 * n + 1), LABELS, APART) for n in range(200)]

    assert 0.01 <= np.mean(np.array(values) < 0.05) <= 0.10


def test_images_of_one_group_count_as_one() -> None:
    floor = np.where(np.arange(60) < 6, (LABELS + 1) % 3, LABELS)[None]  # the candidate wins on six images of one lot
    lots = np.where(np.arange(60) < 6, 0, np.arange(60))

    assert paired_p_value(LABELS[None], floor, LABELS, APART) < 0.01
    assert paired_p_value(LABELS[None], floor, LABELS, lots) > 0.2  # a resample without that lot shows nothing
