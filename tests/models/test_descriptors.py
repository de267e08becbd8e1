"""Hand-made descriptors: worked out by hand where that can be done, and what they must not depend on."""

import numpy as np
import pytest
import torch

from isthmus.models.descriptors import _shape, _texture, describe

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("side", "channels"), [(12, 1), (28, 1), (154, 3), (40, 6)])
def test_a_row_has_the_stated_length_and_depends_on_its_own_image_alone(side: int, channels: int) -> None:
    images = RNG.integers(0, 256, (5, side, side, channels), dtype=np.uint8)

    rows = describe(images)

    assert rows.shape == (5, 172 + 10 * channels)
    assert rows.dtype == np.float32
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(describe(images[3:4])[0], rows[3], atol=1e-6)


def test_dtypes_of_one_image_give_one_row() -> None:
    image = RNG.integers(0, 256, (1, 20, 20, 3), dtype=np.uint8)

    wide = describe(image.astype(np.uint16) * 257)
    floating = describe((image / 255).astype(np.float32))

    np.testing.assert_allclose(wide, describe(image), atol=1e-5)
    np.testing.assert_allclose(floating, describe(image), atol=1e-5)


def test_colour_is_mean_spread_and_the_square_root_of_the_histogram() -> None:
    image = np.zeros((1, 16, 16, 1), dtype=np.uint8)
    image[0, :, :8] = 255  # half black, half white

    mean, spread, *shares = describe(image)[0, :10]

    assert mean == pytest.approx(0.5)
    assert spread == pytest.approx(0.5, abs=0.01)
    assert shares == pytest.approx([np.sqrt(0.5), *[0.0] * 6, np.sqrt(0.5)], abs=1e-6)


def test_the_patterns_equal_a_slow_count() -> None:
    grey = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    values, counts = grey[0, 0].numpy(), np.zeros(10)
    ring = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
    for row in range(1, 8):
        for column in range(1, 8):
            bits = [values[row - a, column - b] >= values[row, column] for a, b in ring]
            changes = sum(bits[n] != bits[n - 1] for n in range(8))
            counts[sum(bits) if changes <= 2 else 9] += 1

    found = _texture(grey)[0].numpy()

    np.testing.assert_allclose(found[:10], np.sqrt(counts / 49), atol=1e-6)


def test_stripes_are_told_by_their_orientation_and_not_by_their_turn_in_the_whole_image() -> None:
    wave = torch.sin(torch.linspace(0, 12 * torch.pi, 64)).view(1, 1, 1, 64).expand(1, 1, 64, 64) / 2 + 0.5
    upright, lying = _shape(wave)[0], _shape(wave.transpose(2, 3))[0]
    cells = upright[:128].view(8, 16).sum(dim=1)

    assert int(cells.argmax()) == 0  # the gradient runs across
    assert int(lying[:128].view(8, 16).sum(dim=1).argmax()) == 4
    torch.testing.assert_close(upright[128:], lying[128:], atol=1e-4, rtol=0)


def test_a_flat_image_has_no_shape_and_no_contrast() -> None:
    row = describe(np.full((1, 32, 32, 1), 77, dtype=np.uint8))[0]

    assert np.abs(row[-136:]).max() < 1e-6
    assert row[1] == pytest.approx(0.0, abs=1e-6)
