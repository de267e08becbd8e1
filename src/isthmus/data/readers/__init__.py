"""Files -> decoded images. One module a family of formats; the folder is the registry."""

import importlib.util
import zlib
from abc import ABC, abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from isthmus.core import plugins
from isthmus.core.errors import DataError
from isthmus.core.plugins import install_command
from isthmus.data.bounds import DEFAULT, Bounds
from isthmus.data.formats import tiff
from isthmus.data.formats.image_headers import is_gdals
from isthmus.data.image import Frame, Image
from isthmus.data.slices import Slice

_HEAD = 2048  # [byte]: DICOM's mark is at 128, NIfTI's at 344 at most, also when it is packed
_JP2 = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")  # ISO/IEC 15444-1: a JP2 file, a bare codestream
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
_NIFTI = {(344, b"n+1\0"), (344, b"ni1\0"), (4, b"n+2\0"), (4, b"ni2\0")}


class Reader(ABC):
    """Decodes one family of formats. A module here has a final class `FileReader(Reader)`."""

    suffixes: ClassVar[frozenset[str]]  # lower case, with the dot; ".nii.gz" counts as one
    stacks: ClassVar[bool] = False  # whether several images of a file are slices or frames of one thing

    @abstractmethod
    def parts(self, path: Path, bounds: Bounds = DEFAULT, frames: bool = False) -> list[str]:
        """Returns the names of the images in the file: `[""]` for one, `["0", "1"]` for pages or frames.

        Args:
            path: the file.
            bounds: what it may declare.
            frames: names whole images, each to be cut by `frame`, also where `read` would give windows of them.

        Raises:
            DataError: with the reason why the file cannot be read, true and without its path.
        """

    @abstractmethod
    def read(self, path: Path, part: str, bounds: Bounds = DEFAULT) -> Image:
        """Decodes one image of the file wholly, so that a truncated file fails here.

        Args:
            path: the file.
            part: a name out of `parts`.
            bounds: what the image may declare; `HELD` where the file has been held against them before.

        Raises:
            DataError: with the reason why the file cannot be read, true and without its path.
        """

    @abstractmethod
    def numbers(self, path: Path, part: str, bounds: Bounds = DEFAULT) -> NDArray[Any]:
        """Decodes one image whose values are numbers of classes, `[H, W, C]`: as stored, not as they are shown.

        Of a palette the indices and not the colours, of black and white 0 and 1. Arguments and exceptions: as of
        `read`.
        """

    @abstractmethod
    def frame(self, path: Path, part: str, bounds: Bounds = DEFAULT) -> Frame:
        """Returns one image of which parts will be cut: decoded, or to be read window by window.

        Arguments as of `read`; `part` as `parts` names frames.

        Raises:
            DataError: with the reason why the file cannot be read, true and without its path.
        """

    @abstractmethod
    def slice_of(self, path: Path, part: str) -> Slice | None:
        """Returns where an image lies in its volume, None where the file does not say or the format has none.

        Raises:
            DataError: with the reason why the file cannot be read, true and without its path.
        """

    @abstractmethod
    def person(self, path: Path, key: bytes | None) -> str | None:
        """Returns a keyed hash of the person named in the file, None for a format that names no person.

        Nothing else that identifies a person leaves a reader: neither facts nor reasons hold it.

        Raises:
            DataError: the file names a person and there is no key to hide the name under.
        """


def reader_for(path: Path) -> Reader:
    """Returns the reader for a file: by its content, and by its suffix where no reader knows the content.

    What a suffix claims and the content does not hold is refused by the suffix's reader, with the reason.

    Raises:
        DataError: no reader knows content or suffix.
    """
    if name := _by_content(path):
        return _reader(name)
    table, lower = _by_suffix(), path.name.lower()
    for suffix in sorted(table, key=len, reverse=True):
        if lower.endswith(suffix):
            return _reader(table[suffix])
    raise DataError(f"no reader for '{path.suffix or 'a file without suffix'}'. Known: {', '.join(sorted(table))}")


def require(module: str, extra: str) -> None:
    """Checks that a package which decodes is installed.

    Raises:
        DataError: it is not, and how to install it.
    """
    if importlib.util.find_spec(module) is None:
        raise DataError(f"needs the package '{module}', which is not installed: {install_command(extra)}")


def family_of(data: bytes) -> str:
    """Returns which family of formats a file's first 2048 bytes show, empty where no reader knows them.

    >>> family_of(b"GIF89a..."), family_of(b"no image")
    ('picture', '')
    """
    head = data[:_HEAD]
    if head[128:132] == b"DICM":  # PS3.10, 7.1: a preamble of 128 bytes, which may be another format's header
        return "dicom"
    if head.startswith(tiff.MARKS):
        return "tiff"
    if head.startswith(_JP2):
        return "jpeg 2000"
    if head.startswith(_PICTURES) or _is_picture(head):
        return "picture"
    if head.startswith(b"\x1f\x8b"):
        head = _unpacked(head)
    return "nifti" if any(head[place:].startswith(mark) for place, mark in _NIFTI) else ""


def _by_content(path: Path) -> str:
    """Returns the name of the reader that knows the first bytes, empty where none does."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError:
        return ""
    family = family_of(head)
    if family == "tiff":
        return "geotiff" if tiff.needs_gdal(path) else "image"
    if family == "picture":
        return "geotiff" if is_gdals(path, head) else "image"
    return {"jpeg 2000": "geotiff"}.get(family, family)


def _is_picture(head: bytes) -> bool:
    """Returns whether a head is that of a WebP, BMP or PNM, whose marks are short: what follows must fit."""
    return (
        (head.startswith(b"RIFF") and head[8:12] == b"WEBP")
        or (head.startswith(b"BM") and head[6:10] == bytes(4))
        or (head[:2] in (b"P5", b"P6") and head[2:3].isspace())
    )


def _unpacked(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, _HEAD)
    except zlib.error:
        return b""


@lru_cache  # a reader keeps nothing, and looking through the folder costs as much as opening a photograph
def _reader(name: str) -> Reader:
    reader: Reader = plugins.load("data.readers", name).FileReader()
    return reader


@lru_cache(maxsize=1)
def _by_suffix() -> dict[str, str]:
    # A module states its suffixes without importing what it needs to decode, so this costs no heavy import.
    return {suffix: name for name in plugins.names("data.readers") for suffix in _suffixes(name)}


def _suffixes(name: str) -> frozenset[str]:
    suffixes: frozenset[str] = plugins.load("data.readers", name).FileReader.suffixes
    return suffixes
