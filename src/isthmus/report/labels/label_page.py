"""What `isthmus label` writes for a person: the images to label, as a page with thumbnails and as CSV."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isthmus.data.labels.given import MEASURE, TRAIN, Purpose
from isthmus.data.manifest import INDEX, LOCATIONS, read_table
from isthmus.data.names import PRIVATE_KINDS
from isthmus.data.scenario import Scenario
from isthmus.data.shards import Rows
from isthmus.report.labels.label_list import no_formula
from isthmus.report.page import render
from isthmus.report.thumbnails import thumbnails

_SIDE = 240  # [pixel] of an image on the page, at most
_PARTS: tuple[tuple[Purpose, str, str], ...] = (
    (
        MEASURE,
        "Drawn at random",
        "Their labels measure the accuracy of the model on the target, with an interval, and serve nothing else.",
    ),
    (
        TRAIN,
        "To train with",
        "Drawn at random by the class that the model gives them. The next run trains with their labels, and nothing is"
        " measured on them.",
    ),
)


@dataclass(frozen=True)
class Asked:
    """One image of the list: what is shown of it, where it lies (empty where that may not be shown), and its picture.

    Attributes:
        path: below the raw folder; `part` is the page, frame or window in it.
        uri: its thumbnail; empty where the images are not prepared yet.
    """

    number: int
    image_id: str
    purpose: Purpose
    path: str
    part: str
    uri: str

    @property
    def shown(self) -> str:
        """What names the image to a person."""
        return f"{self.path} {self.part}".strip() or self.image_id


def asked_images(
    wanted: dict[str, Purpose], scenario: Scenario, locations: Path, prepared: Path
) -> tuple[list[Asked], bool]:
    """Returns the images in their order, and whether their pixels are shown enlarged.

    Args:
        wanted: image -> purpose.
        scenario: its kind says whether paths may be shown.
        locations: `locations.parquet`.
        prepared: the prepared images; where they are missing there are no thumbnails.
    """
    places = read_table(locations, LOCATIONS).set_index("image_id")
    named = scenario.kind not in PRIVATE_KINDS
    uris, enlarged = _thumbnails(list(wanted), prepared)
    images = []
    for number, (image_id, purpose) in enumerate(wanted.items(), 1):
        path, part = (str(places.loc[image_id, name]) if named else "" for name in ("path", "part"))
        images.append(Asked(number, image_id, purpose, path, part, uris.get(image_id, "")))
    return images, enlarged


def label_page(name: str, scenario: Scenario, images: list[Asked], enlarged: bool) -> str:
    """Returns the page as one text that needs no file, script or network beside it."""
    parts = [(title, text, [i for i in images if i.purpose == purpose]) for purpose, title, text in _PARTS]
    return render(
        "label.html.jinja",
        name=name, scenario=scenario, classes=scenario.classes, images=images, parts=parts, pixels=enlarged,
    )  # fmt: skip


def label_csv(images: list[Asked]) -> str:
    """Returns the list as CSV with an empty column `class` to be filled in."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    where = ["path", "part"] if any(image.path for image in images) else []
    writer.writerow(["number", "image_id", *where, "purpose", "class"])
    for image in images:
        place = [no_formula(image.path), no_formula(image.part)] if where else []
        writer.writerow([image.number, image.image_id, *place, image.purpose, ""])
    return stream.getvalue()


def _thumbnails(image_ids: list[str], prepared: Path) -> tuple[dict[str, str], bool]:
    if not (prepared / "index.parquet").is_file() or not image_ids:
        return {}, False
    index = read_table(prepared / "index.parquet", INDEX)
    rows = Rows(prepared / "shards", index)
    places = {image_id: place for place, image_id in enumerate(index["image_id"])}
    there = [image_id for image_id in image_ids if image_id in places]
    pictures = thumbnails(rows.take(np.array([places[image_id] for image_id in there], dtype=np.int64)), _SIDE)
    return dict(zip(there, pictures, strict=True)), rows.shape[1] < _SIDE
