"""Features of cells, and masks from their logits."""

import numpy as np
import pytest
import torch

from isthmus.core.errors import ConfigError
from isthmus.models.backbones.small_cnn import Config as SmallCnn
from isthmus.models.backbones.timm import Config as Timm
from isthmus.models.cells import CellEncoder
from isthmus.models.classifier import Standardise, same_for_all
from isthmus.models.embedding import encode
from isthmus.models.upsampling import upsampled


def encoder(images: int = 1, layer: int | None = None) -> CellEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Timm(architecture="test_vit", weights="random", image_size=32).skeleton(3, 32)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
    pixels = Standardise(same_for_all([0.5] * 3, 1), same_for_all([0.25] * 3, 1))
    return CellEncoder(network, pixels, images, layer).eval()


def pixels(count: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, channels), dtype=np.uint8)


def test_an_image_has_a_row_of_features_for_each_cell_of_its_grid() -> None:
    given = encoder()

    found = encode(given, pixels(3), torch.device("cpu"))

    assert given.grid == (2, 2)
    assert (found.shape, found.dtype) == ((3, 4, 64), np.float16)
    assert not np.allclose(found[:, 0], found[:, 3])


@pytest.mark.parametrize("layer", [None, 3])
def test_two_images_of_a_place_give_their_difference_and_their_mean(layer: int | None) -> None:
    both = pixels(2, 6)

    found = encode(encoder(2, layer), both, torch.device("cpu")).astype(np.float32)

    one, other = (
        encode(encoder(1, layer), both[..., first : first + 3], torch.device("cpu")).astype(np.float32)
        for first in (0, 3)
    )
    np.testing.assert_allclose(found[..., :64], np.abs(one - other), atol=4e-3)
    np.testing.assert_allclose(found[..., 64:], (one + other) / 2, atol=4e-3)


def test_the_same_image_twice_has_no_difference() -> None:
    once = pixels(1)

    found = encode(encoder(2), np.concatenate([once, once], axis=3), torch.device("cpu"))

    assert not found[..., :64].any()


def test_logits_of_pixels_are_those_of_the_cells_at_their_centres_and_in_order() -> None:
    logits = torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0], [0.0, 4.0]])  # one image of 2 x 2 cells

    found = upsampled(logits, (2, 2), 4)

    assert found.shape == (1, 2, 4, 4)
    assert found[0, 1, [0, 0, 3, 3], [0, 3, 0, 3]].tolist() == [1, 2, 3, 4]
    assert found[0, 1].mean().item() == pytest.approx(2.5)


def test_a_network_without_features_by_place_is_refused() -> None:
    network = SmallCnn().skeleton(3, 28)
    given = CellEncoder(network, Standardise(same_for_all([0.0] * 3, 1), same_for_all([1.0] * 3, 1)))

    with pytest.raises(ConfigError, match=r"features by place need a network of timm \(got .*\). Set name: timm"):
        given(torch.zeros(1, 3, 28, 28, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
