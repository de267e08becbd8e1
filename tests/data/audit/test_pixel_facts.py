import numpy as np
import pytest

from isthmus.data.audit.pixel_facts import pixel_facts
from isthmus.data.image import Image


@pytest.mark.parametrize(("top", "dtype"), [(255, np.uint8), (4095, np.uint16), (65535, np.uint16), (4095, np.int16)])
def test_the_share_of_saturated_pixels_is_counted_at_the_sensors_own_top(top: int, dtype: type) -> None:
    pixels = np.arange(100).reshape(10, 10, 1).astype(dtype)
    pixels[:3] = top

    assert pixel_facts(Image(pixels, "grey")).saturated == 0.3


def test_a_dark_image_is_not_saturated_and_a_float_one_has_no_top() -> None:
    assert pixel_facts(Image(np.full((4, 4, 1), 63, np.uint8), "grey")).saturated == 0
    assert pixel_facts(Image(np.ones((4, 4, 1), np.float32), "grey")).saturated is None


def test_pixels_without_data_count_for_nothing() -> None:
    pixels = np.full((8, 8, 1), 7.0, np.float32)
    pixels[0], pixels[1] = np.nan, 9999
    valid = np.ones((8, 8), bool)
    valid[1] = False

    facts = pixel_facts(Image(pixels, "grey", valid=valid))

    assert facts.constant
    assert np.isfinite(facts.corners).all()


def test_corners_are_mean_and_spread_of_each_corner_in_reading_order() -> None:
    pixels = np.zeros((16, 32, 1), np.uint8)
    pixels[:2, -2:], pixels[-2:, :2] = 100, [[[0]], [[200]]]

    assert pixel_facts(Image(pixels, "grey")).corners.tolist() == [0, 0, 100, 0, 100, 100, 0, 0]


@pytest.mark.parametrize("channels", [1, 3, 13])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32])
def test_facts_are_those_of_the_obvious_way(dtype: type, channels: int) -> None:
    rng = np.random.default_rng(channels)
    pixels = rng.integers(0, 128, (37, 61, channels)).astype(dtype)
    pixels[rng.random(pixels.shape) < 0.1] = 255

    facts = pixel_facts(Image(pixels, "bands"))

    side = 4
    patches = [
        pixels[rows, columns]
        for rows in (slice(side), slice(-side, None))
        for columns in (slice(side), slice(-side, None))
    ]
    greys = [patch.mean(axis=2, dtype=np.float64) for patch in patches]
    assert facts.corners.tolist() == np.array([(g.mean(), g.std()) for g in greys], np.float32).ravel().tolist()
    share = round(float((pixels == 255).any(axis=2).mean()), 6)
    assert facts.saturated == (None if dtype is np.float32 else share)
    assert not facts.constant


def test_an_image_without_any_data_is_constant_and_has_no_share() -> None:
    facts = pixel_facts(Image(np.ones((4, 4, 1), np.uint8), "grey", valid=np.zeros((4, 4), bool)))

    assert (facts.constant, facts.saturated) == (True, None)
