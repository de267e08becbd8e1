"""The pool's vote and the neighbourhoods that smooth it."""

import numpy as np

from isthmus.evaluation.selection.consensus import nearest, principal, vote

NOBODY = np.zeros((2, 0), dtype=np.int64)


def test_each_method_has_one_voice_however_many_candidates_it_has() -> None:
    one, other = np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([[0.0, 1.0], [0.95, 0.05]])

    labels = vote({"many": [one] * 9, "single": [other]}, NOBODY)

    assert labels.tolist() == [1, 0]


def test_neighbours_turn_a_vote_that_stands_alone_and_weakly() -> None:
    votes = np.array([[0.45, 0.55], [1.0, 0.0], [1.0, 0.0]])
    around = np.array([[1, 2], [2, 1], [1, 2]])

    assert vote({"m": [votes]}, np.zeros((3, 0), dtype=np.int64)).tolist() == [1, 0, 0]
    assert vote({"m": [votes]}, around).tolist() == [0, 0, 0]


def test_the_nearest_are_those_of_a_double_loop_and_never_the_image_itself() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 3))

    found = nearest(rows)

    for place, mine in enumerate(found):
        distances = np.linalg.norm(rows - rows[place], axis=1)
        distances[place] = np.inf
        assert set(mine) == set(np.argsort(distances)[:10])


def test_one_image_has_no_neighbours_and_few_have_fewer() -> None:
    assert nearest(np.zeros((1, 4))).shape == (1, 0)
    assert nearest(np.random.default_rng(0).normal(size=(4, 3))).shape == (4, 3)


def test_principal_directions_are_orthonormal_and_no_more_than_the_rank() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 2)) @ np.random.default_rng(1).normal(size=(2, 6))

    directions = principal(rows, 5)

    assert directions.shape == (6, 2)
    np.testing.assert_allclose(directions.T @ directions, np.eye(2), atol=1e-9)


def test_constant_features_have_a_direction_and_neighbours_all_the_same() -> None:
    assert principal(np.ones((5, 3)), 2).shape == (3, 1)
    assert nearest(np.ones((5, 3))).shape == (5, 4)
