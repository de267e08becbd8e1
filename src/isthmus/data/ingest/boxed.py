"""Boxes beside images: which file holds those of an image, and what it says.

`<domain>/images/NAME` with one COCO file `<domain>/*.json`, or with `<domain>/annotations/NAME.xml` (Pascal VOC), or
with `<domain>/labels/NAME.txt` (YOLO). In a table the column `boxes` names the file, or `annotations.json` beside the
table holds all.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from isthmus.core.errors import DataError
from isthmus.core.files import sha256_bytes
from isthmus.data.audit.summary import Bad
from isthmus.data.bounds import Bounds, check_size
from isthmus.data.boxes import BoxConfig, Marked, as_text, box_counts, cut
from isthmus.data.formats.box_files import CLASSES, read_boxes, read_coco
from isthmus.data.image import Box, Image
from isthmus.data.ingest.walk import refusal
from isthmus.data.names import is_text, nfc, shown_name

IMAGES = "images"
TABLE_BOXES = "annotations.json"
_FOLDERS = {"annotations": ".xml", "labels": ".txt"}


class Boxed(NamedTuple):
    """One image and the file with its boxes; None where there is none.

    `without`: why a target image has none, though boxes are read.
    """

    path: str
    boxes: str | None
    without: str = ""


def boxed(folder: Path, domain: str, files: Sequence[str], target: bool, read: bool) -> tuple[list[Boxed], list[Bad]]:
    """Returns the images of a domain with the file of their boxes, and the files that cannot be used.

    Args:
        folder: of the domain; paths are relative to the one above it.
        domain: its name.
        files: images below the raw folder, `<domain>/images/...`.
        target: whether it is the target, whose images are used without boxes too.
        read: whether boxes are read at all.
    """
    there = _annotations(folder) if read else {}
    found: list[Boxed] = []
    bad: list[Bad] = []
    used: set[str] = set()
    for path in files:
        parts = path.split("/")
        if len(parts) < 3 or parts[1] != IMAGES:
            bad.append(Bad(path, domain, f"lies outside of {domain}/{IMAGES}/, where the images of this task lie"))
            continue
        inside = "/".join(parts[2:])
        names = [*there.get("", []), *there.get(nfc(str(PurePosixPath(inside).with_suffix(""))), [])]
        used.update(names)
        why = "" if len(names) == 1 or not read else _why(names)
        if why and not target:
            bad.append(Bad(path, domain, why))
        else:
            found.append(Boxed(path, None if why or not read else names[0], why))
    orphans = sorted({name for names in there.values() for name in names} - used)
    return found, bad + [Bad(name, domain, f"no image of its name lies in '{IMAGES}'") for name in orphans]


def coco_faults(raw: Path, name: str, domain: str, images: Sequence[str], kind: str) -> list[Bad]:
    """Returns what a COCO file holds of images that are not there; a file that cannot be read is each image's fault.

    Args:
        raw: the folder that paths are relative to.
        name: of the file.
        domain: that it is of.
        images: paths of all images that are known.
        kind: of imagery.
    """
    try:
        coco = read_coco(raw / name)
    except (DataError, OSError):
        return []
    places = [raw, (raw / name).parent, (raw / name).parent / IMAGES]
    left = sorted(coco.images.keys() - {coco.of(path) for path in images})
    missing = [entry for entry in left if not any((place / entry).is_file() for place in places)]
    reasons = []
    if missing:
        first = shown_name(f" (first: {missing[0]})", kind, "")
        reasons.append(f"lists {len(missing)} images that are not there{first}")
    if coco.lost:
        reasons.append(f"holds {coco.lost} annotations of images that it does not list")
    return [Bad(name, domain, reason) for reason in reasons]


def annotation_files(folder: Path) -> Iterator[str]:
    """Yields the files of a domain's folder that may hold boxes, below it, and the `classes.txt` of YOLO."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() == ".json" and not path.name.startswith(".") and is_text(path.name):
            yield path.name
    for name, suffix in _FOLDERS.items():
        for path in sorted((folder / name).rglob("*.*")):
            if path.suffix.lower() == suffix and is_text(path.relative_to(folder).as_posix()):
                yield path.relative_to(folder).as_posix()


def _annotations(folder: Path) -> dict[str, list[str]]:
    """Returns name of an image without suffix -> files with its boxes; "": of all images."""
    found: dict[str, list[str]] = {}
    for path in annotation_files(folder):
        inside = path.partition("/")[2]
        if inside.rpartition("/")[2] != CLASSES:
            image = nfc(inside.rpartition(".")[0])
            found.setdefault(image, []).append(f"{folder.name}/{path}")
    return found


def _why(names: Sequence[str]) -> str:
    if names:
        return f"{len(names)} files have its boxes: keep one of them"
    return (
        "no file has its boxes: neither a COCO file beside 'images', nor one of its name in 'annotations' (.xml) or"
        " 'labels' (.txt). An image without an object needs an empty one"
    )


class BoxesBeside:
    """Reads the boxes of one file's image, once for all its tiles.

    Args:
        raw: the folder that paths are relative to.
        image: path of the image's file.
        boxes: path of the file with its boxes; None: there is none.
        without: why not, of a target image whose boxes were to be read.
        answers: of the task.
        classes: of the scenario.
        bounds: how large the file may be.
        optional: whether the image is used without its boxes too.
    """

    def __init__(
        self,
        raw: Path,
        image: str,
        boxes: str | None,
        without: str,
        answers: BoxConfig,
        classes: Sequence[str],
        bounds: Bounds,
        optional: bool,
    ) -> None:
        self._path, self._image = None if boxes is None else raw / boxes, image
        self._answers, self._classes, self._bounds, self._optional = answers, classes, bounds, optional
        self._whole: Marked | None = None
        self.refused = without

    def check_parts(self, parts: list[str]) -> None:
        """Checks that the file holds one image.

        Raises:
            DataError: it holds several.
        """
        if len(parts) != 1 and self._path is not None:
            self._without(
                DataError(f"its file holds {len(parts)} images, and boxes belong to one. Save each by itself")
            )

    def text(self, box: Box | None, image: Image, frame: tuple[int, int]) -> tuple[str, tuple[int, ...]]:
        """Returns the boxes of an image, or of a tile of it, and how many each class has; empty where there are none.

        Args:
            box: of the tile; None: the whole image.
            image: its pixels.
            frame: height and width of the whole image [pixel].

        Raises:
            DataError: the boxes of a source image cannot be used.
        """
        if self._path is not None and self._whole is None:
            try:
                self._whole = self._read(self._path, frame, bool(image.facts.get("turned")))
            except DataError as error:
                self._without(error)
            except OSError as error:
                self._without(DataError(f"its boxes cannot be opened ({error.strerror})"))
        if self._whole is None:
            return "", (0,) * len(self._classes)
        here = self._whole
        if box is not None:
            here = cut(here, box.top, box.left, box.top + box.height, box.left + box.width)
        return as_text(here), tuple(box_counts(here, len(self._classes)))

    def _read(self, path: Path, frame: tuple[int, int], turned: bool) -> Marked:
        if reason := refusal(path):
            raise DataError(f"its boxes: {reason}")
        check_size(path.stat().st_size, self._bounds)
        return self._answers.marked(read_boxes(path, self._image), *frame, turned, self._classes)

    def _without(self, error: DataError) -> None:
        if not self._optional:
            raise error
        self._path = None
        self.refused = str(error)


def boxes_sha256(text: str) -> str:
    """Returns the hash of boxes, empty where there are none."""
    return sha256_bytes(text.encode()) if text else ""
