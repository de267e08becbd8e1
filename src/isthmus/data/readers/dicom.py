"""DICOM through pydicom: real values after the file's own rescale, one part a frame, colour as RGB, padding not valid.

Not done here: window, inversion of MONOCHROME1, resampling (`kinds/medical.py` does them, from `facts`). MONAI's reader
gives the same values (a test holds that) and is not used: it holds a whole series, orders it by InstanceNumber and
checks no bounds (docs/decisions/0024-monai.md).

What is not obvious: frames are decoded one by one, so that memory holds one; sizes that the header declares are held
against the bytes that are there before anything is allocated; a file without the mark `DICM` is refused, because its
transfer syntax would be a guess; pydicom's warnings on slightly wrong headers are not errors.
"""

import hashlib
import hmac
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
from isthmus.data.bounds import ALWAYS, DEFAULT, Bounds, Declared, check_declared
from isthmus.data.formats.dicom_facts import facts_of, group, padding_of, rescale, slice_place
from isthmus.data.image import Image
from isthmus.data.read_errors import reason_for
from isthmus.data.readers import Reader, require
from isthmus.data.slices import Slice

_INFLATED_LIMIT = ALWAYS  # [byte] of a deflated data set: pydicom inflates the whole of it at once
_DEFLATED = "1.2.840.10008.1.2.1.99"
_SMALLEST_FRAME = 8  # [byte] of a compressed frame: the header of its item
# Transfer syntax -> the package whose decoder pydicom finds by itself once it is installed.
_JPEG = "pylibjpeg pylibjpeg-libjpeg"
_JPEG_2000 = "pylibjpeg pylibjpeg-openjpeg"
_PACKAGES = {
    **{f"1.2.840.10008.1.2.4.{number}": _JPEG for number in (50, 51, 57, 70, 80, 81)},
    **{f"1.2.840.10008.1.2.4.{number}": _JPEG_2000 for number in (90, 91, 201, 202, 203)},
    "1.2.840.10008.1.2.5": "pylibjpeg pylibjpeg-rle",
}
# What de-identification leaves in PatientID: an identity that many people share is none.
_PLACEHOLDERS = {"0", "1", "ANON", "ANONYMIZED", "ANONYMOUS", "DEIDENTIFIED", "ID", "NONE", "PATIENT"}
_PLACEHOLDERS |= {"REMOVED", "TEST", "UNKNOWN", "X", ""}


class FileReader(Reader):
    """Decodes with pydicom and whichever of its decoders are installed."""

    suffixes: ClassVar[frozenset[str]] = frozenset({".dcm", ".dicom", ".ima"})
    stacks: ClassVar[bool] = True

    def parts(self, path: Path, bounds: Bounds = DEFAULT, frames: bool = False) -> list[str]:
        """Returns `[""]`, or one name a frame."""
        with _reasons(path):
            size = path.stat().st_size
            check_declared(Declared(0, 0, 1, size, size), size, bounds)  # pydicom reads the whole file
            count = _checked(_dataset(path), size, bounds)
        return [""] if count == 1 else [str(number) for number in range(count)]

    def read(self, path: Path, part: str, bounds: Bounds = DEFAULT) -> Image:
        """Decodes one frame `[H, W, 1 or 3]`: the stored dtype, or float32 where a slope and intercept apply."""
        frame = int(part or 0)
        with _reasons(path):
            dataset = _dataset(path)
            _checked(dataset, path.stat().st_size, bounds)
            stored = _stored(dataset, frame)
            if stored.ndim == 3:
                return Image(stored, "rgb", facts_of(dataset, frame))
            pixels, unit = _real(dataset, frame, stored)
            valid = _valid(dataset, stored)
            return Image(pixels[..., None], "hu" if unit == "HU" else "grey", facts_of(dataset, frame), valid)

    def numbers(self, path: Path, part: str, bounds: Bounds = DEFAULT) -> NDArray[Any]:
        """Decodes the values, which have no colours."""
        return self.read(path, part, bounds).pixels

    def frame(self, path: Path, part: str, bounds: Bounds = DEFAULT) -> Image:
        """Decodes the frame."""
        return self.read(path, part, bounds)

    def slice_of(self, path: Path, part: str) -> Slice | None:
        """Returns the place of a frame in its series, None where the header does not state it."""
        with _reasons(path):
            dataset = _dataset(path)
            series, place = str(dataset.get("SeriesInstanceUID") or ""), slice_place(dataset, int(part or 0))
        # the UID itself stays here: its hash joins what belongs together and is written nowhere
        return Slice(sha256_bytes(series.encode()), *place) if series and place else None

    def person(self, path: Path, key: bytes | None) -> str | None:
        """Returns the HMAC-SHA-256 of the patient's number, or of the study where that is empty or a placeholder."""
        with _reasons(path):
            identity = _identity(_dataset(path))
        if not identity:
            return None
        if key is None:
            raise DataError(
                "names a patient or study, and there is no key to hash it with. Set 'ingest.identity_key' in"
                " params.yaml to a key file outside git, or 'group' of the scenario"
            )
        return hmac.new(key, identity.encode(), hashlib.sha256).hexdigest()


