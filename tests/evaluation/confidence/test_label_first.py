"""The list 'label these first': unsure and novel images, not one another's copies, with true reasons."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from isthmus.evaluation.confidence.label_first import label_first, neighbours, reason, spread


def confident(count: int, classes: int = 3) -> np.ndarray:
    return np.eye(classes)[np.arange(count) % classes] * 0.97 + 0.01


def test_neighbours_are_those_of_a_full_table_of_distances() -> None:
    rng = np.random.default_rng(0)
    rows, among = rng.normal(size=(30, 5)) + 100, rng.normal(size=(20, 5)) + 100
    table = cdist(rows, among)

    places, distances = neighbours(rows, among, 3)

    assert (places == table.argsort(axis=1)[:, :3]).all()
    assert distances == pytest.approx(np.sort(table, axis=1)[:, :3], abs=1e-9)
    assert neighbours(rows, among[:2], 5)[0].shape == (30, 2)


def test_the_spread_is_greedy_k_centre_as_a_slow_version_finds_it() -> None:
    rows = np.random.default_rng(1).normal(size=(25, 3))
    taken = [0]
    while len(taken) < 6:
        gaps = [min(np.linalg.norm(row - rows[t]) for t in taken) for row in rows]
        taken.append(int(np.argmax(gaps)))

    assert spread(rows, 6).tolist() == taken


def test_an_unsure_image_and_a_novel_one_lead_the_list_with_their_reasons() -> None:
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(50, 4)), rng.normal(size=(40, 4))
    chances = confident(40)
    chances[7] = [0.4, 0.35, 0.25]
    target[11] += 30

    told = {query.place: query for query in label_first(chances, target, source, wanted=5)}

    assert {7, 11} <= set(told)
    assert "between a (40%) and b (35%)" in reason(told[7], ["a", "b", "c"])
    assert told[11].novelty == 1.0 and told[11].novel
    assert "than any other target image" in reason(told[11], ["a", "b", "c"])


def test_copies_of_one_image_are_listed_once() -> None:
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(50, 4)), rng.normal(size=(60, 4))
    chances = confident(60)
    target[:30] = target[0] + 20
    chances[:30] = 1 / 3

    places = [query.place for query in label_first(chances, target, source, wanted=10)]

    assert sum(place < 30 for place in places) == 1
    assert len(places) == len(set(places)) == 10


def test_fewer_images_than_wanted_are_all_listed() -> None:
    target = np.random.default_rng(0).normal(size=(4, 3))

    assert len(label_first(confident(4), target, target + 1)) == 4
