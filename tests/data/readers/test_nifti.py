import gzip
import json
from pathlib import Path

import numpy as np
import pytest

nibabel = pytest.importorskip("nibabel")

from isthmus.core.errors import DataError  # noqa: E402
from isthmus.data.audit.summary import Bad  # noqa: E402
from isthmus.data.bounds import Bounds  # noqa: E402
from isthmus.data.ingest.scan import read_image_facts  # noqa: E402
from isthmus.data.ingest.table import Found  # noqa: E402
from isthmus.data.kinds.medical import Medical  # noqa: E402
from isthmus.data.readers import reader_for  # noqa: E402
from isthmus.data.readers.nifti import FileReader  # noqa: E402

ROOT = Path(nibabel.__file__).parent / "tests" / "data"
BUNDLED = sorted([*ROOT.glob("*.nii"), *ROOT.glob("*.nii.gz")])


def write(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)
    return path


@pytest.mark.parametrize("path", BUNDLED, ids=lambda p: p.name)
def test_a_bundled_file_reads_as_nibabel_reads_it_or_is_refused_with_a_true_reason(path: Path) -> None:
    reader = FileReader()
    if path.name == "row_major.dconn.nii":
        with pytest.raises(DataError, match="array of 1 x 1 x 1 x 1 x 10 x 10; slices, volumes and series of"):
            reader.parts(path)
        return
    expected = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata()
    expected = expected.reshape((*expected.shape, 1)[:4])

    parts = reader.parts(path)

    across = ("sagittal", "coronal", "axial").index(reader.read(path, parts[0]).facts["plane"])
    slices = np.moveaxis(expected, across, 0)
    slices = slices[::-1] if across == 1 else slices
    assert len(parts) == slices.shape[0] * slices.shape[3]
    for part in parts:
        z, _, t = part.partition("-")
        image = reader.read(path, part)
        found = image.pixels[::-1, ::-1, 0].T
        np.testing.assert_allclose(found, slices[int(z), :, :, int(t or 0)].astype(np.float32), rtol=1e-6)
        json.dumps(image.facts)


def test_every_other_file_of_nibabel_is_read_or_refused_with_a_reason_and_none_crashes() -> None:
    raw = ROOT.parent.parent
    reasons: dict[str, int] = {}
    for path in sorted(p for p in raw.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")):
        result = read_image_facts(raw, Found(path.relative_to(raw).as_posix(), "d", None, "one", None))
        if isinstance(result, Bad):
            kind = result.reason.partition("'. Known")[0]
            reasons[kind] = reasons.get(kind, 0) + 1
        else:
            assert path.name.endswith((".nii", ".nii.gz", ".dcm", ".img", ".img.gz"))

    left = {reason for reason in reasons if not reason.startswith("no reader for '")}
    assert left == {
        "array of 1 x 1 x 1 x 1 x 10 x 10; slices, volumes and series of 2 to 4 axes are read",
        "file is truncated or empty of pixels (an image without pixel data)",
        "is the header of a pair, which is read with its '.img'; that is not here or is listed itself",
    }


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "ASL", "SRA"])
def test_however_the_axes_lie_the_slices_are_the_same(codes: str, tmp_path: Path) -> None:
    from nibabel.orientations import axcodes2ornt, ornt_transform

    ras = nibabel.Nifti1Image(
        np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32), np.diag([1.0, 2, 3, 1])
    )
    ras.header.set_xyzt_units("mm")
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    ras.as_reoriented(turn).to_filename(tmp_path / "turned.nii.gz")
    ras.to_filename(tmp_path / "plain.nii")
    reader = FileReader()

    found = reader.read(tmp_path / "turned.nii.gz", "2")

    assert reader.parts(tmp_path / "turned.nii.gz") == [str(z) for z in range(6)]
    assert np.array_equal(found.pixels, reader.read(tmp_path / "plain.nii", "2").pixels)
    assert found.facts["pixel_spacing_mm"] == [2.0, 1.0]
    assert found.facts["slice_thickness_mm"] == 3.0


