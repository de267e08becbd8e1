"""Files -> decoded images. One module a family of formats; the folder is the registry."""

from abc import ABC, abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from isthmus.core import plugins
from isthmus.core.errors import DataError
from isthmus.data.image import Image
from isthmus.data.slices import Slice
from isthmus.data.tiff import is_raster


class Reader(ABC):
    """Decodes one family of formats. A module here has a final class `FileReader(Reader)`."""

    suffixes: ClassVar[frozenset[str]]  # lower case, with the dot; ".nii.gz" counts as one

    @abstractmethod
    def parts(self, path: Path) -> list[str]:
        """Returns the names of the images in the file: `[""]` for one, `["0", "1"]` for pages or frames.

        Raises:
            DataError: with the reason why the file cannot be read, true and without its path.
        """

    @abstractmethod
    def read(self, path: Path, part: str) -> Image:
        """Decodes one image of the file wholly, so that a truncated file fails here.

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
        """Returns a keyed hash of the person whom the file names, None for a format that names nobody.

        Nothing else that identifies a person leaves a reader: neither facts nor reasons hold it.

        Raises:
            DataError: the file names a person and there is no key to hide the name under.
        """


def reader_for(path: Path) -> Reader:
    """Returns the reader for a file: by its suffix, and by content where the suffix does not decide.

    A `.tif` with geographic tags or more than four bands is a raster, any other a picture. Scanners write DICOM
    without a suffix, or with a number as one: a file that no suffix claims is looked into for its mark.

    Raises:
        DataError: no reader knows the suffix.
    """
    name = path.name.lower()
    table = _by_suffix()
    for suffix in sorted(table, key=len, reverse=True):
        if name.endswith(suffix):
            raster = suffix in (".tif", ".tiff") and is_raster(path)
            return _reader("geotiff" if raster else table[suffix])
    if _is_dicom(path):
        return _reader("dicom")
    raise DataError(f"no reader for '{path.suffix or 'a file without suffix'}'. Known: {', '.join(sorted(table))}")


@lru_cache  # a reader keeps nothing, and looking through the folder costs as much as opening a photograph
def _reader(name: str) -> Reader:
    reader: Reader = plugins.load("data.readers", name).FileReader()
    return reader


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"  # PS3.10, 7.1: a preamble of 128 bytes, then the mark
    except OSError:
        return False


@lru_cache(maxsize=1)
def _by_suffix() -> dict[str, str]:
    # A module states its suffixes without importing what it needs to decode, so this costs no heavy import.
    return {suffix: name for name in plugins.names("data.readers") for suffix in _suffixes(name)}


def _suffixes(name: str) -> frozenset[str]:
    suffixes: frozenset[str] = plugins.load("data.readers", name).FileReader.suffixes
    return suffixes
