"""What we do by hand for medical images against MONAI's readers and transforms, on real files (decision 0024)."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

nibabel = pytest.importorskip("nibabel")
pydicom = pytest.importorskip("pydicom")

from pydicom.dataset import Dataset  # noqa: E402

from isthmus.core.monai_import import monai_import  # noqa: E402
from isthmus.data.imaging.dicom_window import window  # noqa: E402
from isthmus.data.imaging.resample import resampled  # noqa: E402
from isthmus.data.kinds.medical import Medical  # noqa: E402
from isthmus.data.readers import reader_for  # noqa: E402
from tests.data.readers.test_dicom import write as write_dicom  # noqa: E402
from tests.data.readers.test_nifti import as_dicom  # noqa: E402
from tests.data.readers.test_nifti import write as write_nifti  # noqa: E402
from tests.require import require  # noqa: E402

pytestmark = pytest.mark.slow  # the import of MONAI takes seconds


@pytest.fixture(autouse=True)
def with_monai() -> None:
    require("monai", importlib.util.find_spec("monai") is not None)


def loaded(path: Path, reader: str) -> Any:
    """A file, or the folder of a series, as MONAI's own reader gives it: `[1, X, Y, Z]` with its affine."""
    with monai_import():
        from monai.transforms import LoadImage

        return LoadImage(reader=reader, image_only=True, ensure_channel_first=True)(path)


def as_shown(volume: Any, axis: int) -> list[np.ndarray]:
    """Slices of `[1, X, Y, Z]` in RAS across an axis, turned as DICOM turns them; coronal ones from the front."""
    slices = np.moveaxis(np.asarray(volume)[0], axis, 0)
    return [each.T[::-1, ::-1] for each in (slices[::-1] if axis == 1 else slices)]


def numbered(paths: Sequence[Path], numbers: Sequence[int]) -> None:
    """Gives files their instance numbers, and names in another order."""
    for path, number, name in zip(paths, numbers, np.random.default_rng(1).permutation(len(paths)), strict=True):
        dataset = pydicom.dcmread(path)
        dataset.InstanceNumber = number
        dataset.save_as(path.with_name(f"x{name}.dcm"))
        path.unlink()


def ours(paths: Sequence[Path]) -> list[np.ndarray]:
    """Every slice of these files, in the order of their positions, or of the volume that one file holds."""
    found = []
    for path in paths:
        reader = reader_for(path)
        for part in reader.parts(path):
            place = reader.slice_of(path, part)
            assert place is not None
            found.append((place.position, reader.read(path, part).pixels[..., 0]))
    return [pixels for _, pixels in sorted(found, key=lambda each: each[0])]


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SPR", "AIL"])
@pytest.mark.parametrize("packed", [False, True])
def test_slices_of_a_nifti_volume_are_those_of_monais_reader_and_orientation(
    codes: str, packed: bool, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).integers(-1000, 2000, (9, 10, 11)).astype(np.int16)
    turned = nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 3.0, 1.0])).as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(codes)
        )
    )
    path = write_nifti(tmp_path / ("a.nii.gz" if packed else "a.nii"), np.asarray(turned.dataobj), turned.affine)
    with monai_import():
        from monai.transforms import Orientation

    expected = as_shown(Orientation("RAS", labels=None)(loaded(path, "NibabelReader")), 2)

    found = ours([path])
    assert len(found) == len(expected) == 11
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(("plane", "axis"), [("sagittal", 0), ("coronal", 1), ("axial", 2)])
def test_a_dicom_series_in_any_order_of_names_is_the_volume_that_monai_reads(
    plane: str, axis: int, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).integers(0, 2000, (5, 6, 7)).astype(np.int16)
    spacing = tuple(5.0 if place == axis else 2.0 for place in range(3))
    paths = as_dicom(tmp_path, values, spacing, plane)  # type: ignore[arg-type]
    numbered(paths, range(len(paths)))
    with monai_import():
        from monai.transforms import Orientation

    expected = as_shown(Orientation("RAS", labels=None)(loaded(tmp_path, "PydicomReader")), axis)

    found = ours(sorted(tmp_path.glob("*.dcm")))
    assert len(found) == len(expected) == values.shape[axis]
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    assert found[0].min() >= -1024  # slope and intercept are applied by both


