"""TIFFs of every layout that people have: read to GDAL's values, or refused with the reason."""

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

rasterio = pytest.importorskip("rasterio")

from isthmus.core.errors import DataError  # noqa: E402
from isthmus.data.formats import tiff as module  # noqa: E402
from isthmus.data.image import Image  # noqa: E402
from isthmus.data.imaging.pixels import as_seen  # noqa: E402
from isthmus.data.readers import reader_for  # noqa: E402
from tests.tiff_files import MASK, REDUCED, tiff  # noqa: E402

DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64"]
PHOTOMETRIC, COMPRESSION, PLANAR, EXTRA, ORIENTATION = 262, 259, 284, 338, 274
LAYOUTS = [{}, {PLANAR: 2}, {COMPRESSION: 8}]  # all but the first as BigTIFF
# samples -> what else their tags may say; ExtraSamples 0: not said, 2: transparency
MEANINGS = {
    1: [{}, {PHOTOMETRIC: 0}],
    2: [{EXTRA: 0}, {EXTRA: 2}],
    3: [{}, {PHOTOMETRIC: 1, EXTRA: (0, 0)}],
    4: [{EXTRA: (0, 0, 0)}, {PHOTOMETRIC: 2, EXTRA: 0}, {PHOTOMETRIC: 2, EXTRA: 2}, {PHOTOMETRIC: 2}],
    5: [{EXTRA: (0,) * 4}],
}


def values(dtype: str, samples: int, height: int = 6, width: int = 7) -> np.ndarray:
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=(height, width, samples)).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, (height, width, samples), dtype=dtype, endpoint=True)


def read(path: Path) -> Image:
    reader = reader_for(path)
    (part,) = reader.parts(path)
    return reader.read(path, part)


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("samples", MEANINGS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_number_of_bands_and_layout_gives_the_values_that_are_stored(
    dtype: str, samples: int, order: str, tmp_path: Path
) -> None:
    pixels = values(dtype, samples)
    for layout in LAYOUTS:
        for meaning in MEANINGS[samples]:
            path = tmp_path / "a.tif"
            path.write_bytes(tiff((pixels, layout | meaning), order=order, big=bool(layout)))

            image = read(path)

            assert image.pixels.dtype == (np.float32 if dtype == "float16" else pixels.dtype)  # as GDAL has it
            assert np.array_equal(image.pixels, pixels), (layout, meaning)
            assert image.valid is None


@pytest.mark.parametrize("compress", [None, "lzw", "packbits", "zstd", "lzma", "lerc"])
@pytest.mark.parametrize("options", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16}, {"ENDIANNESS": "BIG"}])
@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_every_packing_gives_the_values_that_gdal_gives(
    options: dict[str, object], compress: str | None, tmp_path: Path
) -> None:
    for dtype in ("uint8", "int16", "float32"):
        for count in (1, 3):
            path = tmp_path / f"{dtype}-{count}.tif"
            bands = np.moveaxis(values(dtype, count, 20, 30), -1, 0)
            described = {"count": count, "height": 20, "width": 30, "dtype": dtype}
            with rasterio.open(path, "w", driver="GTiff", compress=compress, **described, **options) as scene:
                scene.write(bands)

            with rasterio.open(path) as scene:
                assert np.array_equal(np.moveaxis(read(path).pixels, -1, 0), scene.read())


def test_a_colour_picture_with_planes_apart_keeps_sixteen_bits(tmp_path: Path) -> None:
    pixels = np.full((4, 5, 3), (18800, 25800, 38600), np.uint16)
    (tmp_path / "a.tif").write_bytes(tiff((pixels, {PLANAR: 2})))

    image = read(tmp_path / "a.tif")

    assert image.pixels[0, 0].tolist() == [18800, 25800, 38600]
    assert image.mode == "rgb"


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_white_is_zero_is_read_as_stored_and_shown_turned_over(dtype: str, tmp_path: Path) -> None:
    pixels = values(dtype, 1)
    (tmp_path / "a.tif").write_bytes(tiff((pixels, {PHOTOMETRIC: 0})))

    image = read(tmp_path / "a.tif")

    assert np.array_equal(image.pixels, pixels)
    assert np.array_equal(as_seen(image).pixels, np.iinfo(dtype).max - pixels)
    assert as_seen(as_seen(image)).pixels[0, 0, 0] == np.iinfo(dtype).max - pixels[0, 0, 0]


def test_an_alpha_channel_is_kept_as_stored_and_shown_on_white(tmp_path: Path) -> None:
    pixels = np.full((2, 2, 4), (100, 50, 0, 128), np.uint8)
    (tmp_path / "a.tif").write_bytes(tiff((pixels, {PHOTOMETRIC: 2, EXTRA: 2})))
    (tmp_path / "b.tif").write_bytes(tiff((pixels.astype(np.uint16) * 257, {PHOTOMETRIC: 2, EXTRA: 2, PLANAR: 2})))

    image, deep = read(tmp_path / "a.tif"), read(tmp_path / "b.tif")

    assert np.array_equal(image.pixels, pixels)
    assert as_seen(image).mode == "rgb"
    assert as_seen(image).pixels[0, 0].tolist() == [177, 152, 127]  # 100 * 128/255 + 255 * 127/255 = 177.2
    assert np.abs(as_seen(deep).pixels[0, 0] / 257 - [177.2, 152.1, 127]).max() < 0.1


