from collections.abc import Callable

import pytest
import torch

from isthmus.data.augment.views import cropped, cut_mixed, erased, mixed, oriented, strong_view, weak_view


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_weak_view_moves_each_image_by_at_most_so_many_pixels() -> None:
    images = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).repeat(20, 1, 1, 1)

    moved = weak_view(images, 2, generator())

    shifts = {(int(image[0, 4, 4]) - 36) for image in moved}
    assert shifts <= {8 * row + column for row in range(-2, 3) for column in range(-2, 3)}
    assert len(shifts) > 5
    assert moved.dtype == torch.uint8


def test_no_shift_and_no_image_are_left_alone() -> None:
    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)

    assert weak_view(images, 0, generator()) is images
    assert len(strong_view(images[:0], 1, generator())) == 0


@pytest.mark.parametrize(("dtype", "high"), [(torch.uint8, 255), (torch.float16, 1)])
def test_a_strong_view_stays_in_range_cuts_a_square_and_is_seeded(dtype: torch.dtype, high: int) -> None:
    images = (torch.rand(6, 3, 16, 16, generator=generator(1)) * high).to(dtype)

    first, second = strong_view(images, 1, generator(2)), strong_view(images, 1, generator(2))

    assert torch.equal(first, second)
    assert first.dtype == dtype
    assert float(first.float().min()) >= 0 and float(first.float().max()) <= high
    assert not torch.equal(first, images)


@pytest.mark.parametrize(("how", "kinds"), [("none", 1), ("mirror", 2), ("turns", 8)])
def test_orientations_are_the_symmetries_that_were_asked_for_and_keep_every_pixel(how: str, kinds: int) -> None:
    images = torch.arange(48, dtype=torch.uint8).reshape(1, 3, 4, 4).repeat(200, 1, 1, 1)

    turned = oriented(images, how, generator())

    assert len({tuple(image.flatten().tolist()) for image in turned}) == kinds
    assert torch.equal(turned.flatten(2).sort(dim=2).values, images.flatten(2).sort(dim=2).values)
    if how == "mirror":
        assert {tuple(image[0, 0].tolist()) for image in turned} == {(0, 1, 2, 3), (3, 2, 1, 0)}


DEEP = (torch.rand(6, 5, 16, 16, generator=generator(3)) * 65535).to(torch.uint16)


@pytest.mark.parametrize(
    "view",
    [
        lambda images: weak_view(images, 2, generator()),
        lambda images: strong_view(images, 2, generator()),
        lambda images: cropped(images, 0.5, generator()),
        lambda images: erased(images, 1.0, generator()),
        lambda images: mixed(images, torch.eye(6), 1.0, generator())[0],
        lambda images: cut_mixed(images, torch.eye(6), 1.0, generator())[0],
        *(lambda images, how=how: oriented(images, how, generator()) for how in ("mirror", "turns")),
    ],
)
def test_images_of_sixteen_bits_keep_their_depth_in_every_view(view: Callable) -> None:
    seen = view(DEEP)

    assert (seen.dtype, seen.shape) == (torch.uint16, DEEP.shape)
    shares = view(
        DEEP.float() / 65535
    )  # float32 has all values of sixteen bits; what is computed is rounded or cut off
    assert float((seen.float() - 65535 * shares).abs().max()) <= 1.01


def test_a_crop_shows_at_least_so_much_of_the_area_and_fills_the_image() -> None:
    ramp = torch.arange(64, dtype=torch.float32).view(1, 1, 1, 64).expand(100, 1, 64, 64)

    shown = cropped(ramp / 64, 0.25, generator())

    width = (shown.amax(dim=(1, 2, 3)) - shown.amin(dim=(1, 2, 3))) + 1 / 64
    assert shown.shape == ramp.shape
    assert 0.45 < float(width.min()) < 0.6 and float(width.max()) > 0.9  # of a quarter of the area the side is a half
    assert cropped(ramp, 1.0, generator()) is ramp


def stripes(count: int = 4) -> torch.Tensor:
    """Image n is full of the value 10 (n + 1)."""
    return (10 * torch.arange(1, count + 1, dtype=torch.uint8)).view(-1, 1, 1, 1).expand(count, 3, 16, 16).clone()


@pytest.mark.parametrize("mix", [mixed, cut_mixed])
def test_labels_are_mixed_by_what_each_image_gave(mix: Callable) -> None:
    labels = torch.eye(4)

    for seed in range(10):
        images, soft = mix(stripes(), labels, 1.0, torch.Generator().manual_seed(seed))
        # the mean of an image is the mean of the values, weighted by what each gave
        expected = soft @ torch.tensor([10.0, 20.0, 30.0, 40.0])
        assert images.dtype == torch.uint8
        assert torch.allclose(images.float().mean(dim=(1, 2, 3)), expected, atol=0.51)
        assert torch.allclose(soft.sum(1), torch.ones(4))


def test_mixup_blends_every_pixel_and_cutmix_pastes_one_rectangle() -> None:
    labels = torch.eye(4)

    blended = mixed(stripes(), labels, 1.0, torch.Generator().manual_seed(1))[0]
    pasted = cut_mixed(stripes(), labels, 1.0, torch.Generator().manual_seed(1))[0]

    assert all(len(image.unique()) == 1 for image in blended)
    assert {int(value) for value in pasted.unique()} <= {10, 20, 30, 40}
    for image, own in zip(pasted, (10, 20, 30, 40), strict=True):
        rows, columns = (image[0] != own).nonzero(as_tuple=True)
        if len(rows):
            assert len(rows) == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)


def test_lambda_follows_the_beta_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    pair = torch.stack([torch.zeros(1, 1, 1), torch.ones(1, 1, 1)])
    first = [mixed(pair, torch.eye(2), 0.4, generator)[1][0, 0] for _ in range(2000)]
    shares = torch.stack([value for value in first if value < 1])  # the others were paired with themselves

    assert float(shares.mean()) == pytest.approx(0.5, abs=0.04)
    assert float(shares.var()) == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.015)  # 1 / (4 (2 alpha + 1))


def test_erasing_fills_one_rectangle_with_the_mean_in_about_the_wanted_share() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (400, 3, 20, 30), generator=generator, dtype=torch.uint8)
    images[:, :, 0, 0] = 254

    changed = erased(images, 0.3, generator)

    touched = [(old != new).any(0) for old, new in zip(images, changed, strict=True)]
    areas = [float(mask.float().mean()) for mask in touched if mask.any()]
    assert len(areas) / 400 == pytest.approx(0.3, abs=0.06)
    assert min(areas) > 0.005
    assert max(areas) < 0.4
    number = next(n for n, mask in enumerate(touched) if mask.any())
    rows, columns = touched[number].nonzero(as_tuple=True)
    inside = changed[number, :, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    expected = images[number].float().mean(dim=(1, 2)).to(torch.uint8)
    assert torch.equal(inside, expected.view(3, 1, 1).expand_as(inside))
    assert torch.equal(erased(images, 0.0, generator), images)
