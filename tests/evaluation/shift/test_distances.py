"""Distances between domains against slow formulas, scikit-learn, SciPy and known values."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from isthmus.evaluation.shift import distances


def normal(count: int, mean: float = 0.0, scale: float = 1.0, seed: int = 0, width: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, scale, (count, width))


def slow_mmd(one: np.ndarray, other: np.ndarray) -> float:
    rows = np.concatenate([one, other])
    squared = [[float(((x - y) ** 2).sum()) for y in rows] for x in rows]
    pairs = [squared[i][j] for i in range(len(rows)) for j in range(len(rows)) if i != j]
    mean = sum(pairs) / len(pairs)

    def kernel(i: int, j: int) -> float:
        return float(np.mean([np.exp(-squared[i][j] / (a * mean)) for a in (2, 1, 0.5, 0.25, 0.125)]))

    m, n = len(one), len(other)
    first = np.mean([kernel(i, j) for i in range(m) for j in range(m) if i != j])
    second = np.mean([kernel(m + i, m + j) for i in range(n) for j in range(n) if i != j])
    across = np.mean([kernel(i, m + j) for i in range(m) for j in range(n)])
    return float(first + second - 2 * across)


def test_mmd_equals_a_slow_double_loop_with_unequal_sizes() -> None:
    one, other = normal(11), normal(7, 0.5, seed=1)

    assert distances.mmd(one, other, 0)[0] == pytest.approx(slow_mmd(one, other), abs=1e-12)


def test_mmd_of_one_distribution_is_about_zero_and_its_p_values_are_spread_evenly() -> None:
    found = [distances.mmd(normal(40, seed=2 * i), normal(30, seed=2 * i + 1), i) for i in range(100)]

    assert abs(np.mean([value for value, _ in found])) < 0.002  # unbiased: some are negative
    assert 0.01 <= np.mean([p <= 0.1 for _, p in found]) <= 0.2
    assert 0.35 <= np.mean([p for _, p in found]) <= 0.65


def test_mmd_of_shifted_domains_has_the_smallest_p_value() -> None:
    value, p_value = distances.mmd(normal(40), normal(40, 1.0, seed=1), 0)

    assert value > 0.05
    assert p_value == 1 / (1 + distances.PERMUTATIONS)


def test_mmd_of_constant_features_is_zero_and_not_significant() -> None:
    assert distances.mmd(np.ones((5, 3)), np.ones((4, 3)), 0) == (0.0, 1.0)


def test_mmd_of_a_single_image_is_zero() -> None:
    assert distances.mmd(normal(1), normal(5, seed=1), 0) == (0.0, 1.0)


def test_proxy_a_distance_is_two_for_domains_apart_and_near_zero_for_one_domain() -> None:
    assert distances.proxy_a_distance(normal(50), normal(200, 8.0, seed=1), 0) == 2.0
    assert distances.proxy_a_distance(normal(200), normal(200, seed=1), 0) < 0.4


def test_proxy_a_distance_does_not_take_unequal_sizes_for_a_shift() -> None:
    assert distances.proxy_a_distance(normal(20), normal(400, seed=1), 0) < 0.5


def test_proxy_a_distance_of_a_single_image_is_unknown() -> None:
    assert distances.proxy_a_distance(normal(1), normal(9), 0) is None


def test_coral_distance_equals_the_formula_and_ignores_means() -> None:
    one, other = normal(30), normal(20, scale=2.0, seed=1)
    expected = ((np.cov(one.T) - np.cov(other.T)) ** 2).sum() / (4 * 6**2)

    assert distances.coral_distance(one, other) == pytest.approx(expected)
    assert distances.coral_distance(one, one + 7) == pytest.approx(0.0, abs=1e-12)
    assert distances.coral_distance(one[:1], other) is None
    assert distances.coral_distance(one[:, :1], other[:, :1]) > 0


def test_sliced_wasserstein_of_a_moved_domain_is_the_mean_length_of_the_projected_move() -> None:
    one, move = normal(25), np.array([3.0, 0, 0, 0, 0, 0])
    directions = np.random.default_rng(4).normal(size=(6, distances.PROJECTIONS))
    directions /= np.linalg.norm(directions, axis=0)

    found = distances.sliced_wasserstein(one, one + move, 4)

    assert found == pytest.approx(np.abs(move @ directions).mean())


def test_standardised_features_have_the_sources_mean_and_spread_taken_out() -> None:
    source = normal(50, 3.0, 2.0)
    source[:, 0] = 5.0

    found = distances.standardise(source, source)

    assert found.mean(axis=0) == pytest.approx(np.zeros(6), abs=1e-12)
    assert found.std(axis=0) == pytest.approx([0, 1, 1, 1, 1, 1])


def test_the_plane_of_equal_domains_is_principal_components() -> None:
    one, other = normal(40), normal(40, 2.0, 1.5, seed=1)
    expected = PCA(2).fit(np.concatenate([one, other]))

    points, shares = distances.plane([one, other])

    assert np.abs(np.concatenate(points)) == pytest.approx(np.abs(expected.transform(np.concatenate([one, other]))))
    assert shares == pytest.approx(expected.explained_variance_ratio_)


def test_the_plane_does_not_change_when_a_domain_is_copied() -> None:
    one, other = normal(20), normal(20, 2.0, seed=1)

    balanced = distances.plane([one, np.concatenate([other] * 9)])[0][0]

    assert balanced == pytest.approx(distances.plane([one, other])[0][0])


def test_the_plane_of_one_feature_or_of_constant_features_is_finite() -> None:
    for rows in (normal(5, width=1), np.ones((5, 3))):
        points, shares = distances.plane([rows, rows])

        assert points[0].shape == (5, 2)
        assert np.isfinite(points[0]).all()
        assert len(shares) == 2


def advice(pooled: dict, control: dict, left: float, single: dict | None = None) -> str:
    return " ".join(distances.advise(pooled, control, {"mmd2": left}, single or {"a": pooled}))


NONE = {"proxy_a_distance": 0.1, "mmd_p_value": 0.6, "mmd2": -0.001, "images": [400, 50]}
LARGE = {"proxy_a_distance": 1.9, "mmd_p_value": 0.005, "mmd2": 0.2}
MODERATE = {"proxy_a_distance": 0.6, "mmd_p_value": 0.005, "mmd2": 0.02}


def test_no_shift_is_advised_not_to_adapt() -> None:
    assert "Adaptation is likely not needed: start with source_only" in advice(NONE, NONE, 0.0)


def test_no_shift_among_few_images_is_no_advice() -> None:
    text = advice(NONE | {"images": [400, 12]}, NONE, 0.0)

    assert text.endswith("but 12 images of a domain are too few to rule one out; 50 are needed.")


def test_a_large_shift_is_named_with_what_standardising_leaves_of_it() -> None:
    text = advice(LARGE, NONE, 0.02)

    assert text.startswith(
        "A shift was found, a large one (proxy A-distance 1.90 of 2, within the source 0.10; MMD p-value 0.005)."
    )
    assert text.endswith("Standardising each domain by itself leaves 10% of the MMD.")


def test_a_moderate_shift_is_named() -> None:
    text = advice(MODERATE, NONE, 0.018)

    assert text.startswith("A shift was found, a moderate one")
    assert "leaves 90% of the MMD" in text


def test_a_significant_but_near_domain_is_a_small_shift() -> None:
    assert advice({**NONE, "mmd_p_value": 0.01, "mmd2": 0.001}, NONE, 0.0).startswith("A shift was found, a small one")


def test_several_sources_are_compared() -> None:
    assert "Of the sources, b is nearest" in advice(LARGE, NONE, 0.1, {"a": LARGE, "b": MODERATE})


def test_wide_features_are_projected_so_that_distances_stay_and_narrow_ones_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    wide, slim = rng.normal(size=(12, 5000)), rng.normal(size=(12, 40))

    projected = distances.narrow(wide, 3)

    assert distances.narrow(slim, 3) is slim
    assert projected.shape == (12, distances.WIDEST)
    before = ((wide[:, None] - wide[None]) ** 2).sum(-1)[np.triu_indices(12, 1)]
    after = ((projected[:, None] - projected[None]) ** 2).sum(-1)[np.triu_indices(12, 1)]
    assert np.abs(after / before - 1).max() < 4 * np.sqrt(2 / distances.WIDEST)
    assert np.array_equal(projected, distances.narrow(wide, 3))