@contextmanager
def _reasons(path: Path) -> Iterator[None]:
    require("pydicom", "medical")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # header values that pydicom repairs; wrong pixels raise
            yield
    except DataError:
        raise
    except Exception as error:  # a hostile file makes a decoder raise nearly anything; each of it means: unreadable
        # pydicom quotes the header's values, which may name a patient: only the kind of its complaint is passed on
        raise DataError(reason_for(path, error, "a DICOM file", quote=False)) from None


def _dataset(path: Path) -> Any:
    state = path.stat()
    return _parsed(path.absolute(), state.st_mtime_ns, state.st_size)


# One file a process is kept: a series of 300 frames would be parsed 300 times. `changed` and `size` renew it.
@lru_cache(maxsize=1)
def _parsed(path: Path, changed: int, size: int) -> Any:
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        _check_inflated(path)
        return pydicom.dcmread(path)
    except InvalidDicomError as error:
        reason = reason_for(path, error, "a DICOM file", quote=False)
        known = reason.startswith(("content is", "file is"))
        raise DataError(reason if known else "not a DICOM file: the marker 'DICM' at byte 128 is missing") from None


def _check_inflated(path: Path) -> None:
    """Refuses a deflated data set that would not fit into memory; pydicom inflates the whole of it at once."""
    from pydicom.filereader import read_file_meta_info

    if read_file_meta_info(path).get("TransferSyntaxUID") != _DEFLATED:
        return
    inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as stream:
        stream.seek(128 + 4)
        head = stream.read(12)  # (0002,0000) UL, 4 bytes: how long the rest of the meta information is
        stream.seek(int.from_bytes(head[8:12], "little"), 1)
        while block := stream.read(65_536):
            while block and not inflate.eof:
                size += len(inflate.decompress(block, 1 << 20))
                block = inflate.unconsumed_tail
                if size > _INFLATED_LIMIT:
                    raise DataError(f"inflates to more than {_INFLATED_LIMIT} bytes; refused")


def _checked(dataset: Any, size: int, bounds: Bounds) -> int:
    """Returns the number of frames, after everything that decoding needs is there and of a possible size.

    Args:
        dataset: a `pydicom.Dataset`.
        size: of its file [byte].
        bounds: what it may declare.

    Raises:
        DataError: with what is missing, or too large, or shorter than it says.
    """
    if "PixelData" not in dataset:
        raise DataError(_without_pixels(dataset))
    needed = ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "PhotometricInterpretation")
    if missing := [keyword for keyword in needed if dataset.get(keyword) in (None, "")]:
        raise DataError(f"header lacks {', '.join(missing)}")
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise DataError("header lacks TransferSyntaxUID: how the pixels are encoded is not known")
    rows, columns, samples = int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if min(rows, columns, frames) < 1:
        raise DataError(f"header declares no pixels ({columns} x {rows}, {frames} frames)")
    frame = rows * columns * samples * math.ceil(int(dataset.BitsAllocated) / 8)
    check_declared(Declared(rows, columns, 1, 2 * frame, 0), size, bounds)
    have = len(dataset.PixelData)
    chroma = 2 if dataset.PhotometricInterpretation == "YBR_FULL_422" else samples
    expected = frames * (rows * columns * chroma * int(dataset.BitsAllocated) // 8)
    if syntax.is_compressed and not syntax.is_deflated:
        if frames * _SMALLEST_FRAME > have:
            raise DataError(f"file is truncated ({frames} frames declared, {have} bytes of pixels)")
    elif have < expected:
        raise DataError(f"file is truncated ({have} of {expected} bytes of pixels)")
    check_declared(Declared(rows, columns, frames, 2 * frame, frames * frame), size, bounds)
    return frames


def _without_pixels(dataset: Any) -> str:
    from pydicom.uid import UID

    kind = UID(str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or ""))
    named = kind.name if kind.is_valid and kind.name != kind else ""
    if named and "Image" in named:
        return "file is truncated or empty of pixels (an image without pixel data)"
    return f"holds no image: {named}" if named else "holds no image (no pixel data)"