def test_what_is_no_number_is_not_valid(tmp_path: Path) -> None:
    values = np.ones((3, 4, 1), np.float32)
    values[0, 0, 0] = np.nan

    image = FileReader().read(write(tmp_path / "a.nii", values), "")

    assert image.valid is not None
    assert image.valid.sum() == 11
    assert not image.valid[3, 2]  # the leftmost voxel at the back: last row, last column, as DICOM has it


def test_colour_voxels_are_rgb(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (4, 5, 2, 3)).astype(np.uint8)
    packed = colour.copy().view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]

    image = FileReader().read(write(tmp_path / "a.nii", packed), "1")

    assert image.mode == "rgb"
    assert np.array_equal(image.pixels[::-1, ::-1].swapaxes(0, 1), colour[:, :, 1])


@pytest.mark.parametrize(
    ("spacing", "plane"),
    [
        ((5.0, 2.0, 2.0), "sagittal"),
        ((2.0, 6.0, 2.0), "coronal"),
        ((2.0, 2.0, 5.0), "axial"),
        ((3.0, 1.0, 1.2), "sagittal"),
        ((0.9, 0.9, 0.6), "axial"),  # a CT in thin slices: what differs from the two others lies across
        ((0.5, 0.9, 0.9), "sagittal"),
        ((1.0, 1.0, 1.0), "axial"),
    ],
)
@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
def test_slices_lie_across_the_axis_that_the_scanner_stepped_along(
    spacing: tuple[float, float, float], plane: str, codes: str, tmp_path: Path
) -> None:
    from nibabel.orientations import axcodes2ornt, ornt_transform

    values = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    nibabel.Nifti1Image(values, np.diag([*spacing, 1])).as_reoriented(turn).to_filename(tmp_path / "a.nii")
    reader, axis = FileReader(), ("sagittal", "coronal", "axial").index(plane)

    parts = reader.parts(tmp_path / "a.nii")

    slices = np.moveaxis(values, axis, 0)
    slices = slices[::-1] if plane == "coronal" else slices
    assert len(parts) == values.shape[axis]
    for part in parts:
        image = reader.read(tmp_path / "a.nii", part)
        assert np.array_equal(image.pixels[..., 0], slices[int(part)].T[::-1, ::-1])
        assert image.facts["plane"] == plane
        assert image.facts["slice_thickness_mm"] == pytest.approx(spacing[axis])


def test_the_axis_that_the_header_names_decides_where_the_spacing_does_not(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.ones((4, 5, 6), np.float32), np.eye(4))
    image.header.set_dim_info(slice=0)
    image.to_filename(tmp_path / "a.nii")

    assert FileReader().read(tmp_path / "a.nii", "0").facts["plane"] == "sagittal"


@pytest.mark.parametrize(
    ("shape", "pictures", "size"),
    [((4, 5), 1, (5, 4)), ((4, 5, 1), 1, (5, 4)), ((1, 5, 6), 1, (6, 5)), ((4, 5, 1, 3), 3, (5, 4))],
)
def test_one_slice_is_one_picture_whatever_its_spacing(
    shape: tuple[int, ...], pictures: int, size: tuple[int, int], tmp_path: Path
) -> None:
    path = write(tmp_path / "a.nii", np.ones(shape, np.float32), np.diag([2.0, 2.0, 1.0, 1.0]))

    found = FileReader().parts(path)

    assert len(found) == pictures
    assert FileReader().read(path, found[0]).pixels.shape == (*size, 1)


def as_dicom(folder: Path, values: np.ndarray, spacing: tuple[float, float, float], plane: str) -> list[Path]:
    """Writes `[X, Y, Z]` in RAS order as a scanner writes such a series; LPS are DICOM's coordinates."""
    pydicom = pytest.importorskip("pydicom")
    from tests.data.readers.test_dicom import write as write_dicom

    axis = ("sagittal", "coronal", "axial").index(plane)
    cosines = ([0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1], [1, 0, 0, 0, 1, 0])[axis]
    row, column = np.abs(cosines[:3]).argmax(), np.abs(cosines[3:]).argmax()
    paths = []
    for number in range(values.shape[axis]):
        stored = np.moveaxis(values, axis, 0)[number].T[::-1, ::-1]
        last = [(side - 1) * step for side, step in zip(values.shape, spacing, strict=True)]
        first = [-last[0], -last[1], 0.0]  # RAS voxel (0, 0, 0) lies at the origin
        first[axis] = (-1 if axis < 2 else 1) * number * spacing[axis]
        if axis < 2:
            first[2] = last[2]
        path = write_dicom(
            folder / f"{number:02d}.dcm", np.ascontiguousarray(stored), SeriesInstanceUID="1.2.3",
            ImageOrientationPatient=cosines, ImagePositionPatient=first, RescaleSlope="1", RescaleIntercept="-1024",
            RescaleType="HU", PixelSpacing=[spacing[column], spacing[row]], SliceThickness=spacing[axis],
        )  # fmt: skip
        assert pydicom.dcmread(path).ImagePositionPatient[axis] == first[axis]
        paths.append(path)
    return paths


