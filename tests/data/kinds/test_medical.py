import numpy as np
import pytest

from isthmus.core.config import validated
from isthmus.core.errors import ConfigError, DataError
from isthmus.data.image import Image
from isthmus.data.kinds.medical import Config, Medical


def ct(values: np.ndarray, **facts: object) -> Image:
    return Image(values.astype(np.float32)[..., None], "hu", {"burned_in": "no", "modality": "CT", **facts})


def test_a_window_in_hounsfield_units_becomes_the_whole_range() -> None:
    image = ct(np.array([[-2000.0, -160.0], [40.0, 3000.0]]))

    out = Medical(2, 1, (40.0, 400.0)).prepare(image, {})

    assert out[..., 0].tolist() == [[0, 0], [128, 255]]


def test_no_range_is_learnt_of_images_that_a_given_window_is_for() -> None:
    values = np.arange(16.0).reshape(4, 4)

    assert Medical(4, 1, window=(0, 10)).fit([ct(values)]) == {}
    assert list(Medical(4, 1, window="range").fit([ct(values)])) == ["range"]


def test_the_files_own_window_is_used_and_where_there_is_none_the_training_range() -> None:
    kind, values = Medical(4, 1), np.arange(16.0).reshape(4, 4)
    fitted = kind.fit([ct(values)])

    own = kind.prepare(ct(values, window=[8, 4], window_function="LINEAR_EXACT"), fitted)
    ranged = kind.prepare(ct(values), fitted)

    assert own[..., 0].ravel()[[5, 6, 8, 10]].tolist() == [0, 0, 128, 255]
    assert 0 < ranged[..., 0].ravel()[1] < ranged[..., 0].ravel()[14] < 255


def test_a_voi_table_is_looked_up_and_its_ends_are_kept() -> None:
    table = {"first": 10.0, "bits": 8, "values": [0.0, 100.0, 255.0]}

    out = Medical(2, 1).prepare(ct(np.array([[0, 10], [11, 99]]), voi_lut=table), {})

    assert out[..., 0].tolist() == [[0, 0], [100, 255]]


def test_monochrome1_is_inverted_so_that_what_absorbs_is_bright() -> None:
    pixels = np.array([[0, 100], [200, 255]], np.uint8)[..., None]
    kind = Medical(2, 1)

    plain, inverted = (kind.prepare(Image(pixels, "grey", {"monochrome1": flag}), {}) for flag in (False, True))

    assert (plain.astype(int) + inverted == 255).all()


def test_hounsfield_units_keep_their_meaning_whatever_a_viewer_is_told() -> None:
    values = np.array([[-160.0, 40.0], [240.0, 140.0]])
    kind = Medical(2, 1, (40.0, 400.0))

    plain, flagged = (kind.prepare(ct(values, monochrome1=flag), {}) for flag in (False, True))

    assert np.array_equal(plain, flagged)


def test_two_scanners_come_to_one_spacing_and_the_rest_is_black() -> None:
    kind = Medical(100, 1, (0.0, 200.0), spacing=2.0)

    def disc(millimetres: float, side: int) -> Image:
        y, x = (np.indices((side, side)) + 0.5 - side / 2) * millimetres
        values = np.where(np.hypot(y, x) < 50, 100.0, -100.0)
        return ct(values, pixel_spacing_mm=[millimetres, millimetres])

    fine, coarse = kind.prepare(disc(0.5, 320), {}), kind.prepare(disc(1.0, 160), {})

    assert np.abs(fine.astype(int) - coarse).mean() < 2
    area = (fine > 127).sum() * 2.0**2
    assert area == pytest.approx(np.pi * 50**2, rel=0.02)
    assert fine[:9].max() == 0  # 160 mm of image in 200 mm of frame


def test_rows_and_columns_have_their_own_spacing() -> None:
    values = np.full((50, 100), 100.0)

    out = Medical(100, 1, (0.0, 200.0), spacing=1.0).prepare(ct(values, pixel_spacing_mm=[2.0, 1.0]), {})

    assert (out > 250).mean() > 0.97


def test_a_file_without_spacing_is_refused_where_one_is_asked_for() -> None:
    with pytest.raises(DataError, match="does not state its pixel spacing.*Set 'spacing: null'"):
        Medical(4, 1, spacing=1.0).prepare(ct(np.zeros((4, 4)), window=[0, 2], window_function="LINEAR"), {})


