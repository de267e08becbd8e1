"""The guards of masks: what counts as learned and as collapsed where most of an image is one class."""

from pathlib import Path

import numpy as np
import pytest

from isthmus.core import plugins
from isthmus.data.masks import IGNORED
from isthmus.evaluation.guards import TaskGuards
from isthmus.evaluation.masks import TrueMasks
from isthmus.evaluation.trained import UNKNOWN, open_trained, read_samples
from tests.mask_scenario import CLASSES, GRID, write_mask_scenario

MASKS = ["change", "segmentation"]


@pytest.fixture(params=MASKS)
def guards(request: pytest.FixtureRequest) -> TaskGuards:
    found: TaskGuards = plugins.load("evaluation.guards", request.param).Guards()
    return found


def labels(share: float, count: int = 4000) -> np.ndarray:
    return (np.arange(count) < share * count).astype(np.int64)


def test_rows_are_cells_with_the_most_frequent_class_of_their_pixels(guards: TaskGuards, tmp_path: Path) -> None:
    files = write_mask_scenario(tmp_path)
    samples = read_samples(files.manifest, files.prepared)
    runs = open_trained(files.trained, ["source_only"], CLASSES, len(samples.label))
    path = files.prepared / "masks" / "domain0-all.npy"
    masks = np.load(path)
    masks[0, :4, :4] = IGNORED
    np.save(path, masks)

    rows = guards.rows(samples, runs, files.prepared)

    cells = GRID * GRID
    assert len(rows.label) == 44 * cells and (rows.label[22 * cells :] == UNKNOWN).all()
    assert rows.label[0] == UNKNOWN  # no pixel of it is scored
    mask, size = TrueMasks(files.prepared).take(np.array([5]))[0], masks.shape[1] // GRID
    block = mask[3 * size : 4 * size, 4 * size : 5 * size]
    assert rows.label[5 * cells + 3 * GRID + 4] == np.bincount(block[block != IGNORED]).argmax()
    assert rows.split[: 2 * cells].tolist() == ["train"] * (2 * cells)
    assert rows.group[0] == rows.group[cells - 1] != rows.group[cells]


def test_always_naming_the_most_frequent_class_learned_nothing_however_often_it_is_right(
    guards: TaskGuards,
) -> None:
    truth = labels(0.03)

    learned, p_value = guards.learned(np.zeros((1, len(truth)), np.int64), truth, 0.05)

    assert not learned and p_value == 1.0


def test_chance_predictions_are_not_learned_and_weak_but_real_ones_are(guards: TaskGuards) -> None:
    truth, rng = labels(0.1), np.random.default_rng(0)
    weak = np.where(rng.random((3, len(truth))) < 0.15, truth, rng.integers(0, 2, (3, len(truth))))

    assert not guards.learned(rng.integers(0, 2, (1, len(truth))), truth, 0.01)[0]
    assert guards.learned(weak, truth, 0.05)[0]
    assert not guards.learned(1 - weak, truth, 0.05)[0]  # hangs together, and is wrong
    assert guards.learned(np.zeros((1, 9), np.int64), np.zeros(9, np.int64), 0.05) == (True, 1.0)  # nothing to show


def test_images_that_are_nearly_all_background_in_the_source_may_be_so_in_the_target(
    guards: TaskGuards,
) -> None:
    one_class = np.zeros((1, 4000), np.int64)

    assert guards.collapsed(one_class, labels(0.03), 2)
    assert not guards.collapsed(labels(0.02)[None], labels(0.03), 2)
    assert guards.collapsed(labels(0.002)[None], labels(0.3), 2)
    assert not guards.collapsed(labels(0.05)[None], labels(0.3), 2)
