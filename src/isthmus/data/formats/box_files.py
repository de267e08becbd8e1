"""What files say of boxes: COCO JSON of many images, Pascal VOC XML and YOLO text of one.

Nothing is checked against the images here. Everything wrong with a file is a `DataError` without the file's name, which
the caller knows.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from isthmus.core.errors import DataError
from isthmus.data.boxes import Written
from isthmus.data.names import nfc

SUFFIXES = (".json", ".xml", ".txt")
CLASSES = "classes.txt"  # names in the order of YOLO's numbers, beside the files of the boxes


@dataclass(frozen=True)
class Coco:
    """The content of a COCO file.

    Attributes:
        images: `file_name`, with '/' -> what is said of it, or why it cannot be used.
        lost: number of annotations of images that are not listed.
    """

    images: dict[str, Written | str] = field(default_factory=dict)
    lost: int = 0

    def of(self, image: str) -> str | None:
        """Returns the entry of an image's path: the one whose `file_name` is the longest end of the path.

        >>> Coco({"b.png": "", "a/b.png": ""}).of("raw/a/b.png")
        'a/b.png'
        """
        parts = nfc(image).split("/")
        return next((e for n in range(len(parts)) if (e := "/".join(parts[n:])) in self.images), None)


def read_boxes(path: Path, image: str) -> Written:
    """Returns what a file says of an image.

    Args:
        path: COCO JSON, VOC XML or YOLO text, as its suffix says.
        image: path of the image; of COCO its entry is found by it.

    Raises:
        DataError: the file is broken, or has no entry of the image, or two.
    """
    suffix = path.suffix.lower()
    if suffix == ".xml":
        return _voc(path)
    if suffix == ".txt":
        return _yolo(path)
    if suffix != ".json":
        raise DataError(f"boxes in a file '{suffix}'. Allowed: {', '.join(SUFFIXES)} (COCO, Pascal VOC, YOLO)")
    coco = read_coco(path)
    name = coco.of(image)
    if name is None:
        raise DataError("the annotations have no entry of this image. List it, also where it shows no object")
    found = coco.images[name]
    if isinstance(found, str):
        raise DataError(found)
    return found


def read_coco(path: Path) -> Coco:
    """Returns the content of a COCO file, read once while it stays as it is.

    Raises:
        DataError: it is no COCO file.
    """
    state = path.stat()
    return _coco(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _coco(path: Path, changed: int, size: int) -> Coco:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"annotations are not JSON ({error})") from None
    listed, annotations = (_rows(document, key) for key in ("images", "annotations"))
    if listed is None or annotations is None:
        raise DataError("annotations are not in COCO's form: 'images' and 'annotations' must be lists of objects")
    names = _categories(document.get("categories"))
    entries: dict[Any, tuple[str, list[Any]]] = {}
    images: dict[str, Written | str] = {}
    sizes: dict[str, tuple[int, int] | None] = {}
    for row in listed:
        name, number = row.get("file_name"), row.get("id")
        if not isinstance(name, str) or not isinstance(number, int | str):
            got = _short(", ".join(sorted(row)) or "nothing")  # no value: another image's name may be a patient's
            raise DataError(f"annotations: an image has no 'file_name' or no 'id' (got an entry with {got})")
        if number in entries:
            which = number if isinstance(number, int) else "of one text"  # it may be a patient's name
            raise DataError(f"annotations: two images have the id {which}")
        name = nfc(name.replace("\\", "/").removeprefix("./"))
        entries[number] = name, []
        images[name] = "the annotations have two entries of this image. Keep one" if name in images else ""
        sizes[name] = _stated(row.get("height"), row.get("width"))
    lost = 0
    for row in annotations:
        if (number := _key(row.get("image_id"))) in entries:
            entries[number][1].append(row)
        else:
            lost += 1
    for name, rows in entries.values():
        if images[name] == "":
            images[name] = _written(rows, names, sizes[name])
    return Coco(images, lost)


def _rows(document: Any, key: str) -> list[dict[str, Any]] | None:
    rows = document.get(key) if isinstance(document, dict) else None
    return rows if isinstance(rows, list) and all(isinstance(row, dict) for row in rows) else None


def _key(value: Any) -> Any:
    """Returns an identifier that a dictionary can hold; of a list or an object its text, which names nothing."""
    return _short(value) if isinstance(value, list | dict) else value


def _categories(given: Any) -> dict[Any, str]:
    if not isinstance(given, list) or not all(
        isinstance(row, dict) and isinstance(row.get("name"), str) for row in given
    ):
        raise DataError("annotations are not in COCO's form: 'categories' must be a list of 'id' and 'name'")
    return {_key(row.get("id")): row["name"] for row in given}


def _written(rows: list[Mapping[str, Any]], names: Mapping[Any, str], size: tuple[int, int] | None) -> Written | str:
    """Returns the boxes of an image, or why they cannot be read; crowds, which are no single objects, are left out."""
    boxes: list[tuple[str | int, tuple[float, float, float, float]]] = []
    for row in rows:
        if row.get("iscrowd"):
            continue
        category, box = _key(row.get("category_id")), row.get("bbox")
        if category not in names:
            return f"an annotation has the category {category}, which 'categories' does not name"
        if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
            return f"an annotation has no 'bbox' of four numbers, x, y, width, height (got {_short(box)})"
        x, y, width, height = map(float, box)
        boxes.append((names[category], (x, y, x + width, y + height)))
    return Written(boxes, size)


def _voc(path: Path) -> Written:
    data = path.read_bytes()
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise DataError("annotation declares a document type or entities, which are not read. Remove them")
    try:
        root = ElementTree.fromstring(data)  # noqa: S314 - without a document type there are no entities
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"annotation is not XML ({error})") from None
    if root.tag != "annotation":
        raise DataError(f"annotation is not in Pascal VOC's form: the outer element is '{root.tag}', not 'annotation'")
    boxes: list[tuple[str | int, tuple[float, float, float, float]]] = []
    for thing in root.iter("object"):
        name, box = (thing.findtext("name") or "").strip(), thing.find("bndbox")
        texts = [None if box is None else box.findtext(side) for side in ("xmin", "ymin", "xmax", "ymax")]
        values = [_number(text) for text in texts]
        if not name or any(value is None for value in values):
            raise DataError(f"annotation: an object has no name or no box of four numbers (got {name!r}, {texts})")
        left, top, right, bottom = (value for value in values if value is not None)
        boxes.append((name, (left - 1, top - 1, right, bottom)))  # pixels from 1, the last one inside
    stated = [_number(root.findtext(f"size/{side}")) for side in ("height", "width")]
    return Written(boxes, _stated(*stated))


def _yolo(path: Path) -> Written:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise DataError("annotation is no text in UTF-8") from None
    listed = path.with_name(CLASSES)
    names = listed.read_text(encoding="utf-8", errors="replace").split("\n") if listed.is_file() else []
    boxes: list[tuple[str | int, tuple[float, float, float, float]]] = []
    for place, line in enumerate(lines, 1):
        if not line.strip():
            continue
        values = [_number(word) for word in line.split()]
        if len(values) != 5 or None in values or values[0] != int(values[0] or 0):
            raise DataError(
                f"line {place} is {line.strip()[:60]!r}. Expected: the class's number, then centre x, centre y, width"
                " and height of the box, as shares of the image's sides"
            )
        number, x, y, width, height = (value for value in values if value is not None)
        known = names[int(number)].strip() if 0 <= number < len(names) else ""
        boxes.append((known or int(number), (x - width / 2, y - height / 2, x + width / 2, y + height / 2)))
    return Written(boxes, None, relative=True)


def _stated(height: Any, width: Any) -> tuple[int, int] | None:
    if not _is_number(height) or not _is_number(width) or height <= 0 or width <= 0:
        return None  # some tools write 0 for a size that they do not know
    return int(height), int(width)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _short(value: Any) -> str:
    return str(value)[:80]
