from pathlib import Path

import numpy as np
import pytest

from isthmus.core.config import validated
from isthmus.core.errors import ConfigError, DataError
from isthmus.data.image import Image
from isthmus.data.imaging.bands import find_band, without_transparency
from isthmus.data.kinds.remote_sensing import Config, RemoteSensing
from tests.raw_folders import CLASSES
from tests.stages.test_ingest import run
from tests.stages.test_prepare import again, facts

FACTS = {"bands": ["b02", "b03", "b04", "b08"], "wavelengths_nm": [490.0, 560.0, 665.0, 842.0], "gsd_m": [10.0, 10.0]}


def scene(seed: int = 0, side: int = 40, dtype: str = "uint16", valid: np.ndarray | None = None) -> Image:
    pixels = np.random.default_rng(seed).integers(100, 3000, (side, side, 4)).astype(dtype)
    return Image(pixels, "bands", FACTS, valid)


@pytest.mark.parametrize(
    ("wanted", "place"), [(1, 0), ("4", 3), ("B04", 2), ("865nm", 3), ("red|665nm", 2), ("nir|b08", 3), ("655 nm", 2)]
)
def test_a_band_is_found_by_number_name_or_wavelength(wanted: int | str, place: int) -> None:
    assert find_band(wanted, scene()) == place


@pytest.mark.parametrize("wanted", [0, 5, "swir", "1610nm", "red|swir"])
def test_a_band_that_is_not_there_is_refused_with_those_that_are(wanted: int | str) -> None:
    with pytest.raises(DataError, match=r"no band '.*'. There are: 1 b02 490nm, .*4 b08 842nm"):
        find_band(wanted, scene())


@pytest.mark.parametrize(
    ("wanted", "place"),
    [("B4", 0), ("b04", 0), ("Band 4", 0), ("band_04", 0), ("b-4", 0), ("B8A", 2), ("b08a", 2), ("SR_B5", 3)],
)
def test_a_band_is_found_however_its_name_is_spelt(wanted: str, place: int) -> None:
    image = Image(np.zeros((2, 2, 4), np.uint16), "bands", {"bands": ["b04", "b08", "b8a", "sr_b5"]})

    assert find_band(wanted, image) == place


def test_an_exact_name_comes_before_one_that_is_spelt_otherwise_and_two_alike_are_not_guessed_at() -> None:
    image = Image(np.zeros((2, 2, 3), np.uint16), "bands", {"bands": ["b04", "b4", "b_4"]})

    assert find_band("b4", image) == 1
    with pytest.raises(DataError, match=r"no band 'B004'. There are: 1 b04, 2 b4, 3 b_4"):
        find_band("B004", image)


def test_the_message_of_a_band_that_is_not_there_is_what_the_user_reads() -> None:
    image, kind = scene(), RemoteSensing(8, 3, ["b04", "b03", "B99"])

    fitted = kind.fit([image])

    assert fitted == {}
    with pytest.raises(DataError, match=r"no band 'B99'. There are: 1 b02 490nm, 2 b03 560nm"):
        kind.prepare(image, fitted)


def marked(alpha: np.ndarray, colour: np.ndarray | None = None) -> Image:
    """Returns red, green, blue and a fourth band that the file marks as transparency."""
    rng = np.random.default_rng(0)
    colour = rng.integers(1, 255, (*alpha.shape, 3), np.uint8) if colour is None else colour
    facts = {"bands": ["red", "green", "blue", ""], "alpha": 3}
    return Image(np.concatenate([colour, alpha[..., None]], axis=2), "bands", facts)


def near_infrared(water: str) -> np.ndarray:
    alpha = np.random.default_rng(1).integers(40, 200, (40, 40), np.uint8)
    alpha[{"none": slice(0), "some": slice(20), "all": slice(None)}[water]] = 0
    return alpha


@pytest.mark.parametrize("water", ["none", "some", "all"])
def test_near_infrared_that_is_marked_as_transparency_is_a_band_and_valid_over_water(water: str) -> None:
    image = marked(near_infrared(water))
    four, chosen, asking = RemoteSensing(40, 4), RemoteSensing(40, 3, [4, 1, 2]), RemoteSensing(40, 3)

    assert without_transparency(image, None) is image
    assert four.prepare(image, four.fit([image])).shape == (40, 40, 4)
    assert chosen.fit([image])["uint8"]["low"][0] == pytest.approx(
        np.percentile(image.pixels[..., 3], 2, method="linear"), abs=2
    )
    with pytest.raises(
        DataError, match=r"image has 4 bands. Which 3 of them\?.*'preprocess\.bands'.*1 red, 2 green, 3"
    ):
        asking.prepare(image, asking.fit([image]))


