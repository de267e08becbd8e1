from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from isthmus.core.errors import DataError
from isthmus.data.bounds import Bounds
from isthmus.data.masks import IGNORED, MaskConfig, cell_shares, check_mask, placed, source_cells

CLASSES = ["ground", "spot", "rim"]
RAW = np.array([[0, 1, 2, 255], [2, 2, 0, 1]], np.uint8)


def read(path: Path, classes: list[str] = CLASSES, **options: object) -> np.ndarray:
    return MaskConfig.model_validate(options).read(path, "", classes)


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_a_grey_mask_has_the_places_of_its_values_and_what_is_not_scored(tmp_path: Path) -> None:
    path = saved(Image.fromarray(RAW), tmp_path / "m.png")

    assert np.array_equal(read(path), RAW)


@pytest.mark.parametrize("suffix", ["png", "tif", "gif"])
def test_the_indices_of_a_palette_count_and_not_its_colours(suffix: str, tmp_path: Path) -> None:
    image = Image.fromarray(np.minimum(RAW, 2)).convert("P")
    image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    path = saved(image, tmp_path / f"m.{suffix}")

    assert np.array_equal(read(path), np.minimum(RAW, 2))


def test_a_black_and_white_mask_has_the_values_zero_and_one(tmp_path: Path) -> None:
    path = saved(Image.fromarray(RAW == 1), tmp_path / "m.png")

    assert np.array_equal(read(path, CLASSES[:2]), (RAW == 1).astype(np.uint8))


def test_a_mask_of_one_value_in_three_channels_is_read_and_other_colours_are_refused(tmp_path: Path) -> None:
    grey = saved(Image.fromarray(np.repeat(RAW[..., None], 3, axis=2)), tmp_path / "grey.png")
    colours = saved(Image.fromarray(np.stack([RAW, RAW, 255 - RAW], axis=2)), tmp_path / "colours.png")

    assert np.array_equal(read(grey), RAW)
    with pytest.raises(DataError, match=r"mask has 3 channels; allowed is one value a pixel\. Save it as a grey"):
        read(colours)


def test_deep_masks_have_values_of_any_size_and_sign(tmp_path: Path) -> None:
    values = np.array([[1000, 7], [40000, 7]], np.uint16)
    path = saved(Image.fromarray(values), tmp_path / "m.tif")

    found = read(path, values=[7, 1000, 500], ignore=40000)

    assert found.tolist() == [[1, 0], [IGNORED, 0]]


def test_the_palette_of_a_geotiff_is_not_applied(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    path = tmp_path / "m.tif"
    where = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}
    with rasterio.open(path, "w", driver="GTiff", width=4, height=2, count=1, dtype="uint8", nodata=255, **where) as to:
        to.write(RAW, 1)
        to.write_colormap(1, {0: (9, 9, 9), 1: (200, 0, 0), 2: (0, 200, 0)})

    assert np.array_equal(read(path), RAW)


