"""Masks of the slices of a NIfTI file as one NIfTI file: the same voxels, affine and axes, uint8 places of classes."""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.files import atomic_file
from isthmus.data.formats.nifti_volume import header_of, is_packed, plane, turned, volume_of
from isthmus.data.masks import IGNORED, Mask

_LABELS = 1002  # NIFTI_INTENT_LABEL: a voxel is an index of a list of labels


def write_volume(masks: Mapping[str, Mask], image: Path, to: Path) -> Path:
    """Writes `<to>.nii`, or `<to>.nii.gz` where the image is packed, and returns its path.

    Args:
        masks: part of the file (`Reader.parts`) -> uint8 `[H, W]`; of slices without one all voxels are 255.
        image: the NIfTI file; of a pair the `.img`.
        to: path without suffix.
    """
    volume, header = volume_of(image), header_of(image)
    voxels: NDArray[np.uint8] = np.full(volume.shape, IGNORED, np.uint8)
    view = turned(volume, voxels)
    for part, mask in masks.items():
        plane(volume, view, part)[...] = mask
    data = _file(header, voxels)
    packed = is_packed(image)
    path = to.with_name(f"{to.name}.nii.gz" if packed else f"{to.name}.nii")
    with atomic_file(path) as partial:
        partial.write_bytes(gzip.compress(data, mtime=0) if packed else data)
    return path


def _file(header: Any, voxels: NDArray[np.uint8]) -> bytes:
    import nibabel

    new = "2" in type(header).__name__
    kind = nibabel.nifti2.Nifti2Image if new else nibabel.nifti1.Nifti1Image
    shape = header.get_data_shape()
    own = kind.header_class.from_header(header, check=False)
    own.set_data_dtype(np.uint8)
    own.set_slope_inter(1, 0)
    own["cal_min"], own["cal_max"] = 0, 0  # how the image is shown, not its mask
    own.set_intent(_LABELS, allow_unknown=True)
    made = kind(voxels.reshape(shape, order="F"), None, own)
    for name in ("sform", "qform"):  # both as they are: a reader may take either
        place, code = getattr(header, f"get_{name}")(coded=True)
        if place is not None:
            getattr(made, f"set_{name}")(place, int(code))
    written: bytes = made.to_bytes()
    return written
