"""Raw folders or tables -> files with what the user says of them -> rows with what the files say themselves."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.core import plugins
from isthmus.core.errors import DataError
from isthmus.core.files import sha256_file
from isthmus.data.audit.near_duplicates import small_picture
from isthmus.data.audit.pixel_facts import PixelFacts, pixel_facts
from isthmus.data.audit.summary import Bad
from isthmus.data.bounds import DEFAULT, Bounds, check_size
from isthmus.data.boxes import BoxConfig
from isthmus.data.image import Box, Frame, Image, check_second
from isthmus.data.ingest.boxed import IMAGES, BoxesBeside, boxed, boxes_sha256
from isthmus.data.ingest.paired import MASKS, apart, folders_of, paired, without_suffix
from isthmus.data.ingest.table import Found, from_table
from isthmus.data.ingest.walk import ANNOTATIONS, Walked, refusal, walk
from isthmus.data.masks import Mask, check_mask, class_pixels
from isthmus.data.names import is_text, nfc, private_reason, readable, shown_name
from isthmus.data.preprocess.tiling import block_of, box_of, images_in
from isthmus.data.readers import reader_for
from isthmus.data.scenario import Scenario
from isthmus.data.slices import Slice
from isthmus.data.tasks import AnnotationConfig
from isthmus.data.tiles import Tiles

_NOT_TEXT = "its name, or that of its folder, is not UTF-8: rename it"
TABLES = ("images.csv", "images.parquet")


class Beside(NamedTuple):
    """What the files beside an image are.

    Attributes:
        mask_sha256: of the mask's bytes.
        second_sha256: of the second image's bytes.
        pixels: of each class in the mask.
        refused: why the mask of a target image cannot be used; the image is, without it.
        boxes: of the image, or of the tile, as text (`data/boxes.py`); `pixels` are then how many each class has.
    """

    mask_sha256: str = ""
    second_sha256: str = ""
    pixels: tuple[int, ...] = ()
    refused: str = ""
    boxes: str = ""


@dataclass(frozen=True)
class Row:
    """One decoded image: identity and facts, no pixels."""

    found: Found
    sha256: str
    part: str
    height: int
    width: int
    channels: int
    dtype: str
    file_bytes: int
    person: str | None  # keyed hash of the person named in the file, if any
    small: NDArray[np.float32] | int  # a small copy for near duplicates, or its place in `audit/small_images.py`
    facts: PixelFacts
    slice: Slice | None = None  # where it lies in its volume, if its file says so
    assumed: str = ""  # what its file does not say and its reader took for granted
    block: int = 0  # of the frame that it is a tile of, from the left
    beside: Beside = Beside()  # noqa: RUF009 - frozen


def image_id(domain: str, sha256: str, part: str) -> str:
    """Returns the identity of an image: a keyed hash of domain, bytes and part, 32 hex digits.

    The bytes enter by their SHA-256, so that the id can be computed again from the manifest.
    """
    text = "\x1f".join((domain, sha256, part))
    return hashlib.blake2b(text.encode(), digest_size=16, key=b"isthmus image").hexdigest()


class Scanned(NamedTuple):
    """What a scenario's raw folder holds; nothing of it was opened yet.

    Attributes:
        found: files that may be images, ordered by path.
        bad: files that are refused without opening, ordered by path.
        names: path -> the name that may be shown.
        beside: domain -> kind -> files that lie beside the images and are ignored.
        unlisted: files below the domains' folders that a table does not name.
        elsewhere: lines of a table that are of other domains.
    """

    found: list[Found]
    bad: list[Bad]
    names: dict[str, str]
    beside: dict[str, dict[str, int]]
    unlisted: int
    elsewhere: int


def find_images(raw: Path, scenario: Scenario, where: str = "") -> tuple[list[Found], list[Bad]]:
    """Lists the files of a scenario's domains, ordered by path, and those that are refused without opening.

    Arguments and exceptions: as of `scan`.
    """
    seen = scan(raw, scenario, where)
    return seen.found, seen.bad


def scan(raw: Path, scenario: Scenario, where: str = "") -> Scanned:
    """Lists what a scenario's raw folder holds.

    Args:
        raw: the folder that paths are relative to.
        scenario: what it should hold.
        where: the scenario's name for messages; empty: its section in params.yaml.

    Raises:
        DataError: a folder, a class or a column is missing or unknown: all problems at once.
    """
    where = where or f"of the scenario with 'raw: {raw}' in params.yaml"
    if not raw.is_dir():
        raise DataError(
            f"{raw}: no such folder, named by 'raw' {where}. Get the images with 'isthmus fetch', 'isthmus add' or"
            " 'dvc pull', or put them there, then run 'dvc repro' again"
        )
    tables = [raw / name for name in TABLES if (raw / name).is_file()]
    if len(tables) == 2:
        raise DataError(f"{raw}: holds both {' and '.join(TABLES)}. Keep one of them")
    seen = _walked(raw, scenario)
    if tables:
        found, bad, elsewhere, named = from_table(raw, tables[0], scenario, where)
        listed = {f.path for f in found} | {b.path for b in bad}
        known = listed | named
        unlisted = sum(path not in known for walked in seen.values() for path in (*walked.files, *walked.refused))
    else:
        listed = {path for walked in seen.values() for path in (*walked.files, *walked.refused)}
        unlisted = elsewhere = 0
        found, bad = _from_folders(raw, scenario, where, seen, shown_names(listed, scenario.kind))
    names = shown_names(listed, scenario.kind)
    _check_groups(found, scenario, where, names)
    _check_domains(found, bad, scenario, where)
    beside = {domain: dict(sorted(walked.beside.items())) for domain, walked in seen.items() if walked.beside}
    if scenario.annotation_config().boxes:  # they are read, and how many the target has is for no file to say
        beside = {domain: left for domain, kinds in beside.items() if (left := _without_annotations(kinds))}
    return Scanned(sorted(found), sorted(bad), names, beside, unlisted, elsewhere)


def _without_annotations(kinds: dict[str, int]) -> dict[str, int]:
    return {kind: count for kind, count in kinds.items() if kind != ANNOTATIONS}


def shown_names(paths: Iterable[str], kind: str) -> dict[str, str]:
    """Returns path -> the name that messages may hold: of medical files their number in the order of paths.

    >>> shown_names(["ct/b.dcm", "ct/a.dcm"], "medical")["ct/b.dcm"]
    'file 2'
    """
    return {path: shown_name(path, kind, f"file {number}") for number, path in enumerate(sorted(paths), 1)}


def find_named(raw: Path, scenario: Scenario) -> dict[str, str]:
    """Returns path -> name that messages hold, of all files that a scan of the raw folder can speak of.

    Raises:
        DataError: there is no such folder, or its table cannot be read.
    """
    if raw.is_dir() and not any((raw / name).is_file() for name in TABLES):
        walked = _walked(raw, scenario).values()
        return shown_names({path for seen in walked for path in (*seen.files, *seen.refused)}, scenario.kind)
    return scan(raw, scenario).names


def read_image_facts(
    raw: Path,
    found: Found,
    key: bytes | None = None,
    tiles: Tiles | None = None,
    bounds: Bounds = DEFAULT,
    answers: AnnotationConfig = AnnotationConfig(),  # noqa: B008 - frozen
    classes: Sequence[str] = (),
    target: str = "",
) -> list[Row] | Bad:
    """Decodes one file wholly, and the files that belong to it; returns a row an image, or why it cannot be used.

    Args:
        raw: the folder that paths are relative to.
        found: the file.
        key: hashes the person named in a file; needed only where the user gives no group.
        tiles: how frames are cut; None: not at all.
        bounds: how large the file may be, and what it may declare.
        answers: of the scenario's task.
        classes: of the scenario.
        target: domain whose images are used also where their masks cannot be.
    """
    path = raw / found.path
    try:
        if reason := refusal(path):  # between the walk and now it can have become anything
            return Bad(found.path, found.domain, reason)
        size = path.stat().st_size
        check_size(size, bounds)
        reader = reader_for(path)
        rows: list[Row] = []
        sha256, person = "", None
        beside = _beside(raw, found, answers, classes, bounds, tiles, target)
        for name, part, image, whole in images_in(path, reader, bounds, tiles, found.domain):
            if not sha256:  # after the header is found to be a sound one
                sha256, person = sha256_file(path), None if found.group else reader.person(path, key)
                if answers.by_place or answers.second:
                    beside.check_parts(reader.parts(path, bounds, frames=tiles is not None))
            height, width, channels = image.pixels.shape
            dtype, small, facts = image.pixels.dtype.name, small_picture(image), pixel_facts(image)
            place, assumed = reader.slice_of(path, name), image.facts.get("assumed", "")
            box = box_of(part)
            block = block_of(box, whole[1], tiles) if box and tiles else 0
            rows.append(
                Row(
                    found, sha256, part, height, width, channels, dtype, size, person, small, facts, place, assumed,
                    block, beside.of(name, box, image, whole),
                )
            )  # fmt: skip
        return rows
    except DataError as error:
        return Bad(found.path, found.domain, str(error))
    except OSError as error:
        return Bad(found.path, found.domain, f"cannot be opened ({error.strerror})")


def _beside(
    raw: Path,
    found: Found,
    answers: AnnotationConfig,
    classes: Sequence[str],
    bounds: Bounds,
    tiles: Tiles | None,
    target: str,
) -> "_FilesBeside | _BoxesBeside":
    optional = found.domain == target
    if isinstance(answers, BoxConfig):
        boxes = BoxesBeside(raw, found.path, found.mask, found.without_mask, answers, classes, bounds, optional)
        return _BoxesBeside(boxes)
    return _FilesBeside(raw, found, answers, classes, bounds, tiles, optional)


class _FilesBeside:
    """Reads mask and second image of one file, once for all its parts."""

    def __init__(
        self,
        raw: Path,
        found: Found,
        answers: AnnotationConfig,
        classes: Sequence[str],
        bounds: Bounds,
        tiles: Tiles | None,
        optional: bool,
    ) -> None:
        self._optional = optional
        self._mask = None if found.mask is None else raw / found.mask
        self._second = None if found.second is None else raw / found.second
        self._answers, self._classes, self._bounds, self._frames = answers, classes, bounds, tiles is not None
        self._name: str | None = None
        self._later: Frame | None = None
        self._pixels: Mask | None = None
        self._refused = found.without_mask
        self._mask_sha256 = self._second_sha256 = ""

    def check_parts(self, parts: list[str]) -> None:
        """Opens the files: each must hold as many images as the first, and neither be too large.

        Args:
            parts: of the image's file.

        Raises:
            DataError: one does not, or cannot be opened.
        """
        if self._second is not None:
            self._second_sha256 = self._checked(self._second, "second image", parts)
        if self._mask is not None:
            try:
                self._mask_sha256 = self._checked(self._mask, "mask", parts)
            except DataError as error:
                self._without_mask(error)

    def of(self, name: str, box: Box | None, image: Image, frame: tuple[int, int]) -> Beside:
        """Returns what belongs to a part, or to a tile of it.

        Args:
            name: of the part.
            box: of the tile in it; None: the whole part.
            image: its pixels.
            frame: height and width of the whole part [pixel].

        Raises:
            DataError: a file cannot be read, or does not fit the image.
        """
        if self._name != name:
            self._name = name
            self._later = None if self._second is None else self._read_second(self._second, name, frame)
            self._pixels = None if self._mask is None else self._read_mask(self._mask, name, frame)
        if self._later is not None:
            check_second(image, self._later.cut(box or Box(0, 0, *frame)))
        if self._pixels is None:
            return Beside("", self._second_sha256, (0,) * len(self._classes), self._refused)
        mask = self._pixels
        if box is not None:
            mask = mask[box.top : box.top + box.height, box.left : box.left + box.width]
        return Beside(self._mask_sha256, self._second_sha256, tuple(class_pixels(mask, len(self._classes))))

    def _checked(self, path: Path, what: str, parts: list[str]) -> str:
        try:
            check_size(path.stat().st_size, self._bounds)
            theirs = reader_for(path).parts(path, self._bounds, frames=self._frames)
            sha256 = sha256_file(path)
        except DataError as error:
            raise DataError(f"its {what}: {error}") from None
        except OSError as error:
            raise DataError(f"its {what} cannot be opened ({error.strerror})") from None
        if theirs != parts:
            raise DataError(
                f"its {what} is read as {len(theirs)} images and its own file as {len(parts)} (pages, slices, windows)."
                " Save both in one form, or cut large scenes with 'tiles'"
            )
        return sha256

    def _read_second(self, path: Path, name: str, frame: tuple[int, int]) -> Frame:
        reader = reader_for(path)
        later = (reader.frame if self._frames else reader.read)(path, name, self._bounds)
        if (later.height, later.width) != frame:
            raise DataError(
                f"second image is {later.height} x {later.width} pixels, the first {frame[0]} x {frame[1]}."
                " Bring both to one grid"
            )
        return later

    def _read_mask(self, path: Path, name: str, frame: tuple[int, int]) -> Mask | None:
        try:
            mask: Mask = self._answers.read(path, name, self._classes, self._bounds)
            check_mask(mask, *frame)
        except DataError as error:
            self._without_mask(error)
            return None
        return mask

    def _without_mask(self, error: DataError) -> None:
        if not self._optional:
            raise error
        self._mask, self._refused = None, str(error)


class _BoxesBeside:
    """Reads the boxes of one file; as `_FilesBeside`."""

    def __init__(self, boxes: BoxesBeside) -> None:
        self._boxes = boxes
        self.check_parts = boxes.check_parts

    def of(self, name: str, box: Box | None, image: Image, frame: tuple[int, int]) -> Beside:
        """Returns what belongs to a part, or to a tile of it; as of `_FilesBeside`."""
        text, counts = self._boxes.text(box, image, frame)
        return Beside(boxes_sha256(text), "", counts, self._boxes.refused, text)


def _walked(raw: Path, scenario: Scenario) -> dict[str, Walked]:
    """Returns domain -> what its folder holds; a folder that is not there, or is a link, is left out."""
    folders = {domain: _domain_folder(raw, domain) for domain in scenario.domains}
    return {domain: walk(folder, f"{folder.name}/") for domain, folder in folders.items() if folder.is_dir()}


def _domain_folder(raw: Path, domain: str) -> Path:
    """Returns a domain's folder, however its accents are spelt on the disk."""
    exact = raw / domain
    if exact.is_symlink():
        return exact / "refused"
    if exact.is_dir():
        return exact
    return next((p for p in sorted(raw.iterdir()) if nfc(p.name) == domain and not p.is_symlink()), exact)


