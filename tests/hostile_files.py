"""What a hostile, broken or careless person may leave beside images, and how `ingest` must end with each of them."""

import gzip
import io
import os
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.raw_folders import pixels
from tests.registry.hostile_requests import bmp_of, dicom_of, jpeg_of_scans, nifti_of, png_of, tiff_of
from tests.tiff_files import tiff

NAME = "MUELLER_HANS"  # no message on a medical image may hold it
DEEP = 1500
UTM = "EPSG:32633"
READ, BESIDE = "read", "ignored"


class Hostile(NamedTuple):
    """One file, alone among good images.

    Attributes:
        name: what is wrong with it.
        file: its path below the raw folder.
        make: writes it there.
        end: pattern of how `ingest` ends: read, ignored, quarantined with a reason, or refused with a message.
        add: the same of `isthmus add --dry-run`.
        kind: of imagery.
    """

    name: str
    file: str
    make: Callable[[Path], object]
    end: str
    add: str = "dry run"
    kind: str = "natural"


def nest(folder: Path) -> None:
    """Makes 1,500 folders in each other, deeper than a path can name."""
    folder.mkdir()
    inside = os.open(folder, os.O_RDONLY)
    for _ in range(DEEP):
        os.mkdir("d", dir_fd=inside)
        below = os.open("d", os.O_RDONLY, dir_fd=inside)
        os.close(inside)
        inside = below
    os.close(inside)


def remove_nest(folder: Path) -> None:
    """Removes a chain of folders that no recursion and no path can reach the end of."""
    chain = [os.open(folder, os.O_RDONLY)]
    for _ in range(DEEP):
        chain.append(os.open("d", os.O_RDONLY, dir_fd=chain[-1]))
    while len(chain) > 1:
        os.close(chain.pop())
        os.rmdir("d", dir_fd=chain[-1])
    os.close(chain[0])
    folder.rmdir()


def sparse(path: Path, head: bytes = b"II*\0") -> None:
    """Writes a head, and 30 GB that take no room on the disk."""
    with path.open("wb") as stream:
        stream.write(head)
        stream.truncate(30_000_000_000)


def packed_nifti(path: Path, *sides: int, more: int = 2 * 2**20) -> None:
    """Writes a packed NIfTI of int16 voxels whose header declares these sides, with `more` bytes after it."""
    header = bytearray(nifti_of(*sides))
    struct.pack_into("<hh", header, 70, 4, 16)
    path.write_bytes(gzip.compress(bytes(header) + bytes(4096)) + np.random.default_rng(0).bytes(more))


def unpacking_nifti(path: Path, gigabytes: int = 2) -> None:
    """Writes a sound packed NIfTI of as many gigabytes of zeros: 1 MB a gigabyte."""
    with gzip.open(path, "wb", 9) as stream:
        header = bytearray(nifti_of(1024, 1024, 512 * gigabytes))
        struct.pack_into("<hh", header, 70, 4, 16)
        stream.write(bytes(header))
        for _ in range(64 * gigabytes):
            stream.write(bytes(2**24))


