import importlib.util

import numpy as np
import pytest
import torch
from torch import Tensor

from isthmus.core.monai_import import monai_import
from isthmus.data.augment.artifacts import with_artefacts
from tests.require import require

pytestmark = pytest.mark.slow  # the import of MONAI takes seconds
DTYPES = {torch.uint8: 255.0, torch.uint16: 65535.0, torch.float16: 1.0}


@pytest.fixture(autouse=True)
def with_monai() -> None:
    require("monai", importlib.util.find_spec("monai") is not None)


def images(dtype: torch.dtype = torch.uint8, channels: int = 1, count: int = 6, side: int = 32) -> Tensor:
    """Smooth blobs about the middle of the range, each channel its own."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    each = torch.arange(count * channels).reshape(count, channels, 1, 1) / (count * channels)
    values = 0.3 + 0.4 * torch.exp(-((rows - each) ** 2) * 4 - columns**2 * 3)
    return (values * DTYPES[dtype]).to(dtype)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_views_come_again_by_the_seed_and_keep_shape_and_dtype(dtype: torch.dtype) -> None:
    given = images(dtype, 3)

    first, second = (with_artefacts(given, 1.0, 9.0, seeded()) for _ in range(2))
    other = with_artefacts(given, 1.0, 9.0, seeded(1))

    assert type(first) is Tensor and (first.dtype, first.shape) == (given.dtype, given.shape)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert not any(torch.equal(a, b) for a, b in zip(first, given, strict=True))
    changed = (first.float() - given.float()).abs().mean() / DTYPES[dtype]
    assert 0.01 < changed < 0.2  # seen, and what the image shows is still there


def test_an_image_alone_is_what_monais_own_transforms_make_of_it() -> None:
    given = images()[:1]
    seeds = torch.randint(2**31, (1, 3), generator=seeded()).tolist()[0]
    with monai_import():
        from monai.transforms import RandBiasField, RandGaussianNoise, RandGibbsNoise
    chain = (
        RandBiasField(prob=1.0, coeff_range=(-0.3, 0.3)),
        RandGibbsNoise(prob=1.0, alpha=(0.0, 0.3)),
        RandGaussianNoise(prob=1.0, std=0.1),
    )
    expected = given[0].numpy().astype(np.float32) / 255
    for transform, seed in zip(chain, seeds, strict=True):
        expected = np.asarray(transform.set_random_state(seed)(expected))

    found = with_artefacts(given, 1.0, 9.0, seeded())

    assert np.abs(found[0].numpy().astype(int) - np.rint(expected.clip(0, 1) * 255)).max() <= 1


def test_a_grey_image_that_is_repeated_stays_grey_and_a_colour_image_does_not() -> None:
    grey, colour = images(channels=1).repeat(1, 3, 1, 1), images(channels=3)

    out = with_artefacts(torch.cat([grey, colour]), 1.0, 9.0, seeded())

    apart = [not torch.equal(image[0], image[1]) for image in out]
    assert apart == [False] * len(grey) + [True] * len(colour)


def test_about_the_share_of_images_is_changed_and_strength_decides_how_much() -> None:
    given = images(count=60, side=16)

    def changed(share: float, strength: float) -> Tensor:
        return (with_artefacts(given, share, strength, seeded()).float() - given.float()).abs().mean((1, 2, 3))

    assert 30 <= int((changed(0.3, 9.0) > 0).sum()) <= 50  # 1 - 0.7^3 of 60 is 39
    assert changed(1.0, 3.0).mean() < 0.5 * changed(1.0, 15.0).mean()
    for share, strength in ((0.0, 9.0), (1.0, 0.0)):
        assert torch.equal(with_artefacts(given, share, strength, seeded()), given)


def test_no_warning_and_no_line_reaches_the_user(
    capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    with_artefacts(images(), 1.0, 30.0, seeded())

    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
