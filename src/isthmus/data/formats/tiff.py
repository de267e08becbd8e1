"""The directories of a TIFF, read by hand: which pages are images, and which library keeps every value of theirs.

TIFF 6.0 (Adobe, 1992), section 2, and the BigTIFF design (Ritter et al., 2004): a directory is a count, as many entries
of tag, type, count and value, and the place of the next directory. A page is one directory. Pages that are marked as a
reduced copy or as a mask of another one (NewSubfileType, SubfileType) are not images.
"""

import io
import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from isthmus.core.errors import DataError
from isthmus.data.formats.image_headers import LARGE

MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Written by GIS software alone: model pixel scale, tie point, transformation, GeoKeys, GDAL's metadata and nodata.
_GEOGRAPHIC = {33550, 33922, 34264, 34735, 42112, 42113}
_NEW_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 254, 256, 257, 258, 259, 262, 266
_ORIENTATION, _SAMPLES, _PLANAR, _EXTRA, _FORMAT, _SUBFILE, _DNG = 274, 277, 284, 338, 339, 255, 50706
_ROWS, _TILE_WIDTH, _TILE_LENGTH = 278, 322, 323  # of a strip, of a tile
_READ = {_NEW_SUBFILE, _SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _ORIENTATION,
         _SAMPLES, _PLANAR, _EXTRA, _FORMAT, _ROWS, _TILE_WIDTH, _TILE_LENGTH}  # fmt: skip
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # BYTE, SHORT, LONG, LONG8
_MOST_VALUES = 64  # of one tag; a page of more samples is no picture, whatever the others say
_MOST_ENTRIES = 4096  # of a directory; the standard names some 100 tags
_MOST_PAGES = 1_000_000  # that are walked; `ingest.files.max_images` refuses far fewer
WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, PALETTE, _CMYK = 0, 1, 2, 3, 5
_RAW = {32803, 34892}  # colour filter array, linear raw: a camera's sensor and no picture yet
_CANON = b"CR"  # after the header of a Canon raw file
_UINT, _INT, _FLOAT = 1, 2, 3
_UNSPECIFIED, _ASSOCIATED, _ALPHA = 0, 1, 2  # of ExtraSamples
_PICTURE_SAMPLES = 4  # grey, RGB, RGBA, CMYK; more are spectral bands
# None, fax, LZW, both kinds of JPEG, deflate, PackBits, LZMA, Zstandard, WebP: what Pillow's libtiff unpacks.
_UNPACKED = {1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32946, 34925, 50000, 50001}
# What Pillow reads without losing a value, tried against GDAL: photometric, bits of samples, format, extra samples.
_KEPT = {
    *((photometric, (bits,), _UINT, ()) for photometric in (0, 1) for bits in (1, 2, 4, 8)),
    *((_BLACK_IS_ZERO, (bits,), _UINT, ()) for bits in (12, 16)),
    *((_BLACK_IS_ZERO, (bits,), _INT, ()) for bits in (16, 32)),
    (_BLACK_IS_ZERO, (32,), _FLOAT, ()),
    (_BLACK_IS_ZERO, (8, 8), _UINT, (_ALPHA,)),
    *((PALETTE, (bits,), _UINT, ()) for bits in (1, 2, 4, 8)),
    *((_RGB, (bits,) * 3, _UINT, ()) for bits in (8, 16)),
    *((_RGB, (8,) * 4, _UINT, (extra,)) for extra in (_ASSOCIATED, _ALPHA)),
    (_RGB, (16,) * 4, _UINT, (_ALPHA,)),
    (_CMYK, (8,) * 4, _UINT, ()),
}


