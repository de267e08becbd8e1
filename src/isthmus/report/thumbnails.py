"""Sample images of each domain as data URIs, chosen by `image_id` alone."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from isthmus.data.shards import Rows

SIDE = 120  # [pixel] of a thumbnail, at most
_TARGET_IMAGES = 24
_FEW_CLASSES = 5  # up to here a class has a row of six images, beyond it a cell of three


@dataclass(frozen=True)
class Thumbnails:
    """Thumbnails of one domain under one heading: a class of a source, or all of the target."""

    domain: str
    heading: str
    images: list[str]


def sample_images(
    prepared: Path, index: pd.DataFrame, manifest: pd.DataFrame, classes: list[str], target: str
) -> list[Thumbnails]:
    """Returns thumbnails: of each source by class, of the target without any class.

    `image_id` is a keyed hash, so the first ids in order are a fair sample, and the same one each time. Only
    training images are shown: a person who tunes with this page does not see the target's test split.
    """
    rows = Rows(prepared / "shards", index)
    facts = manifest.set_index("image_id").loc[index["image_id"]]
    training = (facts["split"] == "train").to_numpy()
    labels = facts["label"].fillna(-1).to_numpy(dtype=np.int64)
    domains = index["domain"].to_numpy()
    each = 6 if len(classes) <= _FEW_CLASSES else 3
    found: list[Thumbnails] = []
    for source in sorted(set(domains) - {target}):
        places = [np.flatnonzero((domains == source) & training & (labels == k))[:each] for k in range(len(classes))]
        images = iter(thumbnails(rows.take(np.concatenate(places))))
        found += [
            Thumbnails(source, name, [next(images) for _ in place]) for name, place in zip(classes, places, strict=True)
        ]
    seen = np.flatnonzero((domains == target) & training)[:_TARGET_IMAGES]
    return [*found, Thumbnails(target, "", thumbnails(rows.take(seen)))]


def thumbnails(images: NDArray[Any], side: int = SIDE) -> list[str]:
    """Returns data URIs of images `[N, H, W, C]`, at most `side` [pixel] wide and high.

    Brightness of 16 bit and float images is stretched together.
    """
    return [_data_uri(image, side) for image in for_display(images)]


def for_display(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Returns uint8 `[N, H, W]` or `[N, H, W, 3]`: three channels as they are, else the first one alone."""
    shown = images[..., :3] if images.shape[-1] >= 3 else images[..., 0]
    if shown.dtype == np.uint8 or not len(shown):
        return shown.astype(np.uint8)
    values = shown.astype(np.float32)
    low, high = np.percentile(values, [2, 98])
    stretched = np.clip((values - low) / max(float(high - low), 1e-6), 0, 1) * 255
    return stretched.astype(np.uint8)


def _data_uri(image: NDArray[np.uint8], side: int) -> str:
    picture = Image.fromarray(image)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    # Small images are shown enlarged, where JPEG's blocks would look like a property of the domain.
    kind: Literal["png", "jpeg"] = "png" if max(image.shape[:2]) <= 64 else "jpeg"
    return encoded(picture, kind)


def encoded(picture: Image.Image, kind: Literal["png", "jpeg"], sharp: bool = False) -> str:
    """Returns a picture as a data URI; a sharp JPEG keeps the colour of each pixel, as thin lines need it."""
    options = {"quality": 88, **({"subsampling": 0} if sharp else {})} if kind == "jpeg" else {"optimize": True}
    stream = io.BytesIO()
    picture.save(stream, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
