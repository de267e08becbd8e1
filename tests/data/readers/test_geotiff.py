import json
import warnings
from pathlib import Path

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio")

from isthmus.core.errors import DataError  # noqa: E402
from isthmus.data.bounds import Bounds  # noqa: E402
from isthmus.data.readers import geotiff as module  # noqa: E402
from isthmus.data.readers import reader_for  # noqa: E402
from isthmus.data.readers.geotiff import FileReader  # noqa: E402
from isthmus.data.readers.image import FileReader as PictureReader  # noqa: E402
from tests.data.readers.test_image import declaring  # noqa: E402
from tests.tiff_files import tiff  # noqa: E402


def from_origin(west: float, north: float, across: float, down: float) -> "rasterio.Affine":
    return rasterio.Affine(across, 0, west, 0, -down, north)


DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]
COMPLEX = ["complex64", "complex128", "complex_int16"]
UTM = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)}


def values(dtype: str, shape: tuple[int, int, int] = (5, 40, 50)) -> np.ndarray:
    raw = np.random.default_rng(0).integers(1, 100, shape)
    return raw.astype(dtype)


def write(path: Path, bands: np.ndarray, **options: object) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        described = {"driver": "GTiff", "count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
        with rasterio.open(path, "w", **{**described, "dtype": bands.dtype, **UTM, **options}) as scene:
            scene.write(bands)
    return path


@pytest.mark.parametrize("nodata", [None, 7])
@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_real_dtype_of_gdal_is_read_as_rasterio_reads_it(
    dtype: str, layout: dict[str, object], nodata: int | None, tmp_path: Path
) -> None:
    bands = values(dtype)
    path = write(tmp_path / "a.tif", bands, nodata=nodata, **layout)
    reader = reader_for(path)

    image = reader.read(path, reader.parts(path)[0])

    assert isinstance(reader, FileReader)
    assert image.pixels.dtype == bands.dtype
    assert np.array_equal(np.moveaxis(image.pixels, -1, 0), bands)
    expected = (bands != nodata).all(axis=0) if nodata else np.ones((40, 50), bool)
    assert np.array_equal(np.ones((40, 50), bool) if image.valid is None else image.valid, expected)
    json.dumps(image.facts)


@pytest.mark.parametrize("dtype", COMPLEX)
def test_complex_pixels_are_refused(dtype: str, tmp_path: Path) -> None:
    bands = np.ones((1, 8, 8), "complex64")
    path = write(tmp_path / "a.tif", bands, dtype=dtype)

    with pytest.raises(DataError, match="pixels are complex.* numbers. Save amplitude or phase as real bands"):
        FileReader().read(path, "")


def test_scale_and_offset_give_real_values(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", values("uint16", (2, 4, 4)), nodata=0)
    with rasterio.open(path, "r+") as scene:
        scene.scales, scene.offsets = (2.75e-5, 2.75e-5), (-0.2, -0.2)

    image = FileReader().read(path, "")

    assert image.pixels.dtype == np.float32
    expected = np.moveaxis(values("uint16", (2, 4, 4)), 0, -1) * 2.75e-5 - 0.2
    np.testing.assert_allclose(image.pixels, expected, rtol=1e-5)


def test_what_is_no_number_is_not_valid(tmp_path: Path) -> None:
    bands = values("float32", (2, 4, 4))
    bands[0, 1, 2] = np.nan

    image = FileReader().read(write(tmp_path / "a.tif", bands), "")

    assert image.valid is not None
    assert np.argwhere(~image.valid).tolist() == [[1, 2]]


def test_a_fourth_band_is_a_band_and_near_infrared_of_zero_is_valid(tmp_path: Path) -> None:
    bands = values("uint8", (4, 6, 6))
    bands[3, 0, :] = 0
    by_default = write(tmp_path / "a.tif", bands)
    on_purpose = write(tmp_path / "b.tif", bands, photometric="rgb", alpha="yes")
    assert rasterio.open(by_default).colorinterp[3].name == "alpha"

    for path in (by_default, on_purpose):
        image = FileReader().read(path, "")

        assert np.array_equal(np.moveaxis(image.pixels, -1, 0), bands)
        assert image.valid is None
        assert image.facts["bands"] == ["red", "green", "blue", ""]
        assert image.facts["alpha"] == 3


def test_nodata_counts_beside_a_band_that_is_marked_as_transparency(tmp_path: Path) -> None:
    bands = values("uint8", (4, 6, 6))
    bands[:, 0, :] = 0

    image = FileReader().read(write(tmp_path / "a.tif", bands, nodata=0), "")

    assert image.pixels.shape == (6, 6, 4)
    assert image.valid is not None
    assert image.valid.tolist() == [[False] * 6] + [[True] * 6] * 5


@pytest.mark.parametrize("name", ["a.jp2", "a.j2k", "a.tif", "a"])
@pytest.mark.parametrize(("dtype", "count"), [("uint16", 1), ("uint8", 3), ("int16", 4)])
def test_jpeg_2000_is_read_by_its_content(dtype: str, count: int, name: str, tmp_path: Path) -> None:
    bands = values(dtype, (count, 64, 64))
    made = tmp_path / ("made.jp2" if name != "a.j2k" else "made.j2k")
    write(made, bands, driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES", YCBCR420="NO")
    path = made.rename(tmp_path / name)
    reader = reader_for(path)

    image = reader.read(path, reader.parts(path)[0])

    assert isinstance(reader, FileReader)
    assert np.array_equal(np.moveaxis(image.pixels, -1, 0), bands)
    assert image.mode == ("grey" if count == 1 else "bands")
    if name != "a.j2k":  # a bare codestream has no place for coordinates
        assert image.facts["gsd_m"] == [10.0, 10.0]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_cut_jpeg_2000_file_is_refused(share: float, tmp_path: Path) -> None:
    path = tmp_path / "secret.jp2"
    write(path, values("uint16", (1, 64, 64)), driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    with pytest.raises(DataError, match="truncated|damaged|cannot be decoded") as caught:
        FileReader().read(path, FileReader().parts(path)[0])

    assert "secret" not in str(caught.value)


def test_no_complaint_of_gdals_reaches_a_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret.tif").write_bytes(declaring(".tif", 600))
    caplog.clear()
    capfd.readouterr()

    with pytest.raises(DataError, match="truncated or damaged"):
        FileReader().read(tmp_path / "secret.tif", "")

    assert not caplog.records
    assert "secret" not in "".join(capfd.readouterr())


def test_a_jpeg_of_twelve_bits_is_read_with_all_of_them(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    source = Path(pydicom.__file__).parent / "data" / "test_files" / "JPGExtended.dcm"
    dataset = pydicom.dcmread(source)
    path = tmp_path / "a.jpg"
    path.write_bytes(pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1))
    reader = reader_for(path)

    image = reader.read(path, reader.parts(path)[0])

    assert image.pixels.dtype == np.uint16
    assert image.pixels.shape == (dataset.Rows, dataset.Columns, 1)
    assert image.pixels.max() > 255


def test_facts_hold_bands_wavelengths_place_and_ground_distance(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", values("uint16", (2, 20, 30)))
    with rasterio.open(path, "r+") as scene:
        scene.descriptions = ("Red", "NIR")
        scene.update_tags(1, ns="IMAGERY", CENTRAL_WAVELENGTH_UM="0.665")
        scene.update_tags(2, wavelength="842", wavelength_units="nm")

    facts = FileReader().read(path, "").facts

    assert facts == {
        "bands": ["red", "nir"],
        "wavelengths_nm": [665.0, 842.0],
        "crs": "EPSG:32633",
        "bounds": [500_000.0, 4_999_800.0, 500_300.0, 5_000_000.0],
        "gsd_m": [10.0, 10.0],
    }


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_ground_control_points_place_a_scene(tmp_path: Path) -> None:
    from rasterio.control import GroundControlPoint

    path, crs = tmp_path / "a.tif", rasterio.crs.CRS.from_epsg(4326)
    corners = ((0, 0), (0, 50), (40, 0), (40, 50))
    points = [GroundControlPoint(row, col, 10 + col * 2e-4, 60 - row * 1e-4) for row, col in corners]
    write(path, values("uint8", (1, 40, 50)), crs=None, transform=None)
    with rasterio.open(path, "r+") as scene:
        scene.gcps = (points, crs)

    facts = FileReader().read(path, "").facts

    assert facts["gsd_m"] == pytest.approx([11.132, 11.132], rel=1e-3)
    assert facts["bounds"] == pytest.approx([10.0, 59.996, 10.01, 60.0])


def test_coordinates_without_a_place_give_no_ground_distance_and_say_so(tmp_path: Path) -> None:
    facts = FileReader().read(write(tmp_path / "a.tif", values("uint8"), transform=None), "").facts

    assert "gsd_m" not in facts and "bounds" not in facts
    assert facts["no_gsd"] == "its header places no pixel on the map"


def test_a_long_scene_comes_as_windows_that_cover_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 64)
    monkeypatch.setattr(module, "WINDOW", 32)
    bands = values("uint8", (2, 80, 70))
    path = write(tmp_path / "a.tif", bands)
    reader, whole = FileReader(), np.zeros((80, 70, 2), np.uint8)

    parts = reader.parts(path)
    for part in parts:
        top, left = map(int, part.split("-"))
        image = reader.read(path, part)
        assert image.pixels.shape == (32, 32, 2)
        whole[top : top + 32, left : left + 32] = image.pixels

    assert len(parts) == 9
    assert np.array_equal(whole, np.moveaxis(bands, 0, -1))


def test_only_the_window_is_read_of_a_long_scene(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    options = {"tiled": True, "blockxsize": 256, "blockysize": 256, "SPARSE_OK": "TRUE"}
    described = {"driver": "GTiff", "count": 3, "height": 40_000, "width": 40_000, "dtype": "uint16", **UTM}
    with rasterio.open(path, "w", **described, **options):
        pass

    bounds = Bounds(max_expansion=10**6)

    parts = FileReader().parts(path, bounds)

    assert len(parts) == 40 * 40
    assert FileReader().read(path, parts[-1], bounds).pixels.shape == (1024, 1024, 3)


def test_a_vrt_inside_a_tif_is_refused(tmp_path: Path) -> None:
    other = write(tmp_path / "other.tif", values("uint8", (1, 8, 8)))
    vrt = f"""<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
    <SourceFilename>{other}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"""
    (tmp_path / "a.tif").write_text(vrt)

    with pytest.raises(DataError, match="content is a GDAL VRT, which names pixels of other files: refused"):
        FileReader().parts(tmp_path / "a.tif")
    with pytest.raises(DataError, match="content is text, not an image"):
        reader_for(tmp_path / "a.tif").parts(tmp_path / "a.tif")


def test_files_beside_the_image_change_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", values("uint8"))
    (tmp_path / "a.tif.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><NoDataValue>7</NoDataValue></PAMRasterBand></PAMDataset>"
    )
    write(tmp_path / "a.tif.msk", np.zeros((1, 40, 50), np.uint8))

    assert FileReader().read(path, "").valid is None


@pytest.mark.parametrize(
    ("options", "bounds", "reason"),
    [
        (
            {"height": 300_000, "width": 300_000, "tiled": True, "blockxsize": 256, "blockysize": 256},
            {},
            "too many pixels for its size: [0-9]+ bytes decode to 90000000000; the limit is 200 times",
        ),
        ({"height": 60_000, "width": 60_000}, {"max_expansion": 10**9, "max_images": 100}, "[0-9]+ images in one file"),
        (
            {"height": 40_000, "width": 40_000, "tiled": True, "blockxsize": 32_768, "blockysize": 40_000 // 16 * 16},
            {"max_expansion": 10**9},
            "too large to decode",
        ),
        ({"height": 2000, "width": 2000, "count": 400, "interleave": "band"}, {"max_expansion": 10**9}, "too large to"),
    ],
)
def test_huge_declared_sizes_are_refused(
    options: dict[str, object], bounds: dict[str, int], reason: str, tmp_path: Path
) -> None:
    described = {"driver": "GTiff", "count": 1, "dtype": "uint8", "SPARSE_OK": "TRUE", "BIGTIFF": "YES", **UTM}
    with rasterio.open(tmp_path / "a.tif", "w", **{**described, **options}):
        pass

    with pytest.raises(DataError, match=reason):
        FileReader().parts(tmp_path / "a.tif", Bounds(**bounds))


@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_cut_file_is_refused_with_a_reason_and_without_its_path(
    share: float, layout: dict[str, object], tmp_path: Path
) -> None:
    path = write(tmp_path / "secret.tif", values("uint16"), **layout)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    with pytest.raises(DataError, match="truncated|cannot be decoded") as caught:
        FileReader().read(path, FileReader().parts(path)[0])

    assert "secret" not in str(caught.value)


LAYOUTS = [
    {},
    {"interleave": "pixel"},
    {"tiled": True, "blockxsize": 16, "blockysize": 16},
    {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"},
]


@pytest.mark.parametrize("nodata", [None, 7])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda options: "-".join(map(str, options.values())) or "striped")
@pytest.mark.parametrize("dtype", [*DTYPES, *COMPLEX])
def test_a_damaged_file_of_any_dtype_and_layout_is_refused_and_none_gives_pixels_of_a_cut_part(
    dtype: str, layout: dict[str, object], nodata: int | None, tmp_path: Path
) -> None:
    bands = values("complex64" if dtype in COMPLEX else dtype)
    path = write(tmp_path / "secret.tif", bands, nodata=nodata, **{**layout, "dtype": dtype})
    whole = path.read_bytes()
    damaged = {
        "empty": b"",
        **{f"cut at {share}": whole[: int(len(whole) * share)] for share in (0.01, 0.2, 0.5, 0.8, 0.99)},
        "mark gone": b"XX" + whole[2:],
        "directory out of the file": whole[:4] + (2**31).to_bytes(4, "little") + whole[8:],
        "zeros": bytes(len(whole)),
        "text": b"no raster at all " * 100,
    }
    for content in damaged.values():
        path.write_bytes(content)

        with pytest.raises(DataError) as caught:
            FileReader().read(path, FileReader().parts(path)[0])

        assert "secret" not in str(caught.value)


def test_a_nodata_value_that_is_no_number_marks_what_is_no_number(tmp_path: Path) -> None:
    bands = values("float32")
    bands[2, 3, 4] = np.nan
    image = FileReader().read(write(tmp_path / "a.tif", bands, nodata=np.nan), "")

    assert image.valid is not None
    assert np.argwhere(~image.valid).tolist() == [[3, 4]]


def test_mutated_files_are_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = write(tmp_path / "a.tif", values("uint16"), nodata=3, tiled=True, blockxsize=16, blockysize=16)
    data = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(100):
        mutated = data.copy()
        places = rng.integers(0, 600, rng.integers(1, 10))
        mutated[places] = rng.integers(0, 256, len(places))
        path.write_bytes(mutated.tobytes())
        try:
            FileReader().read(path, FileReader().parts(path)[0])
        except DataError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("bands", "options", "expected"),
    [
        (4, UTM, FileReader),
        (1, UTM, FileReader),
        (1, {"crs": None, "transform": None, "nodata": 0}, FileReader),
        (6, {"crs": None, "transform": None}, FileReader),
        (6, {"crs": None, "transform": None, "BIGTIFF": "YES"}, FileReader),
        (6, {"crs": None, "transform": None, "ENDIANNESS": "BIG"}, FileReader),
        (3, {"crs": None, "transform": None, "photometric": "rgb"}, PictureReader),
        (1, {"crs": None, "transform": None}, PictureReader),
    ],
)
def test_a_tif_with_geographic_tags_or_many_bands_is_a_raster_and_any_other_a_picture(
    bands: int, options: dict[str, object], expected: type, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.tif", values("uint8", (bands, 8, 8)), **options)

    assert isinstance(reader_for(path), expected)


def test_a_long_scene_of_several_pages_names_page_and_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 64)
    monkeypatch.setattr(module, "WINDOW", 64)
    pages = [values("uint8", (80, 70, 5)), values("uint8", (60, 70, 5)) + 100]
    (tmp_path / "a.tif").write_bytes(tiff(*[(page.astype(np.uint8), {338: (0,) * 4}) for page in pages]))
    reader = reader_for(tmp_path / "a.tif")

    parts = reader.parts(tmp_path / "a.tif")

    assert parts == ["0:0-0", "0:0-6", "0:16-0", "0:16-6", "1:0-0", "1:0-6"]
    assert np.array_equal(reader.read(tmp_path / "a.tif", "0:16-6").pixels, pages[0][16:, 6:])
    assert np.array_equal(reader.read(tmp_path / "a.tif", "1:0-6").pixels, pages[1][:, 6:])


def test_without_rasterio_a_raster_is_refused_with_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.tif", values("uint8"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(DataError, match=r"needs the package 'rasterio'.*pip install -e '\.\[remote_sensing\]'"):
        FileReader().parts(path)


def test_a_palette_becomes_rgb(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.array([[[0, 1], [2, 1]]], np.uint8), photometric="palette")
    with rasterio.open(path, "r+") as scene:
        scene.write_colormap(1, {0: (255, 0, 0, 255), 1: (0, 255, 0, 255), 2: (0, 0, 9, 255)})

    image = FileReader().read(path, "")

    assert image.mode == "rgb"
    assert image.pixels[1, 0].tolist() == [0, 0, 9]
