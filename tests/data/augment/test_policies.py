import numpy as np
import pytest
import torch
from torch import Tensor

from isthmus.core import plugins
from isthmus.data.augment.policies import augmixed, changed_by, operations, rand_augmented

EVERY = operations("natural", torch.uint8, 3)
DTYPES = {torch.uint8: 3, torch.uint16: 5, torch.float16: 1}


def images(dtype: torch.dtype = torch.uint8, count: int = 6, side: int = 24) -> Tensor:
    values = torch.rand(count, DTYPES[dtype], side, side, generator=torch.Generator().manual_seed(0))
    high = {torch.uint8: 255, torch.uint16: 65535, torch.float16: 1}[dtype]
    return (values * high).to(dtype)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", plugins.names("data.kinds"))
@pytest.mark.parametrize("overlapping", [True, False])
def test_no_kind_is_flipped_or_turned_in_hue_and_measurements_keep_their_tones(kind: str, overlapping: bool) -> None:
    tones = {"autocontrast", "equalize", "posterize", "solarize", "colour"}
    for dtype, channels in DTYPES.items():
        names = operations(kind, dtype, channels, overlapping=overlapping)

        assert not any("flip" in name or "hue" in name for name in names)
        assert len(names) >= 5
        if dtype != torch.uint8 or kind in ("medical", "remote_sensing"):
            assert not tones & set(names)


def test_photographs_have_the_operations_of_the_papers() -> None:
    assert len(EVERY) == 13  # and the identity of figure 2, which strength 0 is
    assert not {"brightness", "contrast", "sharpness", "colour"} & set(
        operations("natural", torch.uint8, 3, overlapping=False)
    )
    assert "colour" not in operations("natural", torch.uint8, 1)


def test_leaf_operations_by_hand() -> None:
    image = images()[0].float() / 255
    grey = (image * torch.tensor([0.2989, 0.587, 0.114]).view(3, 1, 1)).sum(0)
    expected = {
        "brightness": (image * 1.45).clamp(0, 1),
        "contrast": (1.45 * image - 0.45 * grey.mean()).clamp(0, 1),
        "colour": (1.45 * image - 0.45 * grey).clamp(0, 1),
        "solarize": torch.where(image >= 0.5, 1 - image, image),
        "posterize": ((image * 255).round().to(torch.uint8) & 0b11111100).float() / 255,
        "autocontrast": (image - image.amin((1, 2), True)) / (image.amax((1, 2), True) - image.amin((1, 2), True)),
    }

    for name, wanted in expected.items():
        torch.testing.assert_close(changed_by(image, name, 0.5, 1), wanted, atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize(("name", "axis"), [("translate_x", 2), ("translate_y", 1)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_translation_moves_by_its_share_of_the_side_and_uncovers_the_mean(name: str, axis: int, sign: int) -> None:
    image = images(torch.uint16)[0].float() / 65535
    pixels = int(150 / 331 * 0.5 * 24)

    found = changed_by(image, name, 0.5, sign)

    moved = torch.roll(image, sign * pixels, axis)
    for band in range(5):
        slices = [band, slice(None), slice(None)]
        slices[axis] = slice(0, pixels) if sign == 1 else slice(24 - pixels, 24)
        moved[tuple(slices)] = image[band].mean()
    torch.testing.assert_close(found, moved, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("policy", [rand_augmented, augmixed])
def test_draws_come_again_by_the_seed_and_keep_shape_and_dtype(policy: object, dtype: torch.dtype) -> None:
    given = images(dtype)
    allowed = operations("natural", dtype, DTYPES[dtype])

    first, again, other = (policy(given, 2, 12.0, allowed, seeded(seed)) for seed in (1, 1, 2))  # type: ignore[operator]

    assert torch.equal(first, again)
    assert not torch.equal(first.float(), other.float())
    assert (first.shape, first.dtype) == (given.shape, dtype)
    assert not torch.equal(first.float(), given.float())
    assert policy(given[:0], 2, 12.0, allowed, seeded()).shape == given[:0].shape  # type: ignore[operator]


@pytest.mark.parametrize("policy", [rand_augmented, augmixed])
def test_strength_zero_and_a_constant_image_stay_as_they_are(policy: object) -> None:
    names = [name for name in EVERY if name not in ("autocontrast", "equalize", "solarize")]  # these have no zero
    geometry = operations("medical", torch.uint8, 3, overlapping=False)
    even = torch.full((4, 3, 24, 24), 93, dtype=torch.uint8)

    assert torch.equal(policy(images(), 3, 0.0, names, seeded()), images())  # type: ignore[operator]
    # what is uncovered has the mean, and the weights of the mixture sum to one
    assert torch.equal(policy(even, 3, 30.0, geometry, seeded()), even)  # type: ignore[operator]


def test_randaugment_draws_each_operation_evenly_and_each_direction_too() -> None:
    even = torch.full((2000, 1, 2, 2), 100, dtype=torch.uint8)

    found = rand_augmented(even, 1, 10.0, ("brightness", "posterize"), seeded())[:, 0, 0, 0].numpy()

    values, counts = np.unique(found, return_counts=True)
    assert values.tolist() == [70, 100, 130]  # 100 x (1 -+ 0.3); 100 with one bit less is 100
    np.testing.assert_allclose(counts / 2000, [0.25, 0.5, 0.25], atol=0.04)


def test_augmix_keeps_an_even_share_of_the_image_itself() -> None:
    dark = torch.full((3000, 1, 1, 1), 200, dtype=torch.uint8)

    found = augmixed(dark, 1, 30.0, ("solarize",), seeded())[:, 0, 0, 0].float()

    # solarized once it is 55 where the threshold is below it: drawn strength over 55/255, an odd number of times
    assert 55 <= float(found.min()) < 60
    assert float(found.max()) == 200
    assert 100 < float(found.mean()) < 175
