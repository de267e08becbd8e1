"""NIfTI-1 and NIfTI-2 through nibabel: scaled values, axes nearest to RAS, one part a slice along the last axis.

Rows run from anterior to posterior and columns from left to right where the slices are axial: the array of nibabel,
first axis to the right and second to the front, transposed and turned upright. A volume is decoded once for all of
its slices, and one volume a process is kept, because `.gz` cannot be entered in the middle.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import DataError
from isthmus.core.files import sha256_bytes
from isthmus.data.image import Image
from isthmus.data.readers import Reader
from isthmus.data.reasons import reason_for
from isthmus.data.slices import Slice

VOXEL_LIMIT = 2**27  # half a gigabyte as float32
_MAGICS = {b"n+1\0": "NIfTI-1", b"n+2\0": "NIfTI-2", b"ni1\0": "NIfTI-1", b"ni2\0": "NIfTI-2"}
_MILLIMETRES = {"mm": 1.0, "meter": 1000.0, "micron": 0.001}


class FileReader(Reader):
    """Decodes with nibabel."""

    suffixes: ClassVar[frozenset[str]] = frozenset({".nii", ".nii.gz"})

    def parts(self, path: Path) -> list[str]:
        """Returns one name a slice: `["0", "1"]` of a volume, `["0-0", "1-0", "0-1"]` (slice-time) of a series."""
        with _reasons(path):
            shape = _checked_shape(_opened(path))
        slices = range(shape[2])
        if len(shape) == 3:
            return [str(z) for z in slices] if len(slices) > 1 else [""]
        return [f"{z}-{t}" for t in range(shape[3]) for z in slices]

    def read(self, path: Path, part: str) -> Image:
        """Decodes one slice, float32 `[H, W, 1]` (or uint8 RGB `[H, W, 3]`)."""
        z, _, t = part.partition("-")
        with _reasons(path):
            state = path.stat()
            volume, facts = _volume(str(path.absolute()), state.st_mtime_ns, state.st_size)
            plane = volume[:, :, int(z or 0), int(t or 0)]
        pixels = np.ascontiguousarray(plane.swapaxes(0, 1)[::-1])
        finite = np.isfinite(pixels).all(axis=2)
        return Image(pixels, "rgb" if pixels.shape[2] == 3 else "grey", dict(facts), None if finite.all() else finite)

    def slice_of(self, path: Path, part: str) -> Slice | None:
        """Returns the place of a slice: a file is one volume, and one a time where it is a series in time."""
        z, _, t = part.partition("-")
        with _reasons(path):
            state = path.stat()
            _, facts = _volume(str(path.absolute()), state.st_mtime_ns, state.st_size)
        series = sha256_bytes(f"{path.absolute()} {t}".encode())
        return Slice(series, (0.0, 0.0, 1.0), int(z or 0) * facts.get("slice_thickness_mm", 1.0))

    def person(self, path: Path, key: bytes | None) -> str | None:
        """Returns None: the header has no field for a person."""
        return None


@contextmanager
def _reasons(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DataError:
        raise
    except MemoryError:
        raise DataError("too large for the memory of this machine") from None
    except Exception as error:  # a hostile file makes a decoder raise nearly anything; each of it means: unreadable
        text = str(error)
        cut = ("Expected" in text and "got" in text) or "Compressed file ended" in text
        raise DataError(reason_for(path, EOFError() if cut else error, "a NIfTI file")) from None


def _opened(path: Path) -> Any:
    import nibabel
    from nibabel.openers import ImageOpener

    with ImageOpener(str(path)) as stream:
        head = stream.read(348)
    kind = _MAGICS.get(head[344:348]) or _MAGICS.get(head[4:8])
    if kind is None:
        raise ValueError("neither the mark of NIfTI-1 nor that of NIfTI-2 is in its header")
    return (nibabel.Nifti1Image if kind == "NIfTI-1" else nibabel.Nifti2Image).from_filename(str(path))


def _checked_shape(image: Any) -> tuple[int, ...]:
    """Returns `(x, y, slices)` or `(x, y, slices, times)` in RAS order."""
    shape = tuple(int(side) for side in image.shape)
    while len(shape) > 4 and shape[-1] == 1:
        shape = shape[:-1]
    if not 2 <= len(shape) <= 4 or min(shape) < 1:
        got = " x ".join(map(str, shape)) or "no axes"
        raise DataError(f"array of {got}; slices, volumes and series of 2 to 4 axes are read")
    if math.prod(shape) > VOXEL_LIMIT:
        raise DataError(f"too many voxels ({' x '.join(map(str, shape))}); the limit is {VOXEL_LIMIT}")
    if image.get_data_dtype().kind == "c":
        raise DataError("voxels are complex numbers. Save magnitude or phase as a file of its own")
    turned = _turned((*shape[:3], 1)[:3], image)
    return (*turned, shape[3]) if len(shape) == 4 and shape[3] > 1 else turned


def _turned(values: tuple[Any, ...], image: Any) -> tuple[Any, ...]:
    """Returns a value of each axis in RAS order."""
    axes = _orientation(image)[:, 0].astype(int)
    return tuple(values[list(axes).index(place)] for place in range(3))


def _orientation(image: Any) -> NDArray[Any]:
    from nibabel.orientations import io_orientation

    found: NDArray[Any] = io_orientation(image.affine)
    if not np.isfinite(found).all():
        raise DataError("affine does not say how the axes lie: it is singular")
    return found


@lru_cache(maxsize=1)
def _volume(path: str, changed: int, size: int) -> tuple[NDArray[Any], dict[str, Any]]:
    """Returns `[X, Y, Z, T, C]` in RAS order and the facts; `changed` and `size` renew what is kept."""
    from nibabel.orientations import apply_orientation

    image = _opened(Path(path))
    _checked_shape(image)
    if image.get_data_dtype().names:  # RGB24 and RGBA32 are structured dtypes, of which nibabel makes no floats
        raw = np.asanyarray(image.dataobj)
        values = np.stack([raw[name] for name in "RGB"], axis=-1)
    else:
        values = image.get_fdata(dtype=np.float32, caching="unchanged")[..., None]
    values = values.reshape((*image.shape, 1, 1)[:4] + values.shape[-1:])
    # the same as nibabel.as_closest_canonical, which takes no structured dtype and doubles the precision on the way
    turned: NDArray[Any] = apply_orientation(values, _orientation(image))
    zooms = tuple(float(zoom) for zoom in image.header.get_zooms()[:3])
    unit = _MILLIMETRES.get(image.header.get_xyzt_units()[0])
    facts: dict[str, Any] = {"burned_in": "no", "monochrome1": False}
    if unit and len(zooms) == 3 and min(zooms) > 0:
        across, down, apart = (unit * zoom for zoom in _turned(zooms, image))
        facts |= {"pixel_spacing_mm": [down, across], "slice_thickness_mm": apart}
    return turned, facts