def _from_folders(
    raw: Path, scenario: Scenario, where: str, seen: dict[str, Walked], names: dict[str, str]
) -> tuple[list[Found], list[Bad]]:
    if scenario.target_labels == "table":
        raise DataError(
            f"{raw}: 'target_labels: table' {where}, but there is no {' or '.join(TABLES)}."
            " Write the table (path,domain,label) or set 'target_labels: folders' or 'none'"
        )
    answers = scenario.annotation_config()
    found: list[Found] = []
    bad: list[Bad] = []
    problems: list[str] = []
    for domain in scenario.domains:
        walked, target = seen.get(domain), domain == scenario.target
        if walked is None:
            problems.append(_missing(raw, domain, scenario, where))
            continue
        labelled = not target or scenario.target_labels == "folders"
        bad += [Bad(path, domain, reason) for path, reason in walked.refused.items()]
        if answers.masks:
            if missing := [
                name for name in folders_of(answers) if name not in walked.folders and (labelled or name != MASKS)
            ]:
                problems.append(
                    f"{raw / domain}: no folder {', '.join(missing)}, which task {scenario.task} needs {where}"
                )
            images, odd = paired(domain, [p for p in walked.files if is_text(p)], answers, target, labelled)
            bad += [Bad(p, domain, _NOT_TEXT) for p in walked.files if not is_text(p)] + odd
            found += [
                Found(p.path, domain, None, entity(p.path.rpartition("/")[2], scenario.group), None, *p[1:])
                for p in images
            ]
            continue
        if answers.boxes:
            if IMAGES not in walked.folders:
                problems.append(f"{raw / domain}: no folder {IMAGES}, which task {scenario.task} needs {where}")
            in_text = [p for p in walked.files if is_text(p)]
            marked, odd = boxed(_domain_folder(raw, domain), domain, in_text, target, labelled)
            bad += [Bad(p, domain, _NOT_TEXT) for p in walked.files if not is_text(p)] + odd
            found += [
                Found(path, domain, None, entity(path.rpartition("/")[2], scenario.group), None, boxes, None, without)
                for path, boxes, without in marked
            ]
            continue
        files, masks = list(walked.files), dict[str, str]()
        if answers.regions:
            files, masks = apart(files)
        if labelled:
            problems += _class_problems(raw / domain, walked, files, scenario, where, names, target=target)
        for path in files:
            if not is_text(path):
                bad.append(Bad(path, domain, _NOT_TEXT))
                continue
            inside = path.split("/")[1:]
            label = answers.class_of(nfc(inside[0]), scenario.classes) if labelled else None
            mask = masks.get(without_suffix(path)) if labelled else None
            found.append(Found(path, domain, label, entity(inside[-1], scenario.group), None, mask))
    if problems:
        raise DataError("\n".join(problems) + "\nThen run 'dvc repro' again")
    return found, bad


