"""Predicted masks as files: NIfTI, DICOM segmentation or GeoTIFF beside an image of that format, else PNG.

255 is where nothing was predicted. A DICOM segmentation has no such value: there no segment is marked.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from isthmus.core.files import atomic_file
from isthmus.data.masks import IGNORED, Mask
from isthmus.data.readers import family_of
from isthmus.registry.model.mask_text import from_text
from isthmus.registry.publish.model_reference import Address
from isthmus.serving.dicom_segmentation import write_segmentation
from isthmus.serving.nifti_masks import write_volume

_HEAD = 2048  # [byte] that `family_of` looks at
_SUFFIXES = (".png", ".tif", ".nii", ".nii.gz", ".dcm")


class MaskFiles:
    """A folder of predicted masks, each under the name of its image.

    Args:
        folder: is made with the first of them.
        address: the model that answered.
        classes: its classes.
    """

    def __init__(self, folder: Path, address: Address, classes: Sequence[str]) -> None:
        self._folder, self._address, self._classes = folder, address, classes

    def write(self, image: Path, answers: Mapping[str, str], classes: bool) -> Path:
        """Writes the masks of one file, and returns the path of what was written.

        Args:
            image: the file.
            answers: part of the file -> PNG in base64; `{"": ...}` where it holds one image.
            classes: whether values are places of classes; else of a map, for which medical formats have no form.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        name, count = image.name, 1
        while any((self._folder / f"{name}{suffix}").exists() for suffix in _SUFFIXES):
            name, count = f"{image.name}-{count}", count + 1  # of another folder
        to = self._folder / name
        masks = {part: from_text(text) for part, text in answers.items()}
        if written := self._in_its_format(image, masks, to, classes):
            return written
        (text,) = answers.values()
        path = to.with_name(f"{name}.png")
        with atomic_file(path) as partial:
            partial.write_bytes(base64.b64decode(text))
        return path

    def _in_its_format(self, image: Path, masks: dict[str, Mask], to: Path, classes: bool) -> Path | None:
        with image.open("rb") as stream:
            family = family_of(stream.read(_HEAD))
        if family == "tiff":
            return _with_coordinates(masks[""], image, to.with_name(f"{to.name}.tif"))
        if classes and (family == "nifti" or image.name.lower().endswith((".img", ".img.gz"))):
            return write_volume(masks, image, to)
        if classes and family == "dicom":
            return write_segmentation(masks, image, to.with_name(f"{to.name}.dcm"), self._classes, self._address)
        return None


def _with_coordinates(mask: Mask, image: Path, path: Path) -> Path | None:
    """Writes a GeoTIFF; None where the image has no coordinates or another size."""
    import rasterio

    with rasterio.open(image) as scene:
        crs, transform, shape = scene.crs, scene.transform, scene.shape
    if crs is None or shape != mask.shape:
        return None
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": IGNORED, "compress": "deflate"}
    profile |= {"height": mask.shape[0], "width": mask.shape[1], "crs": crs, "transform": transform}
    with atomic_file(path) as partial, rasterio.open(partial, "w", **profile) as written:
        written.write(mask, 1)
    return path