def test_transparency_that_looks_like_it_is_no_band_and_what_is_clear_is_no_data() -> None:
    alpha = np.full((40, 40), 255, np.uint8)
    alpha[:10], alpha[10, :16] = 0, 100  # a smoothed edge of one pixel in a hundred
    colour = np.full((40, 40, 3), 90, np.uint8)
    colour[:10] = 0
    image, kind = marked(alpha, colour), RemoteSensing(40, 3, stretch=None)

    found = without_transparency(image, [1, 2, 3])

    assert found.pixels.shape == (40, 40, 3) and found.mode == "rgb"
    assert found.facts == {"bands": ["red", "green", "blue"]}
    assert found.valid is not None and found.valid.mean() == 0.75
    assert (kind.prepare(image, kind.fit([image]))[:9] == 90).all()  # the median, and not black
    assert without_transparency(image, [4, 1, 2]) is image  # whoever asks for it has a band
    assert without_transparency(marked(np.full((4, 4), 255, np.uint8)), None).valid is None


def test_a_band_with_half_shown_pixels_or_colours_under_its_zeros_is_not_taken_for_transparency() -> None:
    half, busy = np.full((40, 40), 255, np.uint8), np.full((40, 40), 255, np.uint8)
    half[:2], busy[:10] = 120, 0

    for image in (marked(half), marked(busy)):
        assert without_transparency(image, None) is image


def test_the_bands_of_a_photograph_have_their_colours_names() -> None:
    assert find_band("green", Image(np.zeros((2, 2, 3), np.uint8), "rgb")) == 1


def test_two_sensors_come_to_one_band_order_and_one_ground_distance() -> None:
    y, x = np.indices((60, 60)) / 60
    fine = np.stack([1000 + 800 * y, 500 + 200 * x, 300 + 0 * x, 2000 + 900 * x], axis=2).astype(np.float32)
    coarse = fine.reshape(20, 3, 20, 3, 4).mean(axis=(1, 3))[..., ::-1]
    one = Image(fine, "bands", FACTS)
    other = Image(coarse, "bands", {**FACTS, "bands": [], "wavelengths_nm": [865, 655, 561, 482], "gsd_m": [30, 30]})
    kind = RemoteSensing(20, 3, ["nir|842nm", "665nm", "560nm"], gsd=30.0, stretch=(0, 100))
    fitted = kind.fit([one])

    a, b = kind.prepare(one, fitted), kind.prepare(other, fitted)

    assert np.abs(a.astype(int) - b)[1:-1, 1:-1].max() <= 3


def test_the_stretch_takes_percentiles_of_valid_training_pixels_only() -> None:
    valid = np.ones((40, 40), bool)
    valid[:20] = False
    image = scene(valid=valid)
    image.pixels[:20] = 65535
    kind = RemoteSensing(40, 4, stretch=(2, 98))

    fitted = kind.fit([image])

    expected = np.percentile(image.pixels[20:].reshape(-1, 4), [2, 98], axis=0)
    np.testing.assert_allclose([fitted["uint16"]["low"], fitted["uint16"]["high"]], expected, atol=15)  # of 2900


def test_nodata_becomes_the_median_and_never_reaches_its_neighbours() -> None:
    valid = np.ones((40, 40), bool)
    valid[:, :20] = False
    pixels = np.full((40, 40, 1), 500, np.float32)
    pixels[:, :20] = -9999
    kind = RemoteSensing(20, 1, stretch=(0, 100))
    fitted = {"float32": {"low": [0.0], "median": [250.0], "high": [1000.0]}}

    out = kind.prepare(Image(pixels, "grey", {}, valid), fitted)

    assert set(np.unique(out)) <= {64, 128}
    assert (out[:, 10:] == 128).all()
    assert (out[:, :9] == 64).all()


def test_indices_are_further_channels_of_real_values() -> None:
    pixels = np.zeros((8, 8, 4), np.float32)
    pixels[..., 1], pixels[..., 2], pixels[..., 3] = 0.10, 0.05, 0.45
    image = Image(pixels, "bands", FACTS)
    kind = RemoteSensing(8, 3, ["665nm"], ["ndvi", "ndwi"])

    out = kind.prepare(image, kind.fit([image]))

    ndvi, ndwi = (0.45 - 0.05) / 0.50, (0.10 - 0.45) / 0.55
    assert out[4, 4, 1:].tolist() == [round((ndvi + 1) / 2 * 255), round((ndwi + 1) / 2 * 255)]


