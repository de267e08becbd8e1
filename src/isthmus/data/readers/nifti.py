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
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import DataError
from isthmus.core.files import sha256_bytes
from isthmus.data.bounds import DEFAULT, Bounds, Declared, check_declared
from isthmus.data.image import Image
from isthmus.data.read_errors import reason_for
from isthmus.data.readers import Reader, require
from isthmus.data.slices import Slice

_MAGICS = {b"n+1\0": "Nifti1Header", b"ni1\0": "Nifti1PairHeader", b"n+2\0": "Nifti2Header",
           b"ni2\0": "Nifti2PairHeader"}  # fmt: skip
_HEADER = 540  # [byte] of NIfTI-2's, the longer one
_MILLIMETRES = {"mm": 1.0, "meter": 1000.0, "micron": 0.001}
_ALIKE = 0.01  # [share] that two spacings may differ by and count as one
_PLANES = ("sagittal", "coronal", "axial")  # across the first, second, third axis of RAS
_GZIP = b"\x1f\x8b"


class _Volume(NamedTuple):
    """What a header says.

    Attributes:
        voxels: the file that holds them.
        dtype: as they are stored.
        shape: as they are stored: three axes and times.
        offset: where they begin in the unpacked file [byte].
        scale: slope and intercept; real = slope * stored + intercept.
        turn: nibabel's orientation, from the file's axes to RAS.
        across: the axis of RAS, 0 to 2, that slices lie across.
        spacing: along the axes of RAS [mm]; empty where the header states none.
        unit: whether the header states the unit of it.
    """

    voxels: Path
    dtype: np.dtype[Any]
    shape: tuple[int, int, int, int]
    offset: int
    scale: tuple[float, float]
    turn: NDArray[Any]
    across: int
    spacing: tuple[float, ...]
    unit: bool

    def along(self, axis: int) -> int:
        """Returns the number of voxels along an axis of RAS."""
        return self.shape[list(self.turn[:, 0].astype(int)).index(axis)]

    @property
    def within(self) -> tuple[int, int]:
        """The axes of RAS that the rows of a slice follow one another along, and its columns."""
        columns, rows = (axis for axis in range(3) if axis != self.across)
        return rows, columns


class FileReader(Reader):
    """Decodes voxels by nibabel's header."""

    suffixes: ClassVar[frozenset[str]] = frozenset({".nii", ".nii.gz", ".img", ".img.gz", ".hdr", ".hdr.gz"})

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
        z, t = _numbers(part)
        with _reasons(path):
            volume = _checked(path, bounds)
            pixels = _slice(volume, _turned(path), z, t)
        return Image(pixels, "rgb" if pixels.shape[2] == 3 else "grey", _facts(volume))

    def numbers(self, path: Path, part: str, bounds: Bounds = DEFAULT) -> NDArray[Any]:
        """Decodes the values, which have no colours."""
        return self.read(path, part, bounds).pixels

    def frame(self, path: Path, part: str, bounds: Bounds = DEFAULT) -> Image:
        """Decodes the slice."""
        return self.read(path, part, bounds)

    def slice_of(self, path: Path, part: str) -> Slice | None:
        """Returns the place of a slice: a file is one volume, and one a time where it is a series in time."""
        z, t = _numbers(part)
        with _reasons(path):
            volume = _volume(path)
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


def _numbers(part: str) -> tuple[int, int]:
    z, _, t = part.partition("-")
    return int(z or 0), int(t or 0)


def _facts(volume: _Volume) -> dict[str, Any]:
    facts: dict[str, Any] = {"burned_in": "no", "monochrome1": False, "plane": _PLANES[volume.across]}
    if not volume.spacing:
        return facts
    facts["pixel_spacing_mm"] = [volume.spacing[axis] for axis in volume.within]
    facts["slice_thickness_mm"] = volume.spacing[volume.across]
    return facts if volume.unit else facts | {"assumed": "no unit of length is stated: assumed to be mm"}


