"""Every corruption: range, type, seed, growing with severity; the single ones against hand-worked values."""

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from isthmus.evaluation.scoring import corruptions
from isthmus.evaluation.scoring.corruptions import SEVERITIES, corrupted, suite
from isthmus.evaluation.scoring.robustness import added_error, mean_corruption_error, robustness_document

KINDS = ("natural", "medical", "remote_sensing", "industrial")
EVERY = {name: corruption for kind in KINDS for name, corruption in suite(kind).items()}
RNG = np.random.default_rng


def picture(channels: int = 3, dtype: Any = np.uint8, side: int = 48) -> np.ndarray:
    """A smooth scene with edges and texture, within the range."""
    down, across = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side), indexing="ij")
    plane = 0.35 + 0.2 * np.sin(9 * down + 5 * across) + 0.15 * (across > 0.5)
    image = np.stack([plane * (1 - 0.1 * c) for c in range(channels)], axis=2) + 0.05 * RNG(0).random(
        (side, side, channels)
    )
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    return (np.clip(image, 0, 1) * top).astype(dtype)[None]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("name", sorted(EVERY))
def test_shape_type_and_range_stay(name: str, channels: int, dtype: Any) -> None:
    images = picture(channels, dtype)

    for severity in (1, 5):
        damaged = corrupted(images, name, EVERY[name], severity, 0)
        assert damaged.shape == images.shape and damaged.dtype == images.dtype
        assert np.isfinite(damaged).all() and damaged.min() >= 0
        assert np.issubdtype(dtype, np.integer) or damaged.max() <= 1


@pytest.mark.parametrize("name", sorted(EVERY))
def test_each_severity_lies_farther_from_the_image_than_the_one_before(name: str) -> None:
    images = picture(6, side=112)  # six bands, so that each severity of band dropout loses one more

    apart = [
        float(np.abs(corrupted(images, name, EVERY[name], s, 3).astype(float) - images).mean()) for s in SEVERITIES
    ]

    assert apart[0] > 0
    assert all(a < b for a, b in itertools.pairwise(apart)), apart


@pytest.mark.parametrize("name", sorted(EVERY))
def test_the_same_seed_gives_the_same_damage_and_a_place_its_own(name: str) -> None:
    images = np.repeat(picture(), 2, axis=0)

    first, second = (corrupted(images, name, EVERY[name], 3, 7) for _ in range(2))

    assert (first == second).all()
    drawn = name in {"noise", "bias_field", "season", "band_dropout"}
    if drawn and name != "band_dropout":  # with three bands two places may lose the same ones
        assert (first[0] != first[1]).any()
        assert (corrupted(images, name, EVERY[name], 3, 8) != first).any()
    elif not drawn:
        assert (first[0] == first[1]).all()


def test_every_kind_has_the_common_four_and_its_own() -> None:
    assert set(suite("natural")) == {"noise", "blur", "jpeg", "contrast"} < set(EVERY)
    assert set(suite("medical")) - set(suite("natural")) == {"bias_field", "spacing"}
    assert set(suite("remote_sensing")) - set(suite("natural")) == {"haze", "band_dropout", "season"}
    assert set(suite("industrial")) - set(suite("natural")) == {"light", "defocus"}


def test_noise_has_the_standard_deviation_of_imagenet_c() -> None:
    told = [corruptions.noise(np.zeros((200, 200, 1)), s, RNG(0)).std() for s in SEVERITIES]

    assert told == pytest.approx([0.08, 0.12, 0.18, 0.26, 0.38], rel=0.02)


def test_contrast_light_and_haze_by_hand() -> None:
    image = np.array([[[0.2], [0.6]]])

    assert corruptions.contrast(image, 1, RNG(0)).ravel() == pytest.approx([0.32, 0.48])
    assert corruptions.light(image, 5, RNG(0)).ravel() == pytest.approx([0.7, 1.1])  # clipped by `corrupted`
    assert corruptions.haze(image, 5, RNG(0)).ravel() == pytest.approx([0.8, 0.9])


def test_blur_of_224_pixels_is_scipys_and_scales_with_the_side() -> None:
    image = RNG(0).random((224, 224, 2))

    expected = np.stack([gaussian_filter(image[..., c], 2, mode="reflect") for c in range(2)], axis=2)
    assert corruptions.blur(image, 2, RNG(0)) == pytest.approx(expected)
    half = RNG(0).random((112, 112, 1))
    assert corruptions.blur(half, 2, RNG(0))[..., 0] == pytest.approx(gaussian_filter(half[..., 0], 1, mode="reflect"))


def test_defocus_spreads_a_point_over_a_disk_and_keeps_its_light() -> None:
    image = np.zeros((224, 224, 1))
    image[112, 112] = 1

    spread = corruptions.defocus(image, 1, RNG(0))[..., 0]

    assert spread.sum() == pytest.approx(1)
    down, across = np.nonzero(spread)
    assert np.hypot(down - 112, across - 112).max() < 3.5  # radius 3 [pixel at 224] and half a pixel of rim
    assert spread[112, 112] == pytest.approx(spread[114, 112])


def test_a_bias_field_is_smooth_and_the_same_for_all_bands() -> None:
    field = corruptions.bias_field(np.ones((40, 40, 2)), 5, RNG(1))

    assert (field[..., 0] == field[..., 1]).all() and (field > 0).all()
    assert np.abs(np.diff(field[..., 0], n=4, axis=0)).max() < 0.05


def test_spacing_keeps_a_flat_image_and_loses_fine_texture() -> None:
    board = (np.indices((48, 48)).sum(axis=0) % 2).astype(float)[..., None]

    assert corruptions.spacing(np.full((48, 50, 1), 0.3), 5, RNG(0)) == pytest.approx(np.full((48, 50, 1), 0.3))
    assert corruptions.spacing(board, 5, RNG(0)).std() < 0.05 * board.std()


def test_dead_bands_are_one_at_first_and_all_but_one_at_last_and_a_single_band_stays() -> None:
    dead = [int((corruptions.band_dropout(np.ones((2, 2, 6)), s, RNG(0))[0, 0] == 0).sum()) for s in SEVERITIES]

    assert dead == [1, 2, 3, 4, 5]
    assert (corruptions.band_dropout(np.ones((2, 2, 1)), 5, RNG(0)) == 1).all()


def test_the_mean_corruption_error_by_hand() -> None:
    floor = {"a": [0.2, 0.4], "b": [0.1, 0.1], "none": [0.0, 0.0]}
    chosen = {"a": [0.1, 0.2], "b": [0.2, 0.2], "none": [0.0, 0.1]}

    assert mean_corruption_error(chosen, floor) == pytest.approx((0.5 + 2.0) / 2)
    assert mean_corruption_error(floor, floor) == 1.0
    assert mean_corruption_error({"none": [0.1]}, {"none": [0.0]}) is None
    assert added_error(floor, 0.1) == pytest.approx((0.3 + 0.1 + 0.0) / 3 - 0.1)


def test_the_document_holds_each_domain_with_its_ratio() -> None:
    cells = {"line_a": {"coral": {"a": [0.1]}, "source_only": {"a": [0.2]}}}
    document = robustness_document(
        "coral", "source_only", {"line_a": {"coral": 0.0, "source_only": 0.1}}, cells, {"line_a": 7}
    )

    assert document["domains"]["line_a"]["mean_corruption_error"] == 0.5
    assert document["domains"]["line_a"]["added"] == pytest.approx({"coral": 0.1, "source_only": 0.1})
    assert document["domains"]["line_a"]["images"] == 7