def declared_raster(path: Path, side: int, **options: object) -> None:
    """Writes a sparse GeoTIFF of a few hundred bytes that declares a raster of four bands."""
    import rasterio

    place = {"crs": UTM, "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    described = {"driver": "GTiff", "count": 4, "height": side, "width": side, "dtype": "uint16", "SPARSE_OK": "TRUE"}
    with rasterio.open(path, "w", **{"blockysize": side, **described, **place, **options}):
        pass


def raster(path: Path, values: np.ndarray, driver: str = "GTiff") -> None:
    """Writes bands `[C, H, W]` as a raster with a place on the ground."""
    import rasterio

    place = {"crs": UTM, "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    count, height, width = values.shape
    options = {"QUALITY": "100", "REVERSIBLE": "YES"} if driver == "JP2OpenJPEG" else {}
    with rasterio.open(
        path, "w", driver=driver, count=count, height=height, width=width, dtype=values.dtype, **place, **options
    ) as scene:
        scene.write(values)


def vrt_of(other: Path, side: int = 8) -> str:
    """Returns a GDAL VRT of any size whose pixels are those of another file."""
    return (
        f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{other}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )


def circle(path: Path) -> None:
    """Writes a TIFF of three pages, the last of which says that the first follows."""
    from isthmus.data.formats.tiff import pages_of

    path.write_bytes(tiff(*[(_grey(place), {}) for place in range(3)]))
    last, data = pages_of(path)[2], bytearray(path.read_bytes())
    data[last.next_at : last.next_at + 4] = (8).to_bytes(4, "little")
    path.write_bytes(data)


def jpeg_2000_bomb(path: Path) -> None:
    """Writes a JPEG 2000 file of 64 x 64 pixels whose sizes, image and tile, are then set to 60,000 (T.800, A.5.1)."""
    raster(path, np.ones((1, 64, 64), np.uint8), "JP2OpenJPEG")
    data = bytearray(path.read_bytes())
    size = struct.pack(">II", 64, 64)
    for place in (data.index(b"\xff\x51") + 6, data.index(b"\xff\x51") + 22):
        assert data[place : place + 8] == size
        data[place : place + 8] = struct.pack(">II", 60_000, 60_000)
    head = data.index(b"ihdr") + 4
    data[head : head + 8] = struct.pack(">II", 60_000, 60_000)
    path.write_bytes(data)


def encapsulated(frame: bytes, syntax: str = "1.2.840.10008.1.2.4.90") -> bytes:
    """Returns a DICOM file whose packed pixels, JPEG 2000 by their syntax, are these bytes."""
    data = dicom_of(64, 64, pixels=b"")
    plain = b"UI" + struct.pack("<H", 20) + b"1.2.840.10008.1.2.1\0"
    packed = b"UI" + struct.pack("<H", 22) + syntax.encode()
    meta = data.index(plain)
    data = data[:meta] + packed + data[meta + len(plain) :]
    length = data.index(b"UL") + 4
    data = data[:length] + struct.pack("<I", 8 + 22) + data[length + 4 :]
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + struct.pack("<HHI", 0xFFFE, 0xE000, len(frame)) + frame
    body = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + item + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return data[:-12] + body


def picture_as(form: str, side: int = 48, **options: object) -> bytes:
    """Returns a picture of slowly changing colours in a format of Pillow."""
    stream = io.BytesIO()
    Image.fromarray(pixels(np.random.default_rng(7), side)).save(stream, form, **options)
    return stream.getvalue()


def _grey(value: int = 0, side: int = 24) -> np.ndarray:
    return np.random.default_rng(value).integers(0, 255, (side, side, 1), dtype=np.uint8)


def _many_frames(path: Path, count: int = 3000) -> None:
    frames = [Image.fromarray(_grey(0, 16)[..., 0] // 2 + (number % 100)) for number in range(count)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=20)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _special(kind: int, device: int = 0) -> Callable[[Path], None]:
    return lambda path: os.mknod(path, kind | 0o600, device)


def _locked(path: Path) -> None:
    path.mkdir()
    (path / "a.png").write_bytes(picture_as("PNG"))
    path.chmod(0)


def _locked_file(path: Path) -> None:
    path.write_bytes(picture_as("PNG"))
    path.chmod(0)


def _not_utf8(path: Path) -> None:
    (path.parent / os.fsdecode(b"caf\xe9.png")).write_bytes(picture_as("PNG"))


def _link(to: str | Path, *, folder: bool = False) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(to, target_is_directory=folder)


def _loop(path: Path) -> None:
    path.symlink_to(path.parent, target_is_directory=True)


def _not_finite(path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(1, 40, 40)).astype(np.float32)
    values[0, :5], values[0, 5:9], values[0, 9:12] = np.nan, np.inf, -np.inf
    if path.suffix == ".tif":
        raster(path, values)
    else:
        _nifti(path, np.moveaxis(values, 0, -1))


def _nowhere_finite(path: Path) -> None:
    raster(path, np.full((1, 40, 40), np.nan, np.float32))


def _nifti(path: Path, values: np.ndarray) -> None:
    import nibabel

    nibabel.Nifti1Image(values, np.diag([1, 1, 3, 1])).to_filename(path)


def _whole_dicom() -> bytes:
    return dicom_of(64, 64, pixels=np.random.default_rng(0).bytes(64 * 64))


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", picture_as("PNG"))
        archive.writestr("../../escapes.png", bytes(10_000_000))
    return stream.getvalue()


def _stray_quote(path: Path) -> None:
    """Writes the table of all images beside it, one cell of which begins with a quote that nothing closes."""
    found = sorted(path.parent.glob("line_*/*/*.png")) or sorted(path.parent.glob("*/*.png"))
    lines = ["path,domain,label"]
    for image in found:
        parts = image.relative_to(path.parent).as_posix().split("/")
        lines.append(f"{'/'.join(parts)},{parts[0]},{parts[-2]}")
    lines[6] = lines[6].replace(",crack", ',"crack')
    path.write_text("\n".join(lines) + "\n")


def _bytes(data: Callable[[], bytes] | bytes | str) -> Callable[[Path], int]:
    def write(path: Path) -> int:
        content = data() if callable(data) else data
        return path.write_bytes(content.encode() if isinstance(content, str) else content)

    return write


def _then_cut(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        make(path)
        _cut(path)

    return write


def hostile_files(outside: Path) -> Iterator[Hostile]:
    """Yields all of them; `outside` is a picture that no file may lead to."""
    good = "line_a/good"
    quarantined = "quarantined: "
    too_many = f"{quarantined}too many pixels"
    linked, no_link = f"{quarantined}symbolic link: refused", "refused: .*symbolic link: refused, not followed"
    cut = f"{quarantined}(file is truncated|cannot be decoded|.*truncated)"
    text = f"{quarantined}content is text, not an image"
    unknown = f"{quarantined}not an image: unknown content, begins with"
    no_reader = f"{quarantined}no reader for"
    packed, damaged = f"{quarantined}pixels cannot be decoded as", f"{quarantined}pixels are damaged"

    def one(name: str, file: str, make: Callable[[Path], object], end: str, **more: str) -> Hostile:
        return Hostile(name, f"{good}/{file}", make, end, **more)

    # what is no regular file
    yield one("named pipe", "a.png", os.mkfifo, f"{quarantined}a named pipe and no file: refused")
    yield one("socket", "a.png", _special(stat.S_IFSOCK), f"{quarantined}a socket and no file: refused")
    yield one(
        "device", "a.png", _special(stat.S_IFCHR, os.makedev(1, 5)), f"{quarantined}a device and no file: refused"
    )
    yield one("sparse file of 30 GB", "a.tif", sparse, f"{quarantined}sparse file: refused")
    yield one("sparse DICOM of 30 GB", "a.dcm", lambda p: sparse(p, bytes(128) + b"DICM"), f"{quarantined}sparse file")
    yield one("1,500 nested folders", "deep", nest, f"{quarantined}folder is more than 64 folders deep")
    yield one("folder that cannot be opened", "locked", _locked, f"{quarantined}folder cannot be opened")
    yield one("file that cannot be opened", "a.png", _locked_file, f"{quarantined}cannot be opened")
    yield one("name that is not UTF-8", "x", _not_utf8, f"{quarantined}its name, or that of its folder, is not UTF-8")
    yield one("link in a loop", "loop", _loop, linked, add=no_link)
    yield one("link to itself", "a.png", lambda p: p.symlink_to(p), linked, add=no_link)
    yield one("link out of the folder", "a.png", _link(outside), linked, add=no_link)
    yield one("link to a folder outside", "away", _link("/etc", folder=True), linked, add=no_link)
    yield one("link to nothing", "a.png", _link("nowhere.png"), linked, add=no_link)
    # what declares, or holds, far more than its bytes
    yield one("TIFF of 800 pages", "a.tif", _bytes(lambda: tiff(*[(_grey(n), {}) for n in range(800)])), READ)
    yield one("TIFF of 20,000 pages", "a.tif", _bytes(lambda: tiff_of(8, 8, 20_000)), f"{quarantined}20000 images in")
    yield one("TIFF with pages in a circle", "a.tif", circle, READ)
    yield one("TIFF with pages in a circle, on its own header", "a.tif", _bytes(tiff_of(8, 8, 3, endless=True)), READ)
    yield one("TIFF bomb", "a.tif", _bytes(tiff_of(60_000, 60_000)), too_many)
    yield one("GeoTIFF of 419 bytes", "a.tif", lambda p: declared_raster(p, 20_000), f"{too_many} for its size")
    yield one(
        "GeoTIFF of tiles, sparse", "a.tif",
        lambda p: declared_raster(p, 200_000, tiled=True, blockxsize=256, blockysize=256, BIGTIFF="YES"),
        f"{too_many} for its size",
    )  # fmt: skip
    yield one("PNG bomb", "a.png", _bytes(lambda: png_of(12_000, 12_000)), too_many)
    yield one("PNG that declares too much", "a.png", _bytes(png_of(30_000, 30_000, 3)), too_many)
    yield one("BMP bomb", "a.bmp", _bytes(bmp_of(60_000, 60_000)), too_many)
    yield one("PNM bomb", "a.ppm", _bytes(b"P6 60000 60000 255\n" + bytes(64)), too_many)
    yield one("JPEG 2000 bomb", "a.jp2", jpeg_2000_bomb, too_many)
    yield one("JPEG of 900 passes", "a.jpg", _bytes(lambda: jpeg_of_scans(2000, 2000, 900)), f"{quarantined}JPEG of")
    yield one("JPEG of 90 passes", "a.jpg", _bytes(lambda: jpeg_of_scans(2000, 2000, 80)), READ)
    yield one("GIF of 3,000 frames", "a.gif", _many_frames, READ)
    yield one("animated WebP of 300 frames", "a.webp", lambda p: _many_frames(p, 300), READ)
    # cut off, empty, or something else
    for suffix, form in {
        "png": "PNG", "jpg": "JPEG", "tif": "TIFF", "bmp": "BMP", "webp": "WEBP", "gif": "GIF", "ppm": "PPM",
    }.items():  # fmt: skip
        yield one(f"truncated {form}", f"a.{suffix}", _then_cut(_bytes(lambda form=form: picture_as(form))), cut)
    values = np.random.default_rng(0).integers(0, 255, (5, 64, 64), dtype=np.uint8)
    yield one("truncated GeoTIFF", "a.tif", _then_cut(lambda p: raster(p, values)), cut)
    yield one("truncated JPEG 2000", "a.jp2", _then_cut(lambda p: raster(p, values[:1], "JP2OpenJPEG")), cut)
    for suffix in ("png", "jpg", "tif", "gif", "jp2", "dcm", "nii.gz"):
        yield one(f"empty .{suffix}", f"a.{suffix}", _bytes(b""), f"{quarantined}file is empty")
    yield one("zero bytes only", "a.png", _bytes(bytes(400)), f"{quarantined}content is zero bytes only, not an image")
    yield one("noise named .png", "a.png", _bytes(np.random.default_rng(0).bytes(9000)), unknown)
    yield one("text named .jpg", "a.jpg", _bytes("these are words\n" * 9), text)
    yield one("HTML page named .jpg", "a.jpg", _bytes("<html><body>404 Not Found</body></html>"), text)
    yield one("SVG that names a file", "a.svg", _bytes(f'<svg><image href="file://{outside}"/></svg>'), no_reader)
    yield one("SVG named .png", "a.png", _bytes(f'<svg><image href="file://{outside}"/></svg>'), text)
    script = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({outside}) (r) file\n"
    yield one("PostScript", "a.eps", _bytes(script), no_reader)
    yield one("PostScript named .png", "a.png", _bytes(script), text)
    yield one("VRT that names a file", "a.vrt", _bytes(vrt_of(outside)), f"{BESIDE}: geographic side files")
    yield one("VRT named .tif", "a.tif", _bytes(vrt_of(outside)), text)
    yield one(
        "VRT of a huge raster", "a.geotiff", _bytes(vrt_of(outside, 10**6)), f"{quarantined}content is a GDAL VRT"
    )
    yield one("pickle named .png", "a.png", _bytes(b"\x80\x04\x95cos\nsystem\n(S'id'\ntR."), unknown)
    yield one("ZIP", "a.zip", _bytes(_zip), no_reader)
    yield one("ZIP named .png", "a.png", _bytes(_zip), f"{quarantined}content is a ZIP archive")
    # odd, but sound or nearly so
    yield one("NaN and inf in a TIFF", "a.tif", _not_finite, READ)
    yield one("TIFF of NaN alone", "a.tif", _nowhere_finite, READ)
    yield one("one-pixel PNG", "a.png", _bytes(lambda: picture_as("PNG", 1)), READ)
    yield one("one-pixel TIFF", "a.tif", _bytes(tiff((_grey(0, 1), {}))), READ)
    yield one("PNG of 1 x 80,000 pixels", "a.png", _bytes(lambda: png_of(1, 80_000)), READ)
    # medical
    for name, file, make, end in (
        ("packed NIfTI that declares gigabytes", "nii.gz", lambda p: packed_nifti(p, 1024, 1024, 1024), too_many),
        ("packed NIfTI that holds 2 GB", "nii.gz", unpacking_nifti, too_many),
        ("packed NIfTI that holds more than it declares", "nii.gz", _overfull, READ),
        ("NIfTI of huge slices", "nii", _bytes(nifti_of(30_000, 30_000, 4)), too_many),
        ("NaN and inf in a NIfTI", "nii.gz", _not_finite, READ),
        ("NIfTI without voxels", "nii", _bytes(nifti_of(64, 64, 3)), cut),
        ("truncated NIfTI", "nii", _then_cut(lambda p: _nifti(p, values)), cut),
        ("truncated packed NIfTI", "nii.gz", _then_cut(lambda p: _nifti(p, values)), cut),
        ("DICOM bomb", "dcm", _bytes(dicom_of(60_000, 60_000)), too_many),
        ("DICOM of 10,000 frames in two bytes", "dcm", _bytes(dicom_of(900, 900, 10_000)), cut),
        ("DICOM without pixels", "dcm", _bytes(_whole_dicom()[: -64 * 64 - 12]), f"{quarantined}holds no image"),
        ("truncated DICOM", "dcm", _then_cut(_bytes(_whole_dicom())), cut),
        ("DICOM of packed garbage", "dcm", _bytes(encapsulated(bytes(range(256)) * 8)), packed),
        ("DICOM of a packed box without length", "dcm",
         _bytes(encapsulated(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(64))), damaged),
        ("one-pixel DICOM", "dcm", _bytes(dicom_of(1, 1)), READ),
    ):  # fmt: skip
        yield one(name, f"{NAME}.{file}", make, end, kind="medical")
    # tables
    line = "refused: .*line 7: a field begins with a quote that is not closed"
    yield Hostile("images.csv with one stray quote", "images.csv", _stray_quote, line)
    beside = f"{BESIDE}: annotations and tables"
    yield Hostile("a table beside images with one stray quote", "line_a/labels.csv", _stray_quote, beside)


def _overfull(path: Path) -> None:
    """Writes a packed NIfTI of a small volume, after which a gigabyte of zeros follows."""
    with gzip.open(path, "wb", 9) as stream:
        stream.write(nifti_of(64, 64, 3) + np.random.default_rng(0).bytes(64 * 64 * 3))
        for _ in range(64):
            stream.write(bytes(2**24))


def remove(path: Path) -> None:
    """Removes a hostile file or folder, whatever it is."""
    if path.name == "x":
        (path.parent / os.fsdecode(b"caf\xe9.png")).unlink()
    elif path.name == "deep":
        remove_nest(path)
    elif path.is_dir() and not path.is_symlink():
        path.chmod(0o700)
        shutil.rmtree(path)
    else:
        path.unlink()
