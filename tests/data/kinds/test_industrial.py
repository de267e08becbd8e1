import numpy as np
import pytest

from isthmus.core.config import validated
from isthmus.core.errors import ConfigError, DataError
from isthmus.data.image import Image
from isthmus.data.kinds.industrial import Config, Industrial, equalised


def grey(values: np.ndarray) -> Image:
    return Image(values[..., None], "grey")


def lit(rng: np.random.Generator, side: int = 64, dtype: type = np.uint8, scale: float = 1) -> Image:
    light = np.linspace(60, 180, side)[None, :] * np.ones((side, 1))
    return grey(np.clip((light + rng.normal(0, 3, (side, side))) * scale, 0, 65535).astype(dtype))


def test_nothing_is_done_to_an_eight_bit_frame_by_default() -> None:
    frame = lit(np.random.default_rng(0))
    kind = Industrial(64, 1)

    assert kind.fit([frame]) == {}
    assert np.array_equal(kind.prepare(frame, {}), frame.pixels)


def test_the_flat_field_evens_out_the_light_of_its_line() -> None:
    rng = np.random.default_rng(0)
    kind = Industrial(64, 1, flat_field=True)
    fitted = kind.fit([lit(rng) for _ in range(20)])

    columns = kind.prepare(lit(rng), fitted)[..., 0].mean(axis=0)

    assert np.ptp(columns[8:-8]) < 10 < 80 < np.ptp(lit(rng).pixels[..., 0].mean(axis=0))


def test_exposure_brings_two_lines_to_one_mean_and_spread() -> None:
    rng = np.random.default_rng(0)
    kind = Industrial(32, 1, exposure=True)
    dark = [grey(rng.normal(40, 8, (32, 32)).round().astype(np.uint8)) for _ in range(8)]
    bright = [grey(rng.normal(180, 20, (32, 32)).round().astype(np.uint8)) for _ in range(8)]

    out = [np.stack([kind.prepare(i, kind.fit(images)) for i in images]) for images in (dark, bright)]

    assert all(abs(float(o.mean()) - 128) < 2 and abs(float(o.std()) - 48) < 3 for o in out)


def test_statistics_of_sixteen_bit_frames_are_in_eight_bit_units() -> None:
    rng = np.random.default_rng(0)
    kind = Industrial(64, 1, flat_field=True, exposure=True)

    fitted = kind.fit([lit(rng, dtype=np.uint16, scale=100) for _ in range(10)])

    assert fitted["range"]["uint16"][0] < fitted["range"]["uint16"][1]
    assert fitted["mean"] == pytest.approx(127, abs=6)
    assert np.mean(fitted["field"]) == pytest.approx(1, abs=0.02)


def test_the_region_of_interest_is_cut_out() -> None:
    values = np.arange(100, dtype=np.uint8).reshape(10, 10)

    found = Industrial(4, 1, roi=(2, 3, 4, 4)).prepare(grey(values), {})

    assert np.array_equal(found[..., 0], values[2:6, 3:7])


def test_a_frame_smaller_than_the_region_is_refused() -> None:
    with pytest.raises(DataError, match=r"frame of 10 x 10 pixels does not contain the region .* = \[8, 0, 4, 4\]"):
        Industrial(4, 1, roi=(8, 0, 4, 4)).prepare(grey(np.zeros((10, 10), np.uint8)), {})


def test_clahe_spreads_a_narrow_histogram_and_keeps_a_flat_frame_flat() -> None:
    narrow = np.random.default_rng(0).integers(100, 120, (64, 64)).astype(np.uint8)

    assert np.ptp(equalised(narrow, 4.0)) > 2 * np.ptp(narrow)
    assert np.ptp(equalised(np.full((64, 64), 100, np.uint8), 2.0)) == 0


def test_clahe_of_one_tile_without_a_limit_is_plain_equalisation() -> None:
    pixels = np.random.default_rng(0).integers(0, 90, (32, 32)).astype(np.uint8)
    share = np.cumsum(np.bincount(pixels.ravel(), minlength=256)) / pixels.size

    assert np.array_equal(equalised(pixels, 256.0, tiles=1), np.rint(255 * share[pixels]).astype(np.uint8))


def test_a_region_of_three_numbers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"preprocess\.roi"):
        validated(Config, {"roi": [1, 2, 3]}, "preprocess.")


def test_a_squeezed_frame_shows_its_ends_and_its_box_is_the_whole_of_it() -> None:
    pixels = np.zeros((40, 100), np.uint8)
    pixels[:, :10] = 255
    image = grey(pixels)

    whole, middle = (Config(image_size=20, squash=squash).build() for squash in (True, False))

    assert whole.prepare(image, {})[10, 0, 0] == 255 and middle.prepare(image, {}).max() == 0
    assert whole.box(image) == (0, 0, 40, 100) and middle.box(image) == (0, 30, 40, 70)