def test_a_slice_of_a_nifti_is_read_by_its_part(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    voxels = np.zeros((4, 2, 3), np.int16)
    voxels[..., 1] = 2
    nibabel.Nifti1Image(voxels, np.diag([1, 1, 5, 1])).to_filename(tmp_path / "m.nii.gz")

    found = [MaskConfig().read(tmp_path / "m.nii.gz", part, CLASSES).max() for part in ("0", "1", "2")]

    assert found == [0, 2, 0]


def test_a_jpeg_is_refused_whatever_its_suffix(tmp_path: Path) -> None:
    path = saved(Image.fromarray(RAW), tmp_path / "m.png", format="JPEG")

    with pytest.raises(DataError, match=r"mask is a JPEG, whose compression changes values\. Save it as PNG or TIFF"):
        read(path)


def test_values_that_are_no_class_are_named_with_those_that_are(tmp_path: Path) -> None:
    path = saved(Image.fromarray(RAW), tmp_path / "m.png")

    with pytest.raises(
        DataError,
        match=r"mask has the values 0, 255, which are no class\. Allowed: 1 ground, 2 spot; not scored: none\."
        r" Set 'annotations\.values'",
    ):
        read(path, CLASSES[:2], values=[1, 2], ignore=None)


def test_a_mask_that_is_turned_by_exif_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = saved(Image.fromarray(np.minimum(RAW, 2)).convert("P"), tmp_path / "p.png", exif=exif)
    grey = saved(Image.fromarray(np.minimum(RAW, 2)), tmp_path / "g.png", exif=exif)

    assert read(grey).shape == (4, 2)
    assert np.array_equal(np.unique(read(grey)), [0, 1, 2])
    assert MaskConfig().read(palette, "", ["x"] * 255).shape == (4, 2)


def test_a_broken_palette_and_one_of_too_many_pixels_are_refused(tmp_path: Path) -> None:
    path = saved(Image.fromarray(RAW).convert("P"), tmp_path / "m.png")

    with pytest.raises(DataError, match=r"too many pixels \(8\); the limit is 7"):
        MaskConfig().read(path, "", CLASSES, Bounds(max_pixels=7))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="file is truncated"):
        read(path)


def test_a_mask_of_another_size_is_refused_and_exchanged_sides_are_explained() -> None:
    with pytest.raises(DataError, match=r"mask is 2 x 4 pixels, its image 3 x 4\.$"):
        check_mask(RAW, 3, 4)
    with pytest.raises(DataError, match=r"mask is 2 x 4 pixels, its image 4 x 2\. The sides are exchanged: .* EXIF"):
        check_mask(RAW, 4, 2)


def test_what_lies_beyond_the_image_or_has_no_data_is_not_scored() -> None:
    valid = np.ones(RAW.shape, np.bool_)
    valid[1, 0] = False

    found = placed(RAW, valid, (-1.0, 0.0, 3.0, 4.0), 4)

    assert found.tolist() == [[255] * 4, [0, 1, 2, 255], [255, 2, 0, 1], [255] * 4]


@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (3, 2), (5, 7), (1, 1)])
def test_shares_of_cells_equal_those_counted_pixel_by_pixel(rows: int, columns: int) -> None:
    masks = np.random.default_rng(0).choice(np.array([0, 1, 2, 255], np.uint8), (2, 10, 15))

    shares, scored = cell_shares(masks, rows, columns, 3)

    for n in range(2):
        counts = np.zeros((rows, columns, 4))
        for y in range(10):
            for x in range(15):
                row = max(r for r in range(rows) if r * 10 // rows <= y)
                column = max(c for c in range(columns) if c * 15 // columns <= x)
                counts[row, column, 3 if masks[n, y, x] == 255 else masks[n, y, x]] += 1
        counts = counts.reshape(-1, 4)
        known = counts[:, :3].sum(axis=1)
        np.testing.assert_allclose(shares[n], counts[:, :3] / np.maximum(known, 1)[:, None], atol=1e-7)
        np.testing.assert_allclose(scored[n], known / counts.sum(axis=1), atol=1e-7)


def test_cells_without_a_scored_pixel_have_no_share() -> None:
    shares, scored = cell_shares(np.full((1, 4, 4), IGNORED, np.uint8), 2, 2, 2)

    assert not shares.any()
    assert not scored.any()


def test_the_cells_of_the_source_stand_in_the_order_of_the_index_and_those_of_the_target_are_not_scored(
    tmp_path: Path,
) -> None:
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "masks" / "a.npy", np.stack([np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8)]))
    index = pd.DataFrame({"shard": ["a", "b", "a"], "row": [1, 0, 0]})

    shares, scored = source_cells(tmp_path, index, (2, 2), 2)

    assert shares[:, 0].tolist() == [[0, 1], [0, 0], [1, 0]]
    assert scored[:, 0].tolist() == [1, 0, 1]