def _stored(dataset: Any, frame: int) -> NDArray[Any]:
    """Returns one frame as it is stored, `[H, W]` or RGB `[H, W, 3]`, in native byte order."""
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    _check_boxes(dataset, frame)
    try:
        pixels: NDArray[Any] = pixel_array(dataset, index=frame)  # YBR becomes RGB here
    except RuntimeError as error:
        raise _undecoded(dataset, error) from None
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset)[..., :3]
    return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))


def _check_boxes(dataset: Any, frame: int) -> None:
    """Refuses a JPEG 2000 frame whose JP2 header has a box of no length, at which pydicom 3.0.2 would stay for ever.

    ISO/IEC 15444-1, I.4: a box is its length [byte], its type, its content. Found by fuzzing.
    """
    from pydicom.encaps import get_frame
    from pydicom.uid import JPEG2000TransferSyntaxes

    if dataset.file_meta.TransferSyntaxUID not in JPEG2000TransferSyntaxes:
        return
    data = get_frame(dataset.PixelData, frame, number_of_frames=int(dataset.get("NumberOfFrames") or 1))
    place = 12 if data.startswith(b"\0\0\0\x0cjP  ") else len(data)
    while place < len(data) and data[place + 4 : place + 8] != b"jp2c":
        length = int.from_bytes(data[place : place + 4], "big")
        if length == 0:
            raise DataError(f"pixels are damaged: JPEG 2000 box of no length at byte {place} of the frame")
        place += length


def _undecoded(dataset: Any, error: RuntimeError) -> DataError:
    syntax, text = dataset.file_meta.TransferSyntaxUID, " ".join(str(error).split())
    # "Pillow does not support" is how Pillow says that its own JPEG decoder has no 12-bit mode.
    absent = "missing dependencies" in text or "does not support" in text
    package = _PACKAGES.get(str(syntax))
    if absent and package:
        return DataError(f"pixels are '{syntax.name}', which no installed package decodes: pip install {package}")
    if absent or "No pixel data decoders" in text:
        return DataError(f"pixels are '{syntax.name}', which is not supported")
    return DataError(f"pixels cannot be decoded as '{syntax.name}' ({text.rpartition('plugins: ')[2]})")


def _real(dataset: Any, frame: int, stored: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """Returns a grey frame in the unit of its modality: real = slope * stored + intercept (PS3.3, C.11.1.1.2)."""
    from pydicom.pixels.processing import apply_modality_lut

    if dataset.get("ModalityLUTSequence") and group(dataset, frame, "PixelValueTransformationSequence") is None:
        return apply_modality_lut(stored, dataset).astype(np.float32), ""
    slope, intercept, unit = rescale(dataset, frame)
    if (slope, intercept) == (1.0, 0.0):
        return stored, unit
    real = stored * np.float64(slope)
    real += intercept
    return real.astype(np.float32), unit


def _valid(dataset: Any, stored: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Returns where a grey frame has data: beyond a scanner's round field of view it holds its padding value."""
    padding = padding_of(dataset)
    if padding is None or stored.dtype.kind not in "ui":
        return None
    valid = (stored < padding[0]) | (stored > padding[1])
    return None if valid.all() else valid


def _identity(dataset: Any) -> str:
    patient, issuer, study = (
        str(dataset.get(keyword) or "").strip() for keyword in ("PatientID", "IssuerOfPatientID", "StudyInstanceUID")
    )
    if patient and patient.upper().strip(" -_^.*?#") not in _PLACEHOLDERS:
        return f"patient {issuer} {patient}"
    return f"study {study}" if study else ""
