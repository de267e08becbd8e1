"""Headers of NIfTI-1 and NIfTI-2 through nibabel's, and which voxels a slice is (how: `readers/nifti.py`)."""

import gzip
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import DataError

_MAGICS = {b"n+1\0": "Nifti1Header", b"ni1\0": "Nifti1PairHeader", b"n+2\0": "Nifti2Header",
           b"ni2\0": "Nifti2PairHeader"}  # fmt: skip
_HEADER = 540  # [byte] of NIfTI-2's, the longer one
_MILLIMETRES = {"mm": 1.0, "meter": 1000.0, "micron": 0.001}
_ALIKE = 0.01  # [share] that two spacings may differ by and count as one
_GZIP = b"\x1f\x8b"


class Volume(NamedTuple):
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


def is_packed(path: Path) -> bool:
    """Says of its content whether a file is packed."""
    with path.open("rb") as stream:
        return stream.read(2) == _GZIP


@contextmanager
def unpacked(path: Path) -> Iterator[Any]:
    """Opens a file, packed or not, to be read."""
    with gzip.open(path) if is_packed(path) else path.open("rb") as stream:
        yield stream


def volume_of(path: Path) -> Volume:
    """Returns what the header of a file says; of a pair it is the `.hdr` beside the `.img`.

    Raises:
        DataError: the file is the header of a pair, or no header states what is needed to read it.
    """
    header = _header_file(path)
    state = header.stat()
    return _described(path, header.absolute(), state.st_mtime_ns, state.st_size)


def header_of(path: Path) -> Any:
    """Returns nibabel's header of a file, of a pair that of its `.hdr`; exceptions as of `volume_of`."""
    return _read_header(_header_file(path))


def _header_file(path: Path) -> Path:
    header = _beside(path, "img", "hdr") or path
    if re.search(r"\.hdr(\.gz)?$", path.name.lower()):
        raise DataError("is the header of a pair, which is read with its '.img'; that is not here or is listed itself")
    return header


def _read_header(file: Path) -> Any:
    import nibabel

    with unpacked(file) as stream:
        block = stream.read(_HEADER)
    name = _MAGICS.get(block[344:348]) or _MAGICS.get(block[4:8])
    if name is None:
        raise _no_mark(file, block)
    kind = getattr(nibabel.nifti1 if "1" in name else nibabel.nifti2, name)
    return kind(block[: kind.template_dtype.itemsize])


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
def _described(voxels: Path, file: Path, changed: int, size: int) -> Volume:
    header = _read_header(file)
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
    return Volume(
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


def turned(volume: Volume, voxels: NDArray[Any]) -> NDArray[Any]:
    """Returns voxels as they are stored `[x, y, slices, times]` in RAS order, a view of them."""
    from nibabel.orientations import apply_orientation

    found: NDArray[Any] = apply_orientation(voxels, volume.turn)
    return found


def plane(volume: Volume, voxels: NDArray[Any], part: str) -> NDArray[Any]:
    """Returns a slice turned as DICOM turns it, `[H, W]`, a view; coronal ones are counted from the front.

    Args:
        volume: of the file.
        voxels: in RAS order.
        part: slice and time, `"3"` or `"3-0"`; empty: the only one.
    """
    z, t = slice_and_time(part)
    number = voxels.shape[1] - 1 - z if volume.across == 1 else z
    found: NDArray[Any] = np.moveaxis(voxels, volume.across, 0)[number, ..., t].T[
        ::-1, ::-1
    ]  # `take` would copy it all
    return found


def slice_and_time(part: str) -> tuple[int, int]:
    """Returns slice and time of a part.

    >>> slice_and_time("3-1"), slice_and_time("3"), slice_and_time("")
    ((3, 1), (3, 0), (0, 0))
    """
    z, _, t = part.partition("-")
    return int(z or 0), int(t or 0)
