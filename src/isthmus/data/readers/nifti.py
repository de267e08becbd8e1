"""NIfTI-1 and NIfTI-2 through nibabel's headers: scaled values, axes nearest to RAS, one part a slice.

Slices lie as a scanner takes them and as DICOM holds them: across the axis whose voxels are farthest apart, or whose
spacing differs from the two others, which are alike; where all three are alike, across the one that the header names,
else axial. They are turned as DICOM turns them (PS3.3, C.7.6.2): axial ones with the patient's front above and right
side on the left, sagittal ones with the head above and the front on the left, coronal ones with the head above and the
right side on the left. A spacing without a unit is taken for [mm], and `facts` say so.

The content decides whether a file is packed, and not its name. A packed volume is unpacked once for all of its slices,
in the dtype that it is stored in, and two volumes a process are kept, image and mask; an unpacked one is read slice by
slice. Of a pair
`.hdr` and `.img` the second is the image, identified by its bytes, and the first is read with it. MONAI's `LoadImage`
and `Orientation` give the same values (a test holds that) and are not used: they load the whole volume.
"""

import gzip
import math
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import DataError
from isthmus.core.files import sha256_bytes
from isthmus.data.bounds import DEFAULT, Bounds, Declared, check_declared
from isthmus.data.formats.nifti_volume import Volume, is_packed, plane, slice_and_time, turned, unpacked, volume_of
from isthmus.data.image import Image
from isthmus.data.read_errors import reason_for
from isthmus.data.readers import Reader, require
from isthmus.data.slices import Slice

_PLANES = ("sagittal", "coronal", "axial")  # across the first, second, third axis of RAS


class FileReader(Reader):
    """Decodes voxels by nibabel's header."""

    suffixes: ClassVar[frozenset[str]] = frozenset({".nii", ".nii.gz", ".img", ".img.gz", ".hdr", ".hdr.gz"})
    stacks: ClassVar[bool] = True

    def parts(self, path: Path, bounds: Bounds = DEFAULT, frames: bool = False) -> list[str]:
        """Returns one name a slice: `["0", "1"]` of a volume, `["0-0", "1-0", "0-1"]` (slice-time) of a series."""
        with _reasons(path):
            volume = _checked(path, bounds)
        slices, times = volume.along(volume.across), volume.shape[3]
        if times == 1:
            return [str(z) for z in range(slices)] if slices > 1 else [""]
        return [f"{z}-{t}" for t in range(times) for z in range(slices)]

    def read(self, path: Path, part: str, bounds: Bounds = DEFAULT) -> Image:
        """Decodes one slice, float32 `[H, W, 1]` (or uint8 RGB `[H, W, 3]`)."""
        with _reasons(path):
            volume = _checked(path, bounds)
            pixels = _values(volume, plane(volume, _turned(path), part))
        return Image(pixels, "rgb" if pixels.shape[2] == 3 else "grey", _facts(volume))

    def numbers(self, path: Path, part: str, bounds: Bounds = DEFAULT) -> NDArray[Any]:
        """Decodes the values, which have no colours."""
        return self.read(path, part, bounds).pixels

    def frame(self, path: Path, part: str, bounds: Bounds = DEFAULT) -> Image:
        """Decodes the slice."""
        return self.read(path, part, bounds)

    def slice_of(self, path: Path, part: str) -> Slice | None:
        """Returns the place of a slice: a file is one volume, and one a time where it is a series in time."""
        z, t = slice_and_time(part)
        with _reasons(path):
            volume = volume_of(path)
        series = sha256_bytes(f"{path.absolute()} {t}".encode())
        return Slice(series, (0.0, 0.0, 1.0), z * (volume.spacing[volume.across] if volume.spacing else 1.0))

    def person(self, path: Path, key: bytes | None) -> str | None:
        """Returns None: the header has no field for a person."""
        return None


@contextmanager
def _reasons(path: Path) -> Iterator[None]:
    require("nibabel", "medical")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DataError:
        raise
    except MemoryError:
        raise DataError("too large for the memory of this machine") from None
    except Exception as error:  # a hostile file makes a decoder raise nearly anything; each of it means: unreadable
        cut = isinstance(error, zlib.error | gzip.BadGzipFile)
        raise DataError(reason_for(path, EOFError() if cut else error, "a NIfTI file")) from None


def _facts(volume: Volume) -> dict[str, Any]:
    facts: dict[str, Any] = {"burned_in": "no", "monochrome1": False, "plane": _PLANES[volume.across]}
    if not volume.spacing:
        return facts
    facts["pixel_spacing_mm"] = [volume.spacing[axis] for axis in volume.within]
    facts["slice_thickness_mm"] = volume.spacing[volume.across]
    return facts if volume.unit else facts | {"assumed": "no unit of length is stated: assumed to be mm"}


def _checked(path: Path, bounds: Bounds) -> Volume:
    """Returns what the header says, held against the bounds."""
    volume = volume_of(path)
    height, width = (volume.along(axis) for axis in volume.within)
    images = volume.along(volume.across) * volume.shape[3]
    total = volume.offset + math.prod(volume.shape) * volume.dtype.itemsize
    at_once = total if is_packed(path) else height * width * max(volume.dtype.itemsize, 4)
    check_declared(Declared(height, width, images, at_once, total), path.stat().st_size, bounds)
    return volume


def _turned(path: Path) -> NDArray[Any]:
    """Returns the voxels as they are stored, in RAS order."""
    volume, state = volume_of(path), path.stat()
    return turned(volume, _voxels(volume.voxels, state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=2)
def _voxels(path: Path, changed: int, size: int) -> NDArray[Any]:
    volume = volume_of(path)
    length = math.prod(volume.shape) * volume.dtype.itemsize
    if not is_packed(path):
        if volume.offset + length > size:
            raise EOFError
        return np.memmap(path, volume.dtype, "r", volume.offset, volume.shape, "F")
    with unpacked(path) as stream:
        data = stream.read(volume.offset + length)
    if len(data) < volume.offset + length:
        raise EOFError
    return np.frombuffer(data, volume.dtype, math.prod(volume.shape), volume.offset).reshape(volume.shape, order="F")


def _values(volume: Volume, stored: NDArray[Any]) -> NDArray[Any]:
    """Returns a slice `[H, W]` as its values `[H, W, C]`."""
    if stored.dtype.names:  # RGB24 and RGBA32
        return np.stack([stored[name] for name in "RGB"], axis=-1)
    slope, intercept = volume.scale
    if (slope, intercept) != (1.0, 0.0):
        stored = stored * np.float64(slope) + intercept
    return np.ascontiguousarray(stored[..., None], dtype=np.float32)
