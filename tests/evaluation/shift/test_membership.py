import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from isthmus.evaluation.shift.membership import fit_typicality, read_typicalities, shrunk_covariance, write_typicalities


def drawn(count: int, seed: int, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Returns two clusters far apart, with correlated features, and which is which."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(width, width))
    place = rng.integers(0, 2, count)
    return rng.normal(size=(count, width)) @ mix + place[:, None] * 40, place


@pytest.mark.parametrize(("count", "width"), [(200, 5), (12, 30), (2, 4)])
def test_the_covariance_is_the_one_of_ledoit_and_wolf(count: int, width: int) -> None:
    values = np.random.default_rng(1).normal(size=(count, width)) * np.arange(1, width + 1)

    expected = ledoit_wolf(values, assume_centered=True)[0]

    np.testing.assert_allclose(shrunk_covariance(values), expected, rtol=1e-9)


def test_the_distance_is_mahalanobis_to_the_nearest_centre_written_out() -> None:
    train, place = drawn(300, 0)
    found = fit_typicality(train, place, train[:3])
    new = drawn(7, 1)[0]

    means = [train[place == c].mean(axis=0) for c in (0, 1)]
    residuals = np.concatenate([train[place == c] - means[c] for c in (0, 1)])
    inverse = np.linalg.inv(shrunk_covariance(residuals))
    slow = [min(float(np.sqrt((x - m) @ inverse @ (x - m))) for m in means) for x in new]

    np.testing.assert_allclose(found.distances(new), slow, rtol=1e-9)


def test_new_images_of_the_domain_get_uniform_scores() -> None:
    shares = []
    for seed in range(200):
        train, place = drawn(80, 3 * seed)
        found = fit_typicality(train, place, drawn(60, 3 * seed + 1)[0])
        shares.append(found.scores(drawn(100, 3 * seed + 2)[0]))
    scores = np.concatenate(shares)

    for share in (0.1, 0.25, 0.5, 0.9):
        # 61 steps; the standard deviation of a share over 200 draws of 60 held-out and 100 new images is 0.006
        assert (scores <= share).mean() == pytest.approx(np.floor(share * 61) / 61, abs=0.02)
    assert scores.max() == 1.0


def test_what_lies_elsewhere_or_between_the_classes_gets_the_least_there_is() -> None:
    train, place = drawn(200, 0)
    found = fit_typicality(train, place, drawn(99, 1)[0])

    assert found.scores(np.full((2, 6), 500.0)).tolist() == [0.01, 0.01]
    assert found.scores(train.mean(axis=0)[None]).tolist() == [0.01]  # one centre for both would call this typical
    assert found.scores(train[place == 0].mean(axis=0)[None]).tolist() == [1.0]


def test_without_held_out_images_nothing_is_called_rare() -> None:
    train, place = drawn(50, 0)

    assert fit_typicality(train, place, train[:0]).scores(np.full((1, 6), 500.0)).tolist() == [1.0]


def test_a_domain_without_any_spread_has_a_finite_distance() -> None:
    same = np.ones((5, 3))
    found = fit_typicality(same, np.zeros(5, np.int64), same)

    assert found.scores(np.array([[1.0, 1, 1], [2.0, 1, 1]])) == pytest.approx([1.0, 1 / 6])


def test_it_comes_back_from_its_file_as_it_was(tmp_path) -> None:
    train, place = drawn(40, 0)
    found = fit_typicality(train, place, train[:9])

    write_typicalities({"line.a": found, "b": found}, tmp_path / "t.safetensors")

    back = read_typicalities(tmp_path / "t.safetensors", ["b", "line.a"])
    np.testing.assert_array_equal(back["line.a"].scores(train), found.scores(train))
    np.testing.assert_array_equal(back["b"].whiten, found.whiten)
