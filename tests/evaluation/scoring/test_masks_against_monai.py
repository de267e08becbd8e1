"""Our scores of masks against those of MONAI."""

import importlib.util

import numpy as np
import pytest
import torch

from isthmus.core.monai_import import monai_import
from isthmus.evaluation.scoring import masks
from tests.evaluation.scoring.mask_files import blobs, moved
from tests.require import require

pytestmark = [
    pytest.mark.slow,  # the import of MONAI takes seconds
    # MONAI 1.6 calls its own function with an argument that it has deprecated
    pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.* is all 0, this may result in nan/inf distance:UserWarning"),
]


@pytest.fixture(autouse=True)
def with_monai() -> None:
    require("monai", importlib.util.find_spec("monai") is not None)


def one_hot(values: np.ndarray, classes: int) -> torch.Tensor:
    """`[N, K, H, W]`."""
    return torch.nn.functional.one_hot(torch.from_numpy(values).long(), classes).movedim(-1, 1)


@pytest.mark.parametrize("classes", [2, 4])
def test_iou_and_dice_of_each_class_are_monais_on_all_images_laid_side_by_side(classes: int) -> None:
    with monai_import():
        from monai.metrics import compute_dice, compute_iou
    truth = blobs(5, classes, seed=classes)
    predicted = moved(truth, seed=1)
    counts = masks.confusions(predicted, truth, classes).sum(axis=0)
    one_image = [one_hot(m.reshape(1, -1, m.shape[-1]), classes) for m in (predicted, truth)]

    np.testing.assert_allclose(masks.class_iou(counts), compute_iou(*one_image)[0], atol=1e-6)
    np.testing.assert_allclose(masks.class_dice(counts), compute_dice(*one_image)[0], atol=1e-6)


@pytest.mark.parametrize("tolerance", [0.0, 1.5, 2.0])
def test_boundary_scores_are_monais_surface_dice(tolerance: float) -> None:
    with monai_import():
        from monai.metrics import compute_surface_dice
    truth = blobs(6, 4, seed=7)
    truth[0][truth[0] == 3] = 0  # a class that only the prediction holds
    predicted = moved(truth, seed=1)
    predicted[1][predicted[1] == 2] = 0  # and one that only the truth holds

    ours = masks.boundary_scores(predicted, truth, 4, tolerance)

    theirs = compute_surface_dice(
        one_hot(predicted, 4), one_hot(truth, 4), class_thresholds=[tolerance] * 4, include_background=True
    ).numpy()
    present = np.stack([[(mask == k).any() for k in range(4)] for mask in truth])
    assert present.sum() >= 18
    np.testing.assert_allclose(ours[present], theirs[present], atol=1e-6)
    assert np.isnan(ours[~present]).all()