def _is_packed(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == _GZIP


@contextmanager
def _unpacked(path: Path) -> Iterator[Any]:
    with gzip.open(path) if _is_packed(path) else path.open("rb") as stream:
        yield stream


def _checked(path: Path, bounds: Bounds) -> _Volume:
    """Returns what the header says, held against the bounds."""
    volume = _volume(path)
    height, width = (volume.along(axis) for axis in volume.within)
    images = volume.along(volume.across) * volume.shape[3]
    total = volume.offset + math.prod(volume.shape) * volume.dtype.itemsize
    at_once = total if _is_packed(path) else height * width * max(volume.dtype.itemsize, 4)
    check_declared(Declared(height, width, images, at_once, total), path.stat().st_size, bounds)
    return volume


def _volume(path: Path) -> _Volume:
    header = _beside(path, "img", "hdr") or path
    if re.search(r"\.hdr(\.gz)?$", path.name.lower()):
        raise DataError("is the header of a pair, which is read with its '.img'; that is not here or is listed itself")
    state = header.stat()
    return _described(path, header.absolute(), state.st_mtime_ns, state.st_size)


def _beside(path: Path, one: str, other: str) -> Path | None:
    """Returns the other file of a pair; None where a file is no part of one.

    Raises:
        DataError: the other file is not there.
    """
    found = re.search(rf"\.({one})(\.gz)?$", path.name, re.IGNORECASE)
    if found is None:
        return None
    stem, packed = path.name[: found.start()], found.group(2) or ""
    for name in (f"{stem}.{other}{packed}", f"{stem}.{other.upper()}{packed}", f"{stem}.{other}"):
        if (there := path.with_name(name)).is_file():
            return there
    raise DataError(f"one file of a pair: its header '.{other}' is not beside it")


# The headers of an image and its mask, for all of their slices; `changed` and `size` renew what is kept.
@lru_cache(maxsize=2)
def _described(voxels: Path, file: Path, changed: int, size: int) -> _Volume:
    import nibabel

    with _unpacked(file) as stream:
        block = stream.read(_HEADER)
    name = _MAGICS.get(block[344:348]) or _MAGICS.get(block[4:8])
    if name is None:
        raise _no_mark(file, block)
    kind = getattr(nibabel.nifti1 if "1" in name else nibabel.nifti2, name)
    header = kind(block[: kind.template_dtype.itemsize])
    shape = _checked_shape(header)
    slope, intercept = header.get_slope_inter()
    turn = _orientation(header.get_best_affine())
    axes = list(turn[:, 0].astype(int))
    unit = _MILLIMETRES.get(header.get_xyzt_units()[0])
    zooms = [float(zoom) for zoom in header.get_zooms()[:3]]
    stated = len(zooms) == 3 and all(math.isfinite(zoom) and zoom > 0 for zoom in zooms)
    spacing = tuple((unit or 1.0) * zooms[axes.index(axis)] for axis in range(3)) if stated else ()
    named = header.get_dim_info()[2]
    across = _across([shape[axes.index(axis)] for axis in range(3)], spacing, None if named is None else axes[named])
    return _Volume(
        voxels, header.get_data_dtype(), shape, int(header.get_data_offset()),
        (1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)),
        turn, across, spacing, unit is not None,
    )  # fmt: skip