def _missing(raw: Path, domain: str, scenario: Scenario, where: str) -> str:
    what = "is a symbolic link: refused" if (raw / domain).is_symlink() else "no such folder"
    key = "target" if domain == scenario.target else "source"
    folders = sorted(readable(p.name) for p in raw.iterdir() if p.is_dir() and not p.name.startswith("."))
    there = [shown_name(name, scenario.kind, "") for name in folders]
    listed = ", ".join(there) if any(there) else f"{len(there)} folders"
    return (
        f"{raw / domain}: {what}, named by '{key}' {where}.{plugins.did_you_mean(domain, there)}"
        f" There are: {listed if there else 'no folders'}"
    )


def _class_problems(
    folder: Path,
    walked: Walked,
    images: Sequence[str],
    scenario: Scenario,
    where: str,
    names: dict[str, str],
    *,
    target: bool,
) -> Iterator[str]:
    allowed, answers = f"Allowed: {', '.join(scenario.classes)}", scenario.annotation_config()
    if loose := [path for path in images if path.count("/") == 1]:
        advice = ", or set 'target_labels: none'" if target else ""
        first = ", ".join(shown_name(path.split("/")[1], scenario.kind, names[path]) for path in loose[:3])
        yield (
            f"{folder}: {len(loose)} files lie outside class folders ({first}). Labelled images lie in"
            f" {folder}/<class>/{advice}. {allowed.replace('Allowed', 'Allowed classes')}"
        )
    first_in = {path.split("/")[1]: path for path in sorted([*walked.files, *walked.refused], reverse=True)}
    for entry in walked.folders:
        if "/" in entry or not is_text(entry):  # what lies in those is refused
            continue
        if answers.class_of(nfc(entry), scenario.classes) in scenario.classes:
            continue
        if entry not in first_in and any(f"{note}/".startswith(f"{entry}/") for note in walked.notes):
            continue
        near = plugins.did_you_mean(entry, scenario.classes)
        stand_in = f"the folder of {names[first_in[entry]]}" if entry in first_in else "an empty folder"
        shown = shown_name(entry, scenario.kind, "")
        what = f"{folder / shown}: class '{shown}'" if shown else f"{folder}: {stand_in}"
        yield (
            f"{what} is not among 'classes' {where}.{near} {allowed}. Rename the folder, move it away, or add the class"
        )