def test_premultiplied_alpha_is_shown_on_white_too(tmp_path: Path) -> None:
    pixels = np.full((2, 2, 4), (50, 25, 0, 128), np.uint16) * 257  # of colours 100, 50, 0
    (tmp_path / "a.tif").write_bytes(tiff((pixels, {PHOTOMETRIC: 2, EXTRA: 1})))

    shown = as_seen(read(tmp_path / "a.tif"))

    assert np.abs(shown.pixels[0, 0] / 257 - [177, 152, 127]).max() < 1


def test_ink_and_lab_become_rgb_without_a_made_up_band(tmp_path: Path) -> None:
    red = np.full((16, 16, 3), (200, 10, 10), np.uint8)
    for number, picture in enumerate((Pillow.fromarray(red).convert("CMYK"), Pillow.fromarray(red).convert("YCbCr"))):
        path = tmp_path / f"{number}.tif"
        picture.save(path, compression="jpeg" if picture.mode == "YCbCr" else None, quality=100)

        image = read(path)

        assert image.mode == "rgb"
        assert np.abs(image.pixels[8, 8].astype(int) - (200, 10, 10)).max() <= 3


def test_ink_of_sixteen_bits_keeps_its_four_channels(tmp_path: Path) -> None:
    pixels = values("uint16", 4)
    (tmp_path / "a.tif").write_bytes(tiff((pixels, {PHOTOMETRIC: 5})))

    image = read(tmp_path / "a.tif")

    assert np.array_equal(image.pixels, pixels)
    assert image.mode == "bands"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_a_picture_is_turned_upright_whichever_library_reads_it(orientation: int, dtype: str, tmp_path: Path) -> None:
    upright = values(dtype, 1)
    turn = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, 1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation]  # fmt: skip
    (tmp_path / "a.tif").write_bytes(tiff((np.ascontiguousarray(turn(upright)), {ORIENTATION: orientation})))

    assert np.array_equal(read(tmp_path / "a.tif").pixels, upright)


@pytest.mark.parametrize("marked", [{254: REDUCED}, {254: REDUCED | MASK}, {255: 2}])
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_a_reduced_page_is_no_image_wherever_it_stands(dtype: str, marked: dict[int, int], tmp_path: Path) -> None:
    pixels, small = values(dtype, 3), values(dtype, 3, 3, 4)
    for pages in ([(pixels, {}), (small, marked)], [(small, marked), (pixels, {})]):
        path = tmp_path / "a.tif"
        path.write_bytes(tiff(*pages))

        assert np.array_equal(read(path).pixels, pixels)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float64"])
def test_pages_keep_their_numbers_and_their_own_sizes(dtype: str, tmp_path: Path) -> None:
    pages = [values(dtype, 3, 5 + k, 6) for k in range(3)]
    path = tmp_path / "a.tif"
    path.write_bytes(tiff((pages[0], {}), (pages[0], {254: REDUCED}), (pages[1], {}), (pages[2], {})))
    reader = reader_for(path)

    assert reader.parts(path) == ["0", "2", "3"]
    for part, pixels in zip(["0", "2", "3"], pages, strict=True):
        assert np.array_equal(reader.read(path, part).pixels, pixels)
    with pytest.raises(DataError, match="has no page 4: it has 4 pages"):
        reader.read(path, "4")


def test_a_mask_page_says_which_pixels_have_data(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    described = {"count": 3, "height": 16, "width": 16, "dtype": "uint8"}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        with rasterio.open(path, "w", driver="GTiff", **described) as scene:
            scene.write(np.full((3, 16, 16), 7, np.uint8))
            mask = np.full((16, 16), 255, np.uint8)
            mask[:4] = 0
            scene.write_mask(mask)
        assert rasterio.open(path).count == 3

    image = read(path)

    assert image.valid is not None
    assert not image.valid[:4].any() and image.valid[4:].all()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff((values("uint8", 1), {254: REDUCED})), "holds only reduced copies or masks of an image"),
        (tiff((values("uint16", 1), {262: 32803})), "holds a camera's raw image. Develop it and save it as"),
        (tiff((values("uint8", 3), {50706: 1})), "holds a camera's raw image"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(4) + tiff((values("uint8", 1), {}))[8:], "holds a camera's raw image"),
        (tiff((values("uint8", 1), {}), (values("uint8", 1), {}))[:-90], r"file is truncated \(page 1 of it lies"),
    ],
)
def test_a_tiff_without_a_picture_that_is_ready_is_refused(data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "secret.nef"
    path.write_bytes(data)

    with pytest.raises(DataError, match=reason) as caught:
        reader_for(path).parts(path)

    assert "secret" not in str(caught.value)


def test_pages_that_name_each_other_in_a_circle_are_each_read_once(tmp_path: Path) -> None:
    data = bytearray(tiff((values("uint8", 1), {}), (values("uint8", 1), {})))
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    last = module.pages_of(path)[1]
    data[last.next_at : last.next_at + 4] = (8).to_bytes(4, "little")
    path.write_bytes(data)

    assert reader_for(path).parts(path) == ["0", "1"]


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_the_time_for_many_pages_grows_with_their_number_and_not_with_its_square(dtype: str, tmp_path: Path) -> None:
    def seconds(count: int) -> float:
        path = tmp_path / f"{count}.tif"
        path.write_bytes(tiff(*[(values(dtype, 1, 2, 2), {})] * count))
        reader, start = reader_for(path), time.process_time()
        parts = reader.parts(path)
        assert len(parts) == count
        for part in parts[-40:]:
            reader.read(path, part)
        return time.process_time() - start

    seconds(40)  # imports

    assert seconds(1600) < 10 * max(seconds(40), 0.02)  # the last 40 pages; walking to each would cost 40 times as much