def _no_mark(file: Path, block: bytes) -> Exception:
    if block[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c"):  # 348, the size of the header, NIfTI's and Analyze's
        if len(block) < 348:
            return EOFError()
        return DataError("is an Analyze 7.5 file, which does not state left and right. Save it as NIfTI")
    if block.startswith(b"ENVI"):
        return DataError("is an ENVI raster of two files. Save it as GeoTIFF")
    if not block and file.stat().st_size:
        return EOFError()
    return ValueError("neither the mark of NIfTI-1 nor that of NIfTI-2 is in its header")


def _checked_shape(header: Any) -> tuple[int, int, int, int]:
    """Returns the axes of the file and times: `(x, y, slices, times)`."""
    shape = tuple(int(side) for side in header.get_data_shape())
    while len(shape) > 4 and shape[-1] == 1:
        shape = shape[:-1]
    if not 2 <= len(shape) <= 4 or min(shape) < 1:
        got = " x ".join(map(str, shape)) or "no axes"
        raise DataError(f"array of {got}; slices, volumes and series of 2 to 4 axes are read")
    if header.get_data_dtype().kind == "c":
        raise DataError("voxels are complex numbers. Save magnitude or phase as a file of its own")
    x, y, z, t = (*shape, 1, 1)[:4]
    return x, y, z, t


def _orientation(affine: Any) -> NDArray[Any]:
    from nibabel.orientations import io_orientation

    found: NDArray[Any] = io_orientation(affine)
    if not np.isfinite(found).all():
        raise DataError("affine does not define the axes: it is singular")
    return found


def _across(shape: list[int], spacing: tuple[float, ...], named: int | None) -> int:
    """Returns the axis that slices lie across.

    Args:
        shape: voxels along the three axes.
        spacing: of the three axes; empty: not known.
        named: the axis that the header names.

    >>> _across([4, 64, 64], (5.0, 2.0, 2.0), None), _across([64, 64, 90], (0.9, 0.9, 0.6), None)
    (0, 2)
    >>> _across([9, 9, 9], (1.0, 1.0, 1.0), 1), _across([9, 9, 9], (1.0, 1.0, 1.0), None)
    (1, 2)
    """
    if thin := [axis for axis in (2, 0, 1) if shape[axis] == 1]:
        return thin[0]
    alike = [
        third
        for third, (one, other) in ((2, (0, 1)), (0, (1, 2)), (1, (0, 2)))
        if spacing and abs(spacing[one] - spacing[other]) <= _ALIKE * max(spacing[one], spacing[other])
    ]
    if len(alike) == 1:
        return alike[0]
    if not spacing or alike:
        return 2 if named is None else named
    return max(range(3), key=lambda axis: spacing[axis])


def _turned(path: Path) -> NDArray[Any]:
    """Returns the voxels as they are stored, `[X, Y, Z, T]` in RAS order."""
    from nibabel.orientations import apply_orientation

    volume, state = _volume(path), path.stat()
    turned: NDArray[Any] = apply_orientation(_voxels(volume.voxels, state.st_mtime_ns, state.st_size), volume.turn)
    return turned


@lru_cache(maxsize=2)
def _voxels(path: Path, changed: int, size: int) -> NDArray[Any]:
    volume = _volume(path)
    length = math.prod(volume.shape) * volume.dtype.itemsize
    if not _is_packed(path):
        if volume.offset + length > size:
            raise EOFError
        return np.memmap(path, volume.dtype, "r", volume.offset, volume.shape, "F")
    with _unpacked(path) as stream:
        data = stream.read(volume.offset + length)
    if len(data) < volume.offset + length:
        raise EOFError
    return np.frombuffer(data, volume.dtype, math.prod(volume.shape), volume.offset).reshape(volume.shape, order="F")


def _slice(volume: _Volume, voxels: NDArray[Any], z: int, t: int) -> NDArray[Any]:
    """Returns a slice turned as DICOM turns it, `[H, W, C]`; coronal ones are counted from the front."""
    number = voxels.shape[1] - 1 - z if volume.across == 1 else z
    plane = np.moveaxis(voxels, volume.across, 0)[number, ..., t].T[::-1, ::-1]  # `take` would copy the whole volume
    if plane.dtype.names:  # RGB24 and RGBA32
        return np.stack([plane[name] for name in "RGB"], axis=-1)
    slope, intercept = volume.scale
    if (slope, intercept) != (1.0, 0.0):
        plane = plane * np.float64(slope) + intercept
    return np.ascontiguousarray(plane[..., None], dtype=np.float32)
