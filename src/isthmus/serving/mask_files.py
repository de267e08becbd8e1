"""Predicted masks as files: NIfTI, DICOM segmentation or GeoTIFF beside an image of that format, else PNG.

255 is where nothing was predicted. A DICOM segmentation has no such value: there no segment is marked.
"""

import base64
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from isthmus.core.files import atomic_file, atomic_folder
from isthmus.data.masks import IGNORED, Mask
from isthmus.data.readers import family_of
from isthmus.registry.model.mask_text import from_text
from isthmus.registry.publish.model_reference import Address
from isthmus.serving.dicom_segmentation import write_segmentation
from isthmus.serving.nifti_masks import write_volume

_HEAD = 2048  # [byte] that `family_of` looks at
_SUFFIXES = ("", ".png", ".tif", ".nii", ".nii.gz", ".dcm")


Write = Callable[[Path, Mapping[str, str], bool], Path]  # of `MaskFiles`


@contextmanager
def replaced(folder: Path, address: Address, classes: Sequence[str]) -> Iterator[Write]:
    """Yields what writes masks; when the block ends without an error they replace an older folder as a whole.

    Args:
        folder: is made with the first mask; without any, nothing is made and nothing replaced.
        address: as of `MaskFiles`.
        classes: as of `MaskFiles`.
    """
    with ExitStack() as stack:
        files: list[MaskFiles] = []

        def write(image: Path, answers: Mapping[str, str], of_classes: bool) -> Path:
            if not files:
                files.append(MaskFiles(stack.enter_context(atomic_folder(folder)), address, classes))
            return folder / files[0].write(image, answers, of_classes).relative_to(files[0].folder)

        yield write


class MaskFiles:
    """A folder of predicted masks, each under the name of its image.

    Args:
        folder: is made with the first of them.
        address: the model that answered.
        classes: its classes.
    """

    def __init__(self, folder: Path, address: Address, classes: Sequence[str]) -> None:
        self.folder, self._address, self._classes = folder, address, classes
        self._named: Counter[str] = Counter()  # files of a name, of several folders

    def write(self, image: Path, answers: Mapping[str, str], classes: bool) -> Path:
        """Writes the masks of one file, and returns the path of what was written: of several PNG that of their folder.

        Args:
            image: the file.
            answers: part of the file -> PNG in base64; `{"": ...}` where it holds one image.
            classes: whether values are places of classes; else of a map, for which medical formats have no form.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        to = self._free_place(image.name)
        masks = {part: from_text(text) for part, text in answers.items()}
        if written := self._in_its_format(image, masks, to, classes):
            return written
        texts = list(answers.values())
        if len(texts) == 1:
            return _as_png(texts[0], to.with_name(f"{to.name}.png"))
        for part, text in answers.items():
            _as_png(text, to / f"{part}.png")
        return to

    def _free_place(self, name: str) -> Path:
        while True:
            count = self._named[name]
            self._named[name] += 1
            to = self.folder / (f"{name}-{count}" if count else name)
            if not any(to.with_name(f"{to.name}{suffix}").exists() for suffix in _SUFFIXES):
                return to

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


def _as_png(text: str, path: Path) -> Path:
    with atomic_file(path) as partial:
        partial.write_bytes(base64.b64decode(text))
    return path


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
