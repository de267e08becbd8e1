"""The test of drift: exact, with its error rate held by simulation, and it can see what it is for."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from isthmus.core.config import validated
from isthmus.core.errors import ConfigError
from isthmus.evaluation.shift.membership import fit_typicality
from isthmus.monitoring.drift import WatchConfig, judge_drift
from isthmus.serving.batch_statistics import BINS, histogram


def tail_of(in_tail: int, images: int) -> list[int]:
    return [in_tail, *[0] * (BINS - 2), images - in_tail]


def test_the_p_value_is_the_share_of_all_orders_of_held_out_and_new_images():
    held_out, images = 9, 5
    config = WatchConfig(tail=0.2, min_images=1)
    farther = 2  # of ten: 0.2 * (9 + 1)
    places = range(held_out + images)  # from the farthest to the nearest: which of them are new?
    counts = []
    for new in combinations(places, images):
        held = [place for place in places if place not in new]
        counts.append(sum(place < held[farther - 1] for place in new))

    for in_tail in range(images + 1):
        seen = [0, 0, 0, in_tail, *[0] * (BINS - 5), images - in_tail]

        found = judge_drift(seen, held_out, config)

        assert found.p_value == pytest.approx(np.mean([count >= in_tail for count in counts]))
        assert found.expected == pytest.approx(0.2)


def batches(rng: np.random.Generator, held_out: int, images: int, shift: float = 0.0) -> list[int]:
    """Returns the histogram of one batch, scored as a registered model scores, its domain's own facts drawn anew."""
    train, held = rng.normal(size=(60, 3)), rng.normal(size=(held_out, 3))
    typicality = fit_typicality(train, np.zeros(60, np.int64), held)
    return histogram(list(typicality.scores(rng.normal(shift, 1, (images, 3)))))


@pytest.mark.parametrize(("held_out", "images"), [(19, 50), (60, 200), (199, 60)])
def test_without_drift_no_more_than_the_stated_share_of_batches_is_called_one(held_out, images):
    rng, trials, config = np.random.default_rng(7), 600, WatchConfig(significance=0.05)

    found = [judge_drift(batches(rng, held_out, images), held_out, config) for _ in range(trials)]

    rate = np.mean([one.verdict == "drift" for one in found])
    assert rate <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)
    assert rate >= 0.01  # strict, not blind
    plain = np.mean([binom.sf(one.in_tail - 1, images, one.expected) <= 0.05 for one in found])
    assert plain > 2 * 0.05 or held_out > images  # what the finite held-out set costs where it is taken for infinite


def test_a_shift_is_seen_and_its_size_told():
    rng, config = np.random.default_rng(3), WatchConfig()

    found = [judge_drift(batches(rng, 100, 60, shift=2.0), 100, config) for _ in range(100)]

    assert np.mean([one.verdict == "drift" for one in found]) > 0.95
    assert np.mean([one.share for one in found]) > 5 * found[0].expected


def test_a_tenth_of_foreign_images_in_a_large_batch_is_seen():
    found = judge_drift(tail_of(75, 500), 200, WatchConfig())

    assert (found.verdict, found.share) == ("drift", 0.15)


def test_too_few_images_are_not_judged_however_strange():
    found = judge_drift(tail_of(49, 49), 200, WatchConfig())

    assert (found.verdict, found.why) == ("too few images", "49 images; watch.min_images requires 50")


def test_no_image_at_all_has_no_share_and_no_p_value():
    found = judge_drift([0] * BINS, 200, WatchConfig())

    assert (found.verdict, found.share, found.p_value) == ("too few images", None, None)


def test_too_few_held_out_images_cannot_call_anything_rare():
    found = judge_drift(tail_of(60, 60), 18, WatchConfig())

    assert found.verdict == "too few images"
    assert "has 18 held-out images of its target; 19 are needed" in found.why
    assert judge_drift(tail_of(60, 60), 19, WatchConfig()).verdict == "drift"


def test_very_small_p_values_keep_their_digits_and_large_batches_end_soon():
    assert 0 < (judge_drift(tail_of(900, 1000), 500, WatchConfig()).p_value or 0) < 1e-100
    assert judge_drift(tail_of(15_000, 300_000), 400, WatchConfig()).verdict == "no drift"


def test_a_tail_between_two_parts_of_the_histogram_is_refused():
    with pytest.raises(
        ConfigError, match=r"watch.tail: .*must be a multiple of 0.05, since statistics are stored in 20"
    ):
        validated(WatchConfig, {"tail": 0.07}, "params.yaml: watch.")


def test_the_shipped_section_is_valid():
    assert "watch:" in (Path(__file__).parents[2] / "params.yaml").read_text()