@dataclass(frozen=True)
class Page:
    """One directory: where it lies, where the place of the next one is written, and those of its tags that we read."""

    place: int
    next_at: int
    tags: dict[int, tuple[int, ...]]
    geographic: bool
    raw: bool  # of a camera: not developed yet
    swapped: bool  # the most significant byte first
    big: bool  # BigTIFF

    @property
    def is_image(self) -> bool:
        """Whether it is neither a reduced copy nor a mask of another page."""
        return not self._subfile & (_REDUCED | _MASK) and self._first(_SUBFILE, 1) != 2

    @property
    def is_mask(self) -> bool:
        """Whether it says which pixels of another page have data."""
        return bool(self._subfile & _MASK)

    @property
    def is_scene(self) -> bool:
        """Whether it is a georeferenced or many-band raster and no picture."""
        return self.geographic or self._first(_SAMPLES, 1) > _PICTURE_SAMPLES

    @property
    def pillow_keeps_it(self) -> bool:
        """Whether Pillow gives every value as it is stored; else GDAL does, or says why it cannot."""
        bits = self.tags.get(_BITS, (1,))
        samples = self._first(_SAMPLES, 1)
        layout = (self.photometric, bits, self._first(_FORMAT, _UINT), self.tags.get(_EXTRA, ()))
        apart = self._first(_PLANAR, 1) == 2
        return (
            layout in _KEPT
            and not (self.swapped and (self.big or bits == (32,) or layout[2] == _INT))
            and len(bits) == samples
            and len(set(self.tags.get(_FORMAT, (_UINT,)))) == 1
            and self._first(_COMPRESSION, 1) in _UNPACKED
            and (not apart or (self.photometric == _RGB and bits == (8, 8, 8)))
            and (self._first(_FILL_ORDER, 1) == 1 or bits == (1,))
        )

    @property
    def photometric(self) -> int:
        """What 0 means: white, black, a colour; -1 where the page does not say."""
        return self._first(_PHOTOMETRIC, -1)

    @property
    def premultiplied(self) -> bool:
        """Whether its colours are multiplied by their transparency already."""
        return self._first(_EXTRA, _UNSPECIFIED) == _ASSOCIATED

    @property
    def orientation(self) -> int:
        """Where row 0 and column 0 lie in the scene, 1 to 8."""
        return self._first(_ORIENTATION, 1)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width [pixel], 0 where the page does not say."""
        return self._first(_HEIGHT, 0), self._first(_WIDTH, 0)

    @property
    def layout(self) -> tuple[Any, ...]:
        """What is the same of pages that lie in the file in one way."""
        return self.geographic, tuple(sorted(self.tags.items()))

    @property
    def _subfile(self) -> int:
        return self._first(_NEW_SUBFILE, 0)

    def _first(self, tag: int, default: int) -> int:
        values = self.tags.get(tag)
        return values[0] if values else default


def is_tiff(path: Path) -> bool:
    """Returns whether a file begins as a TIFF or BigTIFF does."""
    try:
        with path.open("rb") as stream:
            return stream.read(4) in MARKS
    except OSError:
        return False


def images_of(path: Path) -> list[Page]:
    """Returns the pages that are images; none where the file cannot be followed, and its reader says why.

    Raises:
        DataError: the file holds no picture that is ready, or ends before its directories do.
    """
    pages = pages_of(path)
    images = [page for page in pages if page.is_image]
    if any(page.raw for page in pages):
        raise DataError("holds a camera's raw image. Develop it and save it as TIFF, PNG or JPEG")
    if pages and not images:
        raise DataError("holds only reduced copies or masks of an image, and not the image")
    return images


def image_at(path: Path, part: str) -> tuple[int, Page]:
    """Returns a page by the name of its part, and its number among all pages; the first image for ''.

    Raises:
        DataError: there is no such page.
    """
    pages = pages_of(path)
    numbers = [number for number, page in enumerate(pages) if page.is_image] if not part else [int(part)]
    if not numbers or not 0 <= numbers[0] < len(pages):
        raise DataError(f"has no page {part or 0}: it has {len(pages)} pages")
    return numbers[0], pages[numbers[0]]


def parts_of(path: Path) -> list[str]:
    """Returns `[""]` for one image, else the numbers of the pages that are images."""
    images_of(path)
    numbers = [str(number) for number, page in enumerate(pages_of(path)) if page.is_image]
    return [""] if len(numbers) < 2 else numbers


def needs_gdal(path: Path) -> bool:
    """Returns whether GDAL is to read a TIFF: a raster, or a picture of which Pillow would lose something."""
    try:
        pages = pages_of(path)
    except DataError:
        return False
    images = [page for page in pages if page.is_image]
    kept = all(not p.is_scene and p.pillow_keeps_it and math.prod(p.size) <= LARGE for p in images)
    return not kept or any(page.is_mask for page in pages)


def pages_of(path: Path) -> list[Page]:
    """Returns all directories in their order, each file's once a process while it does not change.

    Raises:
        DataError: a directory lies beyond the end of the file.
    """
    state = path.stat()
    return list(_pages(path.absolute(), state.st_mtime_ns, state.st_size))


def page_alone(path: Path, page: Page) -> BinaryIO:
    """Opens a TIFF as if one of its pages were the only one; the others are not read."""
    return io.BufferedReader(_Alone(path, page))


class _Alone(io.FileIO):
    """The bytes of a file, but for the place of its first directory and that of the one after the page."""

    def __init__(self, path: Path, page: Page) -> None:
        super().__init__(path)
        order, big = _form(self.read(16))
        kind = f"{order}Q" if big else f"{order}I"
        self.seek(0)
        self._changed = {8 if big else 4: struct.pack(kind, page.place), page.next_at: struct.pack(kind, 0)}

    def readinto(self, buffer: Any) -> int:
        start = self.tell()
        count = super().readinto(buffer) or 0
        view = memoryview(buffer).cast("B")
        for place, data in self._changed.items():
            for offset, byte in enumerate(data):
                if 0 <= place + offset - start < count:
                    view[place + offset - start] = byte
        return count


@lru_cache(maxsize=1)
def _pages(path: Path, changed: int, size: int) -> tuple[Page, ...]:
    found: list[Page] = []
    seen: set[int] = set()
    with path.open("rb") as stream:
        try:
            head = stream.read(16)
            order, big = _form(head)
            stream.seek(8 if big else 4)
            kind = struct.Struct(f"{order}Q" if big else f"{order}I")
            (place,) = kind.unpack(stream.read(kind.size))
            while place and place not in seen and len(found) < _MOST_PAGES:
                seen.add(place)
                found.append(_directory(stream, place, order, big, raw=head[8:10] == _CANON))
                stream.seek(found[-1].next_at)
                (place,) = kind.unpack(stream.read(kind.size))
        except (struct.error, ValueError, OverflowError, OSError):  # a place that no file has, or beyond the end
            if found:
                raise DataError(f"file is truncated (page {len(found)} of it lies beyond its end)") from None
    return tuple(found)


def _form(head: bytes) -> tuple[str, bool]:
    """Returns the order of bytes for `struct` and whether places take eight bytes."""
    if head[:4] not in MARKS:
        raise ValueError("no TIFF")
    return ("<" if head[:2] == b"II" else ">"), head[:4] in (b"II+\0", b"MM\0+")


def _directory(stream: BinaryIO, place: int, order: str, big: bool, raw: bool) -> Page:
    counted = struct.Struct(f"{order}Q" if big else f"{order}H")
    entry = struct.Struct(f"{order}HHQ8s" if big else f"{order}HHI4s")
    stream.seek(place)
    (count,) = counted.unpack(stream.read(counted.size))
    if count > _MOST_ENTRIES:
        raise ValueError("no directory")
    data = stream.read(entry.size * count)
    tags: dict[int, tuple[int, ...]] = {}
    geographic = False
    for tag, kind, number, value in entry.iter_unpack(data):
        geographic |= tag in _GEOGRAPHIC
        raw |= tag == _DNG
        if tag in _READ and kind in _TYPES and 0 < number <= _MOST_VALUES:
            tags[tag] = _values(stream, order, _TYPES[kind], number, value)
    raw |= tags.get(_PHOTOMETRIC, (0,))[0] in _RAW
    return Page(place, place + counted.size + len(data), tags, geographic, raw, order == ">", big)


def _values(stream: BinaryIO, order: str, kind: str, number: int, value: bytes) -> tuple[int, ...]:
    form = struct.Struct(f"{order}{number}{kind}")
    if form.size > len(value):
        (place,) = struct.unpack(f"{order}Q" if len(value) == 8 else f"{order}I", value)
        stream.seek(place)
        value = stream.read(form.size)
    return tuple(form.unpack_from(value))