def test_sixteen_bit_output_keeps_what_eight_bit_rounds_away() -> None:
    image = scene()
    kinds = [RemoteSensing(40, 4, depth=depth) for depth in ("uint8", "uint16")]

    small, deep = (kind.prepare(image, kind.fit([image])) for kind in kinds)

    assert (small.dtype, deep.dtype) == (np.uint8, np.uint16)
    assert np.abs(deep / 65535 - small / 255).max() <= 0.5 / 255 + 1e-4
    assert len(np.unique(deep)) > 10 * len(np.unique(small))


def test_a_photograph_without_stretch_is_as_it_was() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 30, 3)).astype(np.uint8)
    image, kind = Image(pixels, "rgb"), RemoteSensing(30, 3, stretch=None)

    assert np.array_equal(kind.prepare(image, kind.fit([image])), pixels)


def test_a_scene_mostly_without_data_is_refused() -> None:
    valid = np.zeros((40, 40), bool)
    valid[:2] = True
    kind = RemoteSensing(40, 4, min_valid=0.1)

    with pytest.raises(DataError, match=r"5.0% of the image has data; 'preprocess.min_valid' requires 10.0%"):
        kind.prepare(scene(valid=valid), kind.fit([scene()]))


def test_a_scene_without_ground_distance_is_refused_where_one_is_asked_for() -> None:
    image = Image(np.ones((8, 8, 3), np.uint8), "rgb")
    kind = RemoteSensing(8, 3, gsd=10.0)

    with pytest.raises(
        DataError, match=r"does not state its ground distance \(it has no coordinate system\).*'gsd: null'"
    ):
        kind.prepare(image, kind.fit([image]))
    placeless = Image(image.pixels, "rgb", {"no_gsd": "its coordinate system states no unit of length"})
    with pytest.raises(DataError, match=r"ground distance \(its coordinate system states no unit of length\)"):
        kind.prepare(placeless, kind.fit([image]))


def test_more_bands_than_channels_are_refused_until_they_are_chosen() -> None:
    kind = RemoteSensing(8, 3)

    asks = (
        "image has 4 bands. Which 3 of them.*'preprocess.channels' to 4 for all. There are: 1 b02 490nm, .*4 b08 842nm"
    )
    with pytest.raises(DataError, match=asks):
        kind.prepare(scene(), kind.fit([scene()]))


def test_a_dtype_that_no_training_image_has_is_refused() -> None:
    with pytest.raises(
        DataError, match="pixels are uint16, and no training image of this domain that could be used is"
    ):
        RemoteSensing(8, 4).prepare(scene(), {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": [1, 2]}, r"bands and indices make 2 channels; 'channels' says 3"),
        ({"bands": [1, 2, 3], "indices": ["ndvi"]}, "bands and indices make 4 channels; 'channels' says 3"),
        ({"bands": [], "indices": ["ndvi"], "channels": 1}, "there must be a band beside the indices"),
        ({"stretch": [98, 2]}, "must be two rising percentiles"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validated(Config, options, "preprocess.")


def test_the_bands_of_rasters_are_found_or_the_stage_says_which_there_are(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    raw, rng = tmp_path / "raw", np.random.default_rng(0)
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    for domain in ("line_a", "line_b"):
        for name in CLASSES:
            (raw / domain / name).mkdir(parents=True)
            for number in range(24):
                profile = {"driver": "GTiff", "count": 4, "height": 16, "width": 16, "dtype": "uint16", **place}
                with rasterio.open(raw / domain / name / f"{number}.tif", "w", **profile) as scene:
                    scene.write(rng.integers(100, 3000, (4, 16, 16), dtype=np.uint16))
                    scene.descriptions = ("B04", "B03", "B02", "B08")

    run(raw, tmp_path / "out", kind="remote_sensing")

    def prepared(**options: object) -> list[dict[str, str]]:
        again(raw, tmp_path / "out", kind="remote_sensing", preprocess={"image_size": 16, **options})
        return facts(tmp_path / "out")["quarantine"]

    assert prepared(bands=["B4", "B3", "B2"], gsd=10) == []
    assert prepared(channels=4) == []
    with pytest.raises(DataError, match=r"no band 'B99'\. There are: 1 b04, 2 b03, 3 b02, 4 b08\."):
        prepared(bands=["B4", "B3", "B99"])
    with pytest.raises(
        DataError, match=r"image has 4 bands\. Which 3 of them\?.* There are: 1 b04, 2 b03, 3 b02, 4 b08\."
    ):
        prepared()
