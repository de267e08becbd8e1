"""Masks from logits of cells, and true masks in the order of the index."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import zoom

from isthmus.core.errors import DataError
from isthmus.data.masks import IGNORED
from isthmus.evaluation.masks import TrueMasks, predicted_masks, predicted_pixels
from isthmus.evaluation.trained import grid_of, open_trained
from tests.mask_scenario import CLASSES, GRID, SIDE, write_mask_scenario


def test_true_masks_come_in_the_asked_order_and_the_targets_only_where_they_are_given(tmp_path: Path) -> None:
    files = write_mask_scenario(tmp_path)
    source, target = np.load(files.prepared / "masks/domain0-all.npy"), np.load(files.masks_target / "domain1-all.npy")
    rows = np.array([30, 3, 43])

    without, both = TrueMasks(files.prepared), TrueMasks(files.prepared, files.masks_target)

    np.testing.assert_array_equal(both.take(rows), [target[8], source[3], target[21]])
    assert (without.take(rows)[[0, 2]] == IGNORED).all() and (without.take(rows)[1] == source[3]).all()
    assert both.scored(rows).tolist() == [True, True, False] and without.scored(rows).tolist() == [False, True, False]


def test_the_mask_is_the_likeliest_class_after_enlarging_and_any_rows_in_any_order_are_alike() -> None:
    logits = np.random.default_rng(0).normal(size=(20 * GRID * GRID, 3)).astype(np.float32)
    rows = np.arange(20)[::-1].copy()

    masks = predicted_masks(logits, rows, (GRID, GRID), SIDE)

    np.testing.assert_array_equal(masks[3], predicted_masks(logits, rows[3:4], (GRID, GRID), SIDE)[0])
    cells = logits.reshape(20, GRID, GRID, 3)[rows[3]]
    enlarged = np.stack([zoom(cells[..., k], SIDE // GRID, order=1, mode="nearest", grid_mode=True) for k in range(3)])
    np.testing.assert_array_equal(masks[3], enlarged.argmax(axis=0))
    assert predicted_masks(logits, rows[:0], (GRID, GRID), SIDE).shape == (0, SIDE, SIDE)
    places, pixels = zip(*predicted_pixels(logits, rows, (GRID, GRID), SIDE), strict=True)
    assert np.concatenate(places).tolist() == list(range(20))
    np.testing.assert_allclose(np.concatenate(pixels).sum(axis=1), 1, rtol=1e-5)


def test_cells_must_be_a_square_grid(tmp_path: Path) -> None:
    files = write_mask_scenario(tmp_path)
    run = open_trained(files.trained, ["mmd"], CLASSES, 44)["mmd"]

    assert grid_of(run) == (GRID, GRID)
    for cells in (1, 12):
        run.facts = run.facts.model_copy(update={"cells": cells})
        with pytest.raises(DataError, match=r"'mmd' was trained on images and not on cells of a grid. Run: dvc repro"):
            grid_of(run)
