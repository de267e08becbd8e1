"""Predicted masks as files: beside a GeoTIFF a GeoTIFF on the same grid, else PNG; 255 where nothing was predicted."""

import base64
from pathlib import Path

from isthmus.core.files import atomic_file
from isthmus.data.formats import tiff
from isthmus.data.masks import IGNORED
from isthmus.registry.model.mask_text import from_text


def write_mask(text: str, image: Path, to: Path) -> Path:
    """Writes a mask as the model answers it, and returns the file's path.

    Args:
        text: PNG in base64.
        image: the file that it is a mask of; one with coordinates gives them to its mask.
        to: path without suffix.
    """
    if _is_tiff(image) and (written := _with_coordinates(text, image, to.with_name(f"{to.name}.tif"))):
        return written
    path = to.with_name(f"{to.name}.png")
    with atomic_file(path) as partial:
        partial.write_bytes(base64.b64decode(text))
    return path


def _is_tiff(image: Path) -> bool:
    with image.open("rb") as stream:
        return stream.read(4) in tiff.MARKS


def _with_coordinates(text: str, image: Path, path: Path) -> Path | None:
    """Writes a GeoTIFF; None where the image has no coordinates or another size."""
    import rasterio

    mask = from_text(text)
    with rasterio.open(image) as scene:
        crs, transform, shape = scene.crs, scene.transform, scene.shape
    if crs is None or shape != mask.shape:
        return None
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": IGNORED, "compress": "deflate"}
    profile |= {"height": mask.shape[0], "width": mask.shape[1], "crs": crs, "transform": transform}
    with atomic_file(path) as partial, rasterio.open(partial, "w", **profile) as written:
        written.write(mask, 1)
    return path
