import gzip
import json
from pathlib import Path

import numpy as np
import pytest

nibabel = pytest.importorskip("nibabel")

from isthmus.core.errors import DataError  # noqa: E402
from isthmus.data.readers import nifti as module  # noqa: E402
from isthmus.data.readers.nifti import FileReader  # noqa: E402
from isthmus.data.scan import read_image_facts  # noqa: E402
from isthmus.data.table import Bad, Found  # noqa: E402

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
    expected = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata(dtype=np.float32)
    if expected.ndim == 3:
        expected = expected[..., None]

    parts = reader.parts(path)

    assert len(parts) == expected.shape[2] * expected.shape[3]
    for part in parts:
        z, _, t = part.partition("-")
        image = reader.read(path, part)
        np.testing.assert_allclose(image.pixels[::-1, :, 0].T, expected[:, :, int(z), int(t or 0)], rtol=1e-6)
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
            assert path.name.endswith((".nii", ".nii.gz", ".dcm"))

    left = {reason for reason in reasons if not reason.startswith("no reader for '")}
    assert left == {
        "array of 1 x 1 x 1 x 1 x 10 x 10; slices, volumes and series of 2 to 4 axes are read",
        "file is truncated or empty of pixels (an image without pixel data)",
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
    assert not image.valid[3, 0]  # first voxel to the right and front: last row, first column


def test_colour_voxels_are_rgb(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (4, 5, 2, 3)).astype(np.uint8)
    packed = colour.copy().view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]

    image = FileReader().read(write(tmp_path / "a.nii", packed), "1")

    assert image.mode == "rgb"
    assert np.array_equal(image.pixels[::-1].swapaxes(0, 1), colour[:, :, 1])


def test_complex_voxels_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii", np.ones((3, 3, 3), np.complex64))

    with pytest.raises(DataError, match="voxels are complex numbers. Save magnitude or phase"):
        FileReader().parts(path)


def test_a_singular_affine_is_refused(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.ones((3, 3, 3), np.float32), np.eye(4))
    header = bytearray(image.to_bytes())
    header[280:328] = b"\0" * 48  # srow_x, srow_y, srow_z
    (tmp_path / "a.nii").write_bytes(bytes(header))

    with pytest.raises(DataError, match="affine does not say how the axes lie"):
        FileReader().parts(tmp_path / "a.nii")


def test_huge_declared_sizes_are_refused(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000))
    header.set_data_dtype(np.uint8)
    with gzip.open(tmp_path / "a.nii.gz", "wb") as stream:
        header["vox_offset"], header["magic"] = 352, b"n+1"
        stream.write(header.binaryblock + b"\0" * 100)

    with pytest.raises(
        DataError, match=rf"too many voxels \(30000 x 30000 x 30000\); the limit is {module.VOXEL_LIMIT}"
    ):
        FileReader().parts(tmp_path / "a.nii.gz")


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
