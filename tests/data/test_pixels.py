import numpy as np
import pytest

from isthmus.core.errors import DataError
from isthmus.data.image import Image
from isthmus.data.pixels import DepthFit, centre_square, to_eight_bit, with_channels


def fit(*arrays: np.ndarray) -> dict[str, list[float]]:
    depth = DepthFit()
    list(depth.watch([Image(a[..., None], "grey") for a in arrays]))
    return depth.ranges()


def test_eight_bit_pixels_are_untouched_whatever_was_fitted() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)

    assert to_eight_bit(pixels, {"uint8": [3.0, 4.0], "uint16": [0.0, 1.0]}) is pixels


def test_the_range_of_deep_images_is_that_of_their_quantiles() -> None:
    ramp = np.arange(1000, 2001, dtype=np.uint16).reshape(7, 143)

    low, high = fit(ramp, ramp)["uint16"]

    assert low == pytest.approx(1005, abs=3)
    assert high == pytest.approx(1995, abs=3)


def test_a_fitted_range_becomes_0_to_255_and_what_lies_outside_is_clipped() -> None:
    pixels = np.array([[900, 1000], [1500, 2000], [2100, 1250]], np.uint16)

    found = to_eight_bit(pixels, {"uint16": [1000.0, 2000.0]})

    assert found.tolist() == [[0, 0], [128, 255], [255, 64]]


def test_a_domain_of_eight_bit_images_fits_no_range() -> None:
    assert fit(np.zeros((4, 4), np.uint8)) == {}


def test_float_pixels_without_a_fitted_range_are_refused() -> None:
    with pytest.raises(DataError, match="pixels are float32 but no training image of this domain is"):
        to_eight_bit(np.zeros((2, 2, 1), np.float32), {})


def test_invalid_and_not_finite_pixels_do_not_move_the_range() -> None:
    pixels = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10, 1)
    odd = pixels.copy()
    odd[0, 0], odd[0, 1] = np.nan, 1e9
    valid = np.ones((10, 10), bool)
    valid[0, 1] = False
    depth = DepthFit()
    list(depth.watch([Image(odd, "grey", valid=valid)]))

    assert 0 <= depth.ranges()["float32"][0] < depth.ranges()["float32"][1] <= 1


def test_grey_is_repeated_and_colour_becomes_luma() -> None:
    grey = np.full((2, 2, 1), 77, np.uint8)
    red = np.full((2, 2, 3), (255, 0, 0), np.uint8)

    assert with_channels(grey, 3)[0, 0].tolist() == [77, 77, 77]
    assert with_channels(red, 1)[0, 0].tolist() == [76]  # 0.299 * 255


def test_an_image_of_four_bands_is_refused() -> None:
    with pytest.raises(DataError, match=r"image has 4 channels; this kind takes 1 \(grey\) or 3 \(RGB\)"):
        with_channels(np.zeros((2, 2, 4), np.uint8), 3)


def test_the_centre_is_kept_and_nothing_is_stretched() -> None:
    wide = np.zeros((10, 30, 1), np.uint8)
    wide[:, 10:20] = 200

    assert (centre_square(wide, 10)[..., 0] == 200).all()


def test_a_square_of_the_right_side_is_untouched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)

    assert centre_square(pixels, 20) is pixels