def test_monai_orders_a_series_by_instance_numbers_and_ours_by_where_slices_lie(tmp_path: Path) -> None:
    values = np.repeat(np.arange(4, dtype=np.int16) * 100, 9).reshape(4, 3, 3).transpose(1, 2, 0)
    numbered(as_dicom(tmp_path, values, (2.0, 2.0, 5.0), "axial"), [2, 0, 3, 1])

    theirs = np.asarray(loaded(tmp_path, "PydicomReader"))[0, 0, 0]

    assert [float(slice_[0, 0]) for slice_ in ours(sorted(tmp_path.glob("*.dcm")))] == [-1024, -924, -824, -724]
    assert sorted(theirs) == [-1024, -924, -824, -724]
    assert theirs.tolist() not in ([-1024, -924, -824, -724], [-724, -824, -924, -1024])


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT"])
@pytest.mark.parametrize(("centre", "width"), [(-600.0, 1500.0), (40.0, 400.0), (0.5, 2.0)])
def test_a_window_is_monais_scaling_of_the_same_range(function: str, centre: float, width: float) -> None:
    with monai_import():
        from monai.transforms import ScaleIntensityRange
    values = np.random.default_rng(0).normal(0, 800, (64, 64)).astype(np.float32)
    middle, half = (centre - 0.5, (width - 1) / 2) if function == "LINEAR" else (centre, width / 2)

    expected = ScaleIntensityRange(middle - half, middle + half, 0, 1, clip=True, dtype=np.float64)(values)

    np.testing.assert_allclose(window(values, centre, width, function), np.asarray(expected), atol=1e-6)


def test_a_ct_file_prepared_by_hand_is_within_one_grey_level_of_monais_chain(tmp_path: Path) -> None:
    """Reader, window and, to smaller pixels, resampling: the path of the scenario `medical`."""
    with monai_import():
        from monai.transforms import Compose, ScaleIntensityRange, Spacing

    side, spacing, wanted = 40, 3.0, 1.5
    y, x = np.indices((side, side)) - side / 2
    stored = (1024 - 900 + 800 * np.exp(-(x**2 + 2 * y**2) / 120)).astype(np.int16)
    path = write_dicom(
        tmp_path / "a.dcm", stored, RescaleSlope="1", RescaleIntercept="-1024", RescaleType="HU",
        PixelSpacing=[spacing, spacing], SliceThickness="2", BurnedInAnnotation="NO", SeriesInstanceUID="1.2.3",
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0], ImagePositionPatient=[0, 0, 0],
    )  # fmt: skip
    kind = Medical(80, 1, (-600.0, 1500.0), spacing=wanted)

    out = kind.prepare(reader_for(path).read(path, ""), {})[..., 0]

    chain = Compose(
        [
            ScaleIntensityRange(-1350, 150, 0, 1, clip=True),
            Spacing((wanted, wanted), mode="bilinear", scale_extent=True),
        ]
    )
    theirs = np.asarray(chain(loaded(path, "PydicomReader")))[0].T
    assert theirs.shape == out.shape == (80, 80)
    assert np.abs(out.astype(int) - np.rint(theirs * 255)).max() <= 1


def test_monais_spacing_skips_pixels_where_they_become_larger_and_ours_averages_them() -> None:
    """Why `Spacing` is not used: at four times the spacing it reads every fourth pixel or so, and a pattern appears."""
    with monai_import():
        from monai.data import MetaTensor
        from monai.transforms import Spacing
    stripes = np.tile(np.array([1.0, 1.0, 0.0], np.float32), (48, 16))  # two thirds are bright, everywhere
    image = MetaTensor(torch.from_numpy(stripes)[None], affine=torch.eye(4))

    theirs = np.asarray(Spacing((4.0, 4.0), mode="bilinear", scale_extent=True)(image))[0]
    averaged, _ = resampled(stripes[..., None], None, (0.0, 0.0, 48.0, 48.0), 12, 12)

    assert theirs.shape == averaged.shape[:2] == (12, 12)
    assert np.abs(averaged[1:-1, 1:-1] - 2 / 3).max() < 0.03
    assert np.ptp(theirs) > 0.4


def test_what_monais_reader_leaves_to_the_user_is_why_ours_stays(tmp_path: Path) -> None:
    """Polarity, VOI table and padding are not applied, and the file's name, which may be a person's, is carried on."""
    table = Dataset()
    table.LUTDescriptor = [4, 0, 8]
    table.add_new("LUTData", "US", [0, 10, 200, 255])
    stored = np.array([[0, 1], [2, 3]], np.uint16)
    path = write_dicom(
        tmp_path / "hidden-7.dcm", stored, Modality="CR", PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=3,
        VOILUTSequence=[table], BurnedInAnnotation="NO",
    )  # fmt: skip

    theirs, own = loaded(path, "PydicomReader"), reader_for(path).read(path, "")

    assert np.array_equal(np.asarray(theirs)[0].T, stored)
    assert "hidden-7" in str(theirs.meta) and "hidden-7" not in str(own.facts)
    assert own.facts["monochrome1"] and own.valid is not None and own.valid.tolist() == [[True, True], [True, False]]
    assert Medical(2, 1).prepare(own, {})[..., 0].tolist() == [[255, 245], [55, 0]]