@pytest.mark.parametrize(
    ("plane", "spacing"), [("sagittal", (5.0, 2.0, 2.5)), ("coronal", (2.0, 6.0, 2.5)), ("axial", (2.0, 2.5, 4.0))]
)
def test_a_series_gives_the_same_pictures_as_dicom_and_as_nifti(
    plane: str, spacing: tuple[float, float, float], tmp_path: Path
) -> None:
    values = np.random.default_rng(0).integers(0, 2000, (4, 5, 6)).astype(np.int16)
    dicom = as_dicom(tmp_path, values, spacing, plane)
    write(tmp_path / "a.nii.gz", values - 1024, np.diag([*spacing, 1]))
    reader = FileReader()

    ordered = sorted(dicom, key=lambda path: reader_for(path).slice_of(path, "").position)

    parts = reader.parts(tmp_path / "a.nii.gz")
    assert len(parts) == len(ordered)
    for part, path in zip(parts, ordered, strict=True):
        one, other = reader.read(tmp_path / "a.nii.gz", part), reader_for(path).read(path, "")
        assert np.array_equal(one.pixels, other.pixels)
        for fact in ("plane", "pixel_spacing_mm", "slice_thickness_mm"):
            assert one.facts[fact] == other.facts[fact]
        kind = Medical(8, 1, (40.0, 2000.0), spacing=2.0, values="hu")
        assert np.array_equal(kind.prepare(one, {}), kind.prepare(other, {}))


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("meter", 1000), ("micron", 0.001), ("unknown", 1)])
def test_the_unit_of_length_is_brought_to_millimetres_and_an_unknown_one_is_taken_for_them_and_said(
    unit: str, factor: float, tmp_path: Path
) -> None:
    image = nibabel.Nifti1Image(np.ones((4, 5, 6), np.float32), np.diag([2.0, 3.0, 5.0, 1]))
    image.header.set_xyzt_units(unit)
    image.to_filename(tmp_path / "a.nii")

    facts = FileReader().read(tmp_path / "a.nii", "1").facts

    assert facts["pixel_spacing_mm"] == pytest.approx([3 * factor, 2 * factor])
    assert facts["slice_thickness_mm"] == pytest.approx(5 * factor)
    assert facts.get("assumed") == ("no unit of length is stated: assumed to be mm" if unit == "unknown" else None)
    assert FileReader().slice_of(tmp_path / "a.nii", "1").position == pytest.approx(5 * factor)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.dat", "a.NII.GZ", "scan"])
@pytest.mark.parametrize("packed", [False, True])
def test_the_content_says_whether_a_volume_is_packed(packed: bool, name: str, tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    data = write(tmp_path / "made.nii", values).read_bytes()
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if packed else data)
    reader = reader_for(path)

    assert isinstance(reader, FileReader)
    assert np.array_equal(reader.read(path, "4").pixels[::-1, ::-1, 0].T, values[..., 4])


