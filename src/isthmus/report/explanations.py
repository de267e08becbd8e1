"""Pictures of where the chosen model looked: maps of `explain` laid over the images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isthmus.core.errors import DataError
from isthmus.core.files import read_json
from isthmus.data.shards import Rows
from isthmus.report.results import Findings
from isthmus.report.thumbnails import for_display, thumbnails

_INK = np.array([230.0, 60.0, 0.0])  # of the overlay, in light and dark
_STRENGTH = 0.65  # [share] of ink where a map is 1


@dataclass(frozen=True)
class Case:
    """One explained image.

    Attributes:
        case: `right`, `wrong`, `surest` or `least sure`.
        label: the true class, where it is known.
        images: thumbnails, as `Explained.pictures` says.
    """

    case: str
    predicted: str
    label: str | None
    confidence: float
    images: list[str]


@dataclass(frozen=True)
class Explained:
    """All explained images, or why there are none.

    Attributes:
        pictures: what each picture of a case shows.
        caption: that in a sentence, and `caution` about it.
    """

    why_not: str | None
    cases: list[Case]
    pictures: tuple[str, ...] = ("target image", "attention rollout", "Grad-CAM")
    caption: str = (
        "Of each, left the image, then in orange attention rollout, what reached the answer, and Grad-CAM, what spoke"
        " for the class it named."
    )
    caution: str = (
        "Maps are hints, not proofs: they show where, not why, and rollout is the same whatever the class. A model that"
        " looks at borders, marks or background deserves distrust even where it is right."
    )


def explained_cases(findings: Findings, prepared: Path, explained: Path) -> Explained:
    """Reads what `explain` wrote and draws it.

    Raises:
        DataError: the files do not fit each other.
    """
    facts = read_json(explained / "explain.json")
    maps: NDArray[np.float32] = np.load(explained / "maps.npy", allow_pickle=False)
    if len(maps) != len(facts["images"]):
        raise DataError(
            f"{explained / 'maps.npy'}: has {len(maps)} maps; explain.json names {len(facts['images'])} images."
            " Run 'dvc repro' to write both again"
        )
    ids = [fact["image_id"] for fact in facts["images"]]
    place = {image_id: row for row, image_id in enumerate(findings.index["image_id"])}
    pixels = Rows(prepared / "shards", findings.index).take(np.array([place[i] for i in ids], dtype=np.int64))
    labels = findings.predictions.set_index("image_id")["label"]
    cases = []
    for fact, image, both in zip(facts["images"], for_display(pixels), maps, strict=True):
        label = labels.loc[fact["image_id"]]
        shown = thumbnails(np.stack([coloured(image), *(overlay(image, values) for values in both)]))
        cases.append(
            Case(
                fact["case"],
                findings.facts["classes"][fact["predicted"]],
                None if label is None or label != label else findings.facts["classes"][int(label)],
                fact["confidence"],
                shown,
            )
        )
    return Explained(facts["why_not"], cases)


def overlay(image: NDArray[np.uint8], values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Returns uint8 `[H, W, 3]`: the image in grey with ink where the map `[rows, columns]`, in [0, 1], is high."""
    grey = np.repeat(coloured(image).mean(axis=2, keepdims=True), 3, axis=2)
    size = (image.shape[1], image.shape[0])
    smooth = Image.fromarray(np.asarray(values, dtype=np.float32)).resize(size, Image.Resampling.BILINEAR)
    share = np.asarray(smooth, dtype=np.float64)[..., None] * _STRENGTH
    inked: NDArray[np.uint8] = (grey * (1 - share) + _INK * share).round().astype(np.uint8)
    return inked


def coloured(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Returns uint8 `[H, W, 3]` of a grey or coloured image."""
    found: NDArray[np.uint8] = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    return found