def entity(name: str, group: str | None) -> str | None:
    """Returns the value of a BIDS-like entity in a file name.

    >>> entity("lot-07_img-0012.png", "lot")
    '07'
    """
    match = re.search(rf"(?:^|_){re.escape(group)}-([A-Za-z0-9]+)(?=[_.])", name) if group else None
    return match.group(1) if match else None


def _check_groups(found: list[Found], scenario: Scenario, where: str, names: dict[str, str]) -> None:
    if scenario.group and found and not any(f.group for f in found):
        first = names[found[0].path]
        raise DataError(
            f"'group: {scenario.group}' {where}, but no file name holds '{scenario.group}-<value>_' (first: {first}),"
            f" and no table gives it. Rename the files, give a table with a column '{scenario.group}', or remove"
            f" 'group'"
        )


def mostly(reasons: Sequence[str]) -> str:
    """Returns the most frequent reason, as it goes on behind a count; empty where there is none.

    >>> mostly(["empty", "cut", "cut"]), mostly([])
    (', most because: cut', '')
    """
    return f", most because: {Counter(reasons).most_common(1)[0][0]}" if reasons else ""


def _check_domains(found: list[Found], bad: list[Bad], scenario: Scenario, where: str) -> None:
    problems = []
    for domain in scenario.domains:
        count = sum(f.domain == domain for f in found)
        if count < (2 if scenario.tiles is None else 1):  # one frame has many tiles
            key = "target" if domain == scenario.target else "source"
            refused = [private_reason(b.reason, b.path, scenario.kind) for b in bad if b.domain == domain]
            problems.append(
                f"domain '{domain}', named by '{key}' {where}: {count} images"
                f" ({len(refused)} refused{mostly(refused)})."
                " At least 2 are needed; of one large image 'tiles' of the scenario make many"
            )
    labels, answers = {f.label for f in found if f.domain != scenario.target}, scenario.annotation_config()
    for label in answers.learnt(scenario.classes):
        if label not in labels:
            problems.append(
                f"class '{label}' of 'classes' {where}: no image in the source ({', '.join(scenario.source)})."
                f" Classes with images: {', '.join(sorted(v for v in labels if v)) or 'none'}."
                " Add images or remove the class"
            )
    if problems:
        raise DataError("\n".join(problems) + "\nThen run 'dvc repro' again")