@pytest.mark.parametrize("name", ["a.img", "a.img.gz"])
def test_a_pair_of_header_and_voxels_is_read_by_its_voxels(name: str, tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    nibabel.Nifti1Pair(values, np.eye(4)).to_filename(tmp_path / name)
    reader, path = reader_for(tmp_path / name), tmp_path / name

    assert reader.parts(path) == ["0", "1", "2", "3", "4"]
    assert np.array_equal(reader.read(path, "4").pixels[::-1, ::-1, 0].T, values[..., 4])
    header = path.with_name(name.replace("img", "hdr"))
    with pytest.raises(DataError, match="is the header of a pair, which is read with its '.img'"):
        reader_for(header).parts(header)
    header.unlink()
    with pytest.raises(DataError, match="one file of a pair: its header '.hdr' is not beside it"):
        reader.parts(path)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (nibabel.AnalyzeHeader().binaryblock, "is an Analyze 7.5 file, which does not state left and right"),
        (b"ENVI\nsamples = 4\n", "is an ENVI raster of two files. Save it as GeoTIFF"),
    ],
)
def test_a_pair_of_another_kind_is_refused_with_what_it_is(header: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(bytes(64))
    (tmp_path / "a.hdr").write_bytes(header)

    with pytest.raises(DataError, match=reason):
        FileReader().parts(tmp_path / "a.img")


def test_complex_voxels_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", np.ones((3, 3, 3), np.complex64))

    with pytest.raises(DataError, match="voxels are complex numbers. Save magnitude or phase"):
        FileReader().parts(path)


def test_a_singular_affine_is_refused(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4))
    header = bytearray(image.to_bytes())
    header[280:328] = b"\0" * 48  # srow_x, srow_y, srow_z
    (tmp_path / "a.nii").write_bytes(bytes(header))

    with pytest.raises(DataError, match="affine does not define the axes"):
        FileReader().parts(tmp_path / "a.nii")


def declaring(path: Path, shape: tuple[int, ...], dtype: type, offset: int = 352) -> Path:
    """Writes a packed header alone."""
    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(dtype)
    header["vox_offset"], header["magic"] = offset, b"n+1"
    path.write_bytes(gzip.compress(header.binaryblock + b"\0" * 100))
    return path


@pytest.mark.parametrize(
    ("shape", "offset", "reason"),
    [
        ((30000, 30000, 30000), 352, r"too many pixels \(30000 x 30000 = 900000000\); the limit is 89478485"),
        ((512, 512, 4000), 352, "too many pixels for its size: [0-9]+ bytes decode to 2097152352"),
        ((2, 2, 2), 2**30, "too many pixels for its size: [0-9]+ bytes decode to 1073741840"),
        ((2, 2, 2000, 9), 352, "18000 images in one file; the limit is 10000"),
    ],
)
def test_huge_declared_sizes_are_refused(shape: tuple[int, ...], offset: int, reason: str, tmp_path: Path) -> None:
    path = declaring(tmp_path / "a.nii.gz", shape, np.int16, offset)

    for question in (FileReader().parts, lambda path: FileReader().read(path, "0")):
        with pytest.raises(DataError, match=reason):
            question(path)


def test_a_packed_volume_beyond_the_memory_for_one_decoding_is_refused_and_an_unpacked_one_is_read(
    tmp_path: Path,
) -> None:
    values, bounds = np.ones((8, 8, 100), np.int16), Bounds(max_decoded_bytes=10_000)
    packed, plain = write(tmp_path / "a.nii.gz", values), write(tmp_path / "b.nii", values)

    with pytest.raises(DataError, match="too large to decode.*the limit is 10000.*max_decoded_bytes"):
        FileReader().parts(packed, bounds)
    assert len(FileReader().parts(plain, bounds)) == 100
    assert (FileReader().read(plain, "99", bounds).pixels == 1).all()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_cut_file_is_refused(suffix: str, share: float, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(10, 10, 10)).astype(np.float32)
    path = write(tmp_path / f"a{suffix}", values)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    with pytest.raises(DataError, match="truncated|cannot be decoded"):
        FileReader().read(path, FileReader().parts(path)[-1])


def test_mutated_headers_are_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = np.frombuffer((ROOT / "anatomical.nii").read_bytes(), np.uint8)
    path = tmp_path / "a.nii"
    for _ in range(100):
        mutated = data.copy()
        places = rng.integers(0, 352, rng.integers(1, 10))
        mutated[places] = rng.integers(0, 256, len(places))
        path.write_bytes(mutated.tobytes())
        try:
            FileReader().read(path, FileReader().parts(path)[0])
        except DataError as error:
            assert str(error)