def test_a_window_of_what_is_not_in_hounsfield_units_is_refused() -> None:
    with pytest.raises(DataError, match="not in Hounsfield units, which 'preprocess.window' is in"):
        Medical(4, 1, (40.0, 400.0)).prepare(Image(np.zeros((4, 4, 1), np.uint16), "grey"), {})


def test_the_scenario_can_say_that_values_are_hounsfield_units_where_a_file_cannot() -> None:
    values = np.array([[-160.0, 40.0], [240.0, 140.0]], np.float32)[..., None]
    nifti, kind = Image(values, "grey", {"burned_in": "no"}), Medical(2, 1, (40.0, 400.0), values="hu")

    assert np.array_equal(kind.prepare(nifti, {}), kind.prepare(ct(values[..., 0]), {}))
    with pytest.raises(DataError, match="not in Hounsfield units.*Set 'values: hu' if the values are in them"):
        Medical(2, 1, (40.0, 400.0)).prepare(nifti, {})


def test_an_image_without_any_data_is_refused_and_not_black() -> None:
    image = Image(np.zeros((4, 4, 1), np.float32), "hu", {"burned_in": "no"}, np.zeros((4, 4), bool))

    with pytest.raises(DataError, match="no pixel of the image has data"):
        Medical(4, 1, (40.0, 400.0)).prepare(image, {})


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"burned_in": "yes", "modality": "CT"}, "burned-in annotation: yes, by its tag"),
        ({"burned_in": "unknown", "modality": "US"}, "burned-in annotation: not stated, and US may carry it"),
        ({"burned_in": "unknown", "modality": "XC"}, "not stated, and XC may carry it"),
        ({"burned_in": "unknown", "modality": "CT", "secondary_capture": True}, "and a secondary capture may carry it"),
    ],
)
def test_what_may_carry_a_burned_in_name_is_refused_and_nothing_is_fitted_on_it(
    facts: dict[str, object], reason: str
) -> None:
    image = Image(np.zeros((4, 4, 1), np.uint16), "grey", facts)
    kind = Medical(4, 1)

    with pytest.raises(DataError, match=reason):
        kind.prepare(image, {})
    assert kind.fit([image]) == {}
    assert Medical(4, 1, burned_in="allow").prepare(image, {}).shape == (4, 4, 1)


@pytest.mark.parametrize(
    "facts", [{"burned_in": "unknown", "modality": "CT"}, {"burned_in": "no", "modality": "US"}, {}]
)
def test_what_carries_no_text_is_taken(facts: dict[str, object]) -> None:
    assert Medical(4, 1).prepare(Image(np.zeros((4, 4, 1), np.uint8), "grey", facts), {}).max() == 0


@pytest.mark.parametrize("method", ["reinhard", "macenko"])
def test_two_laboratories_stains_come_nearer(method: str) -> None:
    rng = np.random.default_rng(0)
    amounts = rng.gamma(2, 0.3, (40, 40, 2))
    labs = [np.array([[0.56, 0.22], [0.72, 0.80], [0.41, 0.56]]), np.array([[0.65, 0.07], [0.70, 0.99], [0.29, 0.11]])]
    images = [Image((240 * np.exp(-(amounts @ s.T))).astype(np.uint8), "rgb") for s in labs]
    plain, kind = Medical(40, 3), Medical(40, 3, stain=method)

    before = [plain.prepare(i, {}).astype(float) for i in images]
    after = [kind.prepare(i, kind.fit([i])).astype(float) for i in images]

    assert np.abs(after[0] - after[1]).mean() < 0.6 * np.abs(before[0] - before[1]).mean()


def test_eight_bit_colour_is_untouched_by_default() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)

    assert np.array_equal(Medical(20, 3).prepare(Image(pixels, "rgb"), {}), pixels)


@pytest.mark.parametrize("options", [{"window": [40, -1]}, {"window": "auto"}, {"spacing": 0}, {"stain": "vahadane"}])
def test_an_option_outside_its_range_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=rf"preprocess\.{next(iter(options))}"):
        validated(Config, options, "preprocess.")
