import io
import json

import numpy as np
import pytest
from PIL import Image as Pillow

from benchmarks.ingest import photograph as photograph_of
from isthmus.core import plugins
from isthmus.core.errors import DataError
from isthmus.data.image import Image
from isthmus.data.imaging.pixels import DepthFit, as_seen, centre_square, on_white, to_eight_bit, with_channels


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


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int16", "float32"])
@pytest.mark.parametrize("premultiplied", [False, True])
def test_transparency_is_shown_on_the_white_of_its_dtype(premultiplied: bool, dtype: str) -> None:
    top = 1.0 if dtype == "float32" else float(np.iinfo(dtype).max)
    alpha = np.array([0, 0.5, 1]) * top
    colour = np.full(3, 0.4 * top) * (alpha / top if premultiplied else 1)

    shown = on_white(colour.reshape(1, 3, 1).astype(dtype), alpha.reshape(1, 3, 1).astype(dtype), premultiplied)

    assert shown.dtype == dtype
    assert shown[0, :, 0] / top == pytest.approx([1, 0.7, 0.4], abs=0.005)


def test_an_image_that_marks_nothing_is_shown_as_it_is() -> None:
    image = Image(np.zeros((2, 2, 3), np.uint8), "rgb", {"bands": ["red", "green", "blue"]})

    assert as_seen(image) is image


@pytest.mark.parametrize("name", ["natural", "industrial", "medical"])
def test_every_kind_of_picture_shows_transparency_on_white_and_white_is_zero_turned_over(name: str) -> None:
    kind = plugins.load("data.kinds", name).Config(image_size=14).build()
    clear = Image(np.full((14, 14, 4), (10, 20, 30, 0), np.uint8), "bands", {"alpha": 3})
    negative = Image(np.full((14, 14, 1), 0, np.uint8), "grey", {"white_is_zero": True})

    assert (kind.prepare(clear, kind.fit([clear])) == 255).all()
    assert (kind.prepare(negative, kind.fit([negative])) == 255).all()


def test_an_image_of_four_bands_is_refused() -> None:
    with pytest.raises(DataError, match=r"4 channels; this kind takes 1 \(grey\) or 3 \(RGB\). 'kind: remote_sensing'"):
        with_channels(np.zeros((2, 2, 4), np.uint8), 3)


def test_the_centre_is_kept_and_nothing_is_stretched() -> None:
    wide = np.zeros((10, 30, 1), np.uint8)
    wide[:, 10:20] = 200

    assert (centre_square(wide, 10)[..., 0] == 200).all()


def test_a_square_of_the_right_side_is_untouched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)

    assert centre_square(pixels, 20) is pixels


@pytest.mark.parametrize(("crop", "mode"), [(0.9, "center"), (0.875, "center"), (1.0, "center"), (0.9, "squash")])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_crop_and_interpolation_are_those_of_timms_evaluation(crop: float, mode: str, interpolation: str) -> None:
    from timm.data import create_transform

    y, x = np.indices((150, 210)) / 210
    pixels = np.stack([255 * x, 255 * y, 127 + 60 * np.sin(4 * x + 3 * y)], axis=2).astype(np.uint8)
    transform = create_transform((3, 64, 64), crop_pct=crop, crop_mode=mode, interpolation=interpolation)
    timms = transform.transforms[:-2]  # all but the conversion and the normalisation

    wanted = Pillow.fromarray(pixels)
    for step in timms:
        wanted = step(wanted)
    found = centre_square(pixels, 64, crop, interpolation, mode == "squash")

    # timm rounds the resized image to whole pixels before it cuts; we do both in one pass. Another crop is 4 off.
    assert np.abs(found.astype(int) - np.asarray(wanted).astype(int)).mean() < 1.7


def test_a_photograph_of_four_times_the_side_is_averaged_in_blocks_first_and_its_pixels_move_little() -> None:
    photograph = np.asarray(Pillow.open(io.BytesIO(photograph_of((1000, 1200), 0))))
    in_one_step = Pillow.fromarray(photograph).resize((154, 154), Pillow.Resampling.BICUBIC, box=(100, 0, 1100, 1000))

    moved = np.abs(centre_square(photograph, 154).astype(int) - np.asarray(in_one_step).astype(int))

    assert 0 < moved.mean() < 0.6  # [grey level]
    assert np.quantile(moved, 0.999) <= 5
    small = photograph[:600, :600]
    assert (centre_square(small, 154) == np.asarray(Pillow.fromarray(small).resize((154, 154), 3))).all()


@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_finite_number_become_the_median_of_the_others(missing: float) -> None:
    pixels = np.arange(1, 10, dtype=np.float32).reshape(3, 3, 1)
    pixels[0, 0] = missing

    found = to_eight_bit(pixels, {"float32": [0.0, 10.0]})

    assert found[..., 0].ravel().tolist() == [140, 51, 76, 102, 128, 153, 178, 204, 230]  # 5.5 where nothing was


def test_pixels_that_are_not_valid_become_the_median_of_the_others_in_8_bit_too() -> None:
    pixels = np.array([[[0], [10]], [[20], [200]]], np.uint8)

    found = to_eight_bit(pixels, {}, np.array([[False, True], [True, True]]))

    assert found[..., 0].tolist() == [[20, 10], [20, 200]]


def test_an_image_without_any_data_is_refused() -> None:
    with pytest.raises(DataError, match="no pixel of the image has data"):
        to_eight_bit(np.full((2, 2, 1), np.nan, np.float32), {"float32": [0.0, 1.0]})


def test_an_image_takes_what_is_no_finite_number_out_of_its_valid_pixels() -> None:
    pixels = np.ones((2, 2, 2), np.float32)
    pixels[0, 1, 1], pixels[1, 0, 0] = np.nan, np.inf

    image = Image(pixels, "bands", valid=np.array([[False, True], [True, True]]))

    assert image.valid is not None and image.valid.tolist() == [[False, False], [False, True]]
    assert Image(np.ones((2, 2, 1), np.float32), "grey").valid is None


@pytest.mark.parametrize("name", plugins.names("data.kinds"))
def test_a_hole_of_nan_spoils_neither_what_is_fitted_nor_the_rest_of_the_image(name: str) -> None:
    options = {"image_size": 32, "channels": 1}
    options |= {"flat_field": True, "exposure": True} if name == "industrial" else {}
    kind = plugins.load("data.kinds", name).Config(**options).build()
    rng = np.random.default_rng(0)
    whole = [rng.normal(100, 20, (32, 32, 1)).astype(np.float32) for _ in range(4)]
    holes = [pixels.copy() for pixels in whole]
    for pixels in holes:
        pixels[:8, :8] = np.nan

    fitted = [kind.fit(Image(pixels, "grey") for pixels in group) for group in (whole, holes)]
    clean, torn = (kind.prepare(Image(group[0], "grey"), f) for group, f in zip((whole, holes), fitted, strict=True))

    assert "NaN" not in json.dumps(fitted[1])
    assert np.abs(clean[10:, 10:].astype(int) - torn[10:, 10:]).max() <= 12
    assert 0 < torn[:8, :8].mean() < 255 or name == "medical"  # there, beyond data is black, as beyond the image
