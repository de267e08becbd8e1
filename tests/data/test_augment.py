import pytest
import torch

from isthmus.data.augment import strong_view, weak_view


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
