import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isthmus.core.errors import DataError
from isthmus.data.bounds import Bounds
from isthmus.data.formats.image_headers import head_of
from isthmus.data.readers import image as module
from isthmus.data.readers import reader_for
from isthmus.data.readers.image import FileReader


def gradient(height: int = 12, width: int = 16) -> np.ndarray:
    y, x = np.indices((height, width))
    return np.stack([y * 20, x * 15, 255 - x * 10], axis=2).astype(np.uint8)


def read(path: Path) -> np.ndarray:
    reader = FileReader()
    assert reader.parts(path) == [""]
    return reader.read(path, "").pixels


def png16(pixels: np.ndarray, colour_type: int) -> bytes:
    """Writes a 16-bit PNG by hand (RFC 2083): Pillow writes 16 bit for grey alone."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    height, width = pixels.shape[:2]
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, colour_type, 0, 0, 0])
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "ppm"])
def test_lossless_rgb_comes_back_exactly(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(gradient()).save(path, **({"lossless": True} if suffix == "webp" else {}))

    assert np.array_equal(read(path), gradient())


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_grey_keeps_every_bit(suffix: str, tmp_path: Path) -> None:
    pixels = np.arange(12 * 16, dtype=np.uint16).reshape(12, 16) * 341
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")

    found = FileReader().read(tmp_path / f"a.{suffix}", "")

    assert found.pixels.dtype == np.uint16
    assert found.mode == "grey"
    assert np.array_equal(found.pixels[..., 0], pixels)


def test_big_endian_sixteen_bit_tiff_keeps_every_bit(tmp_path: Path) -> None:
    pixels = (np.arange(12 * 16).reshape(12, 16) * 341).astype(np.uint16)
    Image.frombytes("I;16B", (16, 12), pixels.astype(">u2").tobytes()).save(tmp_path / "a.tiff")

    assert np.array_equal(read(tmp_path / "a.tiff")[..., 0], pixels)


def test_sixteen_bit_rgb_png_keeps_every_bit(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (12, 16, 3))
    (tmp_path / "a.png").write_bytes(png16(pixels, 2))

    found = read(tmp_path / "a.png")

    assert found.dtype == np.uint16
    assert np.array_equal(found, pixels)


@pytest.mark.parametrize("colour_type", [4, 6])
def test_sixteen_bit_alpha_is_composited_on_white_without_losing_bits(colour_type: int, tmp_path: Path) -> None:
    bands = 1 if colour_type == 4 else 3
    colour = np.random.default_rng(0).integers(0, 65536, (6, 8, bands))
    alpha = np.full((6, 8, 1), 65535)
    alpha[0] = 0
    (tmp_path / "a.png").write_bytes(png16(np.concatenate([colour, alpha], axis=2), colour_type))

    found = read(tmp_path / "a.png")

    assert np.array_equal(found[1:], colour[1:])
    assert (found[0] == 65535).all()


def test_palette_images_with_and_without_transparency_become_rgb(tmp_path: Path) -> None:
    flat = np.zeros((4, 6, 3), np.uint8)
    flat[:, 3:] = (200, 30, 10)
    picture = Image.fromarray(flat).quantize(2)
    picture.save(tmp_path / "plain.png")
    red = picture.getpixel((5, 0))
    picture.save(tmp_path / "clear.png", transparency=red)

    assert np.array_equal(read(tmp_path / "plain.png"), flat)
    assert (read(tmp_path / "clear.png")[:, 3:] == 255).all()
    assert (read(tmp_path / "clear.png")[:, :3] == 0).all()


def test_alpha_is_composited_on_white(tmp_path: Path) -> None:
    pixels = np.full((2, 2, 4), (100, 50, 0, 128), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")

    # 100 * 128/255 + 255 * 127/255 = 177.2; 50: 152.1; 0: 127
    assert read(tmp_path / "a.png")[0, 0].tolist() == [177, 152, 127]


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1").save(tmp_path / "a.png")

    assert read(tmp_path / "a.png")[..., 0].tolist() == [[0, 255], [255, 0]]


def test_float_tiff_stays_float(tmp_path: Path) -> None:
    pixels = np.linspace(-1, 3, 24, dtype=np.float32).reshape(4, 6)
    Image.fromarray(pixels).save(tmp_path / "a.tiff")

    found = read(tmp_path / "a.tiff")

    assert found.dtype == np.float32
    assert np.array_equal(found[..., 0], pixels)


def cmyk_jpeg(colour: tuple[int, int, int]) -> bytes:
    """Encodes one colour as Adobe's programs do: inverted CMYK with Adobe's mark, which is what Pillow writes."""
    ink = np.full((16, 16, 4), (*(255 - c for c in colour), 0), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(ink, "CMYK").save(stream, "JPEG", quality=100, subsampling=0)
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_an_adobe_cmyk_jpeg_shows_its_true_colours(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(cmyk_jpeg((200, 90, 20)))

    found = read(tmp_path / "a.jpg")

    assert np.abs(found.astype(int) - (200, 90, 20)).max() <= 3


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_a_cmyk_jpeg_without_adobes_mark_is_not_inverted(tmp_path: Path) -> None:
    data = cmyk_jpeg((255 - 200, 255 - 90, 255 - 20))
    place = data.index(b"\xff\xee")
    length = int.from_bytes(data[place + 2 : place + 4], "big")
    # stored values are now the inks of the wanted colour, black ink apart: Pillow stored 255 - 0
    (tmp_path / "a.jpg").write_bytes(data[:place] + data[place + 2 + length :])

    found = read(tmp_path / "a.jpg")

    assert (found <= 3).all()  # black ink is full


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_an_adobe_ycck_jpeg_shows_its_true_colours(tmp_path: Path) -> None:
    colour = (200, 90, 20)
    luma = Image.fromarray(np.full((16, 16, 3), [255 - c for c in colour], np.uint8)).convert("YCbCr").getpixel((0, 0))
    # libjpeg, jccolor.c: YCCK is the YCbCr of R = 255 - C'; Adobe's C' = 255 - C is the colour, so R is its inverse.
    # Pillow stores 255 - ink.
    ink = np.full((16, 16, 4), (*(255 - v for v in luma), 0), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(ink, "CMYK").save(stream, "JPEG", quality=100, subsampling=0)
    data = bytearray(stream.getvalue())
    place = data.index(b"Adobe")
    assert data[place + 11] == 0
    data[place + 11] = 2  # colour transform: YCCK
    (tmp_path / "a.jpg").write_bytes(data)

    found = read(tmp_path / "a.jpg")

    assert np.abs(found.astype(int) - colour).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_exif_rotation_is_applied(orientation: int, suffix: str, tmp_path: Path) -> None:
    # how a file's rows and columns follow from the upright picture, for each value of the tag
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored(gradient()))).save(tmp_path / f"a.{suffix}", exif=exif)

    assert np.array_equal(read(tmp_path / f"a.{suffix}"), gradient())


def test_the_pages_of_a_tiff_are_its_parts(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((4, 5), value, np.uint8)) for value in (10, 20, 30)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    reader = FileReader()

    parts = reader.parts(tmp_path / "a.tif")

    assert parts == ["0", "1", "2"]
    assert [int(reader.read(tmp_path / "a.tif", p).pixels[0, 0, 0]) for p in parts] == [10, 20, 30]


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tiff", "webp"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(suffix: str, share: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype(np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    with pytest.raises(DataError, match=r"truncated|cannot be decoded" if suffix in ("tiff", "webp") else "truncated"):
        FileReader().read(path, "")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"^file is empty \(0 bytes\)$"),
        (b"no image, but words\n", "^content is text, not an image$"),
        ("Grüße\n".encode(), "^content is text, not an image$"),
        (b"\0" * 500, "^content is zero bytes only, not an image$"),
        (b"%PDF-1.7 ...", "^content is a PDF document, not an image$"),
        (b"\0" * 128 + b"DICM" + b"\1" * 50, "^content is a DICOM file, not an image$"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer: run 'git lfs pull'"),
        (b"\x89PNG\r\n\x1a\n\0\0", r"^file is truncated \(ends after 10 bytes\)$"),
        (b"\x01\x02\x80\xff" * 400, "^not an image: unknown content, begins with 01 02 80 ff"),
    ],
)
def test_what_is_no_image_is_refused_with_what_it_looks_like(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)

    with pytest.raises(DataError, match=reason):
        FileReader().read(tmp_path / "a.jpg", "")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp", "gif"])
def test_a_picture_with_too_many_pixels_is_refused_before_it_is_decoded(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(gradient()).save(path)
    bounds = Bounds(max_pixels=100)

    for question in (FileReader().parts, lambda path, bounds: FileReader().read(path, "", bounds)):
        with pytest.raises(DataError, match=r"too many pixels.*100.*'ingest\.files\.max_pixels'"):
            question(path, bounds)
    assert FileReader().read(path, "", Bounds(max_pixels=192)).pixels.shape == (12, 16, 3)


def test_a_jpeg_of_many_passes_is_refused_and_one_of_the_usual_ten_is_read(tmp_path: Path) -> None:
    Image.fromarray(gradient()).save(tmp_path / "a.jpg", progressive=True)
    data = (tmp_path / "a.jpg").read_bytes()
    last = data.rindex(b"\xff\xda")  # where the last pass begins
    (tmp_path / "b.jpg").write_bytes(data[:last] + data[last:-2] * 100 + b"\xff\xd9")

    assert FileReader().read(tmp_path / "a.jpg", "").pixels.shape == (12, 16, 3)
    with pytest.raises(DataError, match=r"^JPEG of 1\d\d passes over its pixels; the limit is 100\. Save the image"):
        FileReader().read(tmp_path / "b.jpg", "")


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    header = (200_000).to_bytes(4, "big") + (200_000).to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    data = b"\x89PNG\r\n\x1a\n" + len(header).to_bytes(4, "big") + b"IHDR" + header
    (tmp_path / "a.png").write_bytes(
        data + zlib.crc32(b"IHDR" + header).to_bytes(4, "big") + b"\0\0\0\0IDAT" + b"\0" * 8
    )

    with pytest.raises(DataError, match="too many pixels"):
        FileReader().parts(tmp_path / "a.png")


def declaring(suffix: str, side: int) -> bytes:
    """Returns a small picture whose header says that it has `side` rows and columns."""
    stream = io.BytesIO()
    Image.fromarray(gradient()).save(stream, {".jpg": "JPEG", ".bmp": "BMP", ".tif": "TIFF", ".webp": "WEBP"}[suffix])
    data = bytearray(stream.getvalue())
    if suffix == ".jpg":
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, side, side)
    elif suffix == ".bmp":
        struct.pack_into("<ii", data, 18, side, side)
    elif suffix == ".webp":  # an extended header before the frame
        bits = b"VP8X" + struct.pack("<II", 10, 0) + (side - 1).to_bytes(3, "little") * 2
        data[12:12] = bits
        struct.pack_into("<I", data, 4, len(data) - 8)
    else:
        (place,) = struct.unpack_from("<I", data, 4)
        for entry in range(place + 2, place + 2 + 12 * 2, 12):  # width and length come first, in order of tags
            assert struct.unpack_from("<H", data, entry)[0] in (256, 257)
            struct.pack_into("<HII", data, entry + 2, 4, 1, side)
    return bytes(data)


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".tif", ".webp"])
def test_huge_declared_sizes_are_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"secret{suffix}"
    path.write_bytes(declaring(suffix, 16_000 if suffix == ".webp" else 60_000))

    with pytest.raises(DataError, match=r"too many pixels \(.*; the limit is 89478485") as caught:
        reader_for(path).read(path, "")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("place", [2**63, 2**64 - 1])
def test_a_tiff_whose_directory_lies_beyond_any_file_is_refused(place: int, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(struct.pack("<2sHHHQ", b"II", 43, 8, 0, place) + bytes(64))

    with pytest.raises(DataError, match="cannot be decoded|truncated"):
        reader_for(path).parts(path)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True, "quality": 20}, {"quality": 100}])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_a_jpeg_has_the_very_pixels_that_pillow_gives(
    mode: str, options: dict[str, object], subsampling: str, tmp_path: Path
) -> None:
    pytest.importorskip("simplejpeg")
    rng = np.random.default_rng(0)
    noisy = Image.fromarray(rng.integers(0, 256, (61, 83, 3), np.uint8)).convert(mode)
    noisy.save(tmp_path / "a.jpg", subsampling=subsampling, **options)

    got = FileReader().read(tmp_path / "a.jpg", "").pixels

    with Image.open(tmp_path / "a.jpg") as image:
        assert module._jpeg(tmp_path / "a.jpg", image) is not None
        assert np.array_equal(got if mode == "RGB" else got[..., 0], np.asarray(image))


def test_a_jpeg_is_read_without_the_fast_decoder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(tmp_path / "a.jpg")
    fast = FileReader().read(tmp_path / "a.jpg", "").pixels
    monkeypatch.setattr(module, "simplejpeg", None)

    assert np.array_equal(FileReader().read(tmp_path / "a.jpg", "").pixels, fast)


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "jif", "JPEG", "jpg", "png", "dat", "tif", "dcm", "nii.gz", ""])
def test_the_content_says_what_a_file_is_and_not_its_suffix(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / (f"photo.{suffix}" if suffix else "photo")
    Image.fromarray(gradient()).save(path, "JPEG", quality=95, subsampling=0)

    reader = reader_for(path)

    assert isinstance(reader, FileReader)
    assert np.abs(reader.read(path, "").pixels.astype(int) - gradient()).max() < 12


def test_a_gif_counts_as_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 6), value, np.uint8)) for value in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])

    assert (read(tmp_path / "a.gif") == 10).all()


def test_pages_of_different_compressions_are_each_read(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((4, 5, 3), value, np.uint8)) for value in (10, 20, 30)]
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate"):
        pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression=compression)
        reader = FileReader()

        found = [int(reader.read(tmp_path / "a.tif", p).pixels[0, 0, 0]) for p in reader.parts(tmp_path / "a.tif")]

        assert found == [10, 20, 30]


@pytest.mark.parametrize(("mark", "channels"), [(b"P5", 1), (b"P6", 3)])
@pytest.mark.parametrize("top", [4095, 65535])
def test_a_pnm_of_more_than_eight_bits_keeps_its_values(top: int, mark: bytes, channels: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, top, (5, 6, channels), dtype=np.uint16)
    data = mark + f" 6 5 {top}\n".encode() + pixels.astype(">u2").tobytes()
    (tmp_path / "a.pnm").write_bytes(data)
    (tmp_path / "cut.pnm").write_bytes(data[:-9])

    assert np.array_equal(read(tmp_path / "a.pnm"), pixels)
    with pytest.raises(DataError, match=r"file is truncated \(ends after"):
        read(tmp_path / "cut.pnm")


def test_the_head_of_a_jpeg_is_found_behind_whatever_stands_before_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 5000  # a description
    path = tmp_path / "a.jpg"
    Image.fromarray(gradient()).save(path, exif=exif)

    for head in (b"", path.read_bytes()[:2048], path.read_bytes()):
        assert head_of(path, head) == (8, 12, 16)
    path.write_bytes(path.read_bytes()[:1000])
    assert head_of(path) is None
