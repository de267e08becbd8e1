import numpy as np
import pytest

from isthmus.evaluation.shift import neighbours
from isthmus.evaluation.shift.neighbours import neighbour_map


def normal(rows: int, place: float = 0.0, width: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(place, 1.0, (rows, width))


def test_images_that_resemble_each_other_lie_together_whatever_their_domain() -> None:
    one, other = (np.concatenate([normal(15, 0, seed=s), normal(15, 6, seed=s + 2)]) for s in (0, 1))

    places = np.concatenate(neighbour_map([one, other], 0))

    apart = np.linalg.norm(places[:, None] - places, axis=2) + np.diag([np.inf] * 60)
    group = np.tile(np.repeat([0, 1], 15), 2)
    assert (group[apart.argmin(axis=1)] == group).all()


def test_the_map_is_the_same_every_time_and_holds_the_first_images_of_each_domain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(neighbours, "MOST", 20)
    domains = [normal(30), normal(6, 1.0, seed=1)]

    found, again = neighbour_map(domains, 3), neighbour_map([domains[0][:10], domains[1]], 3)

    assert [part.shape for part in found] == [(10, 2), (6, 2)]
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


def test_images_with_one_feature_or_all_alike_have_a_place() -> None:
    for rows in (normal(5, width=1), np.ones((5, 3))):
        assert all(np.isfinite(part).all() and part.shape == (5, 2) for part in neighbour_map([rows, rows], 0))
