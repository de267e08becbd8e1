"""A user's images with masks, boxes or defects -> a scenario.

Folders are taken as they are; what lies beside the images says the rest of the section: the values of masks, the names
of boxes, whether the target has answers.

Layouts: docs/contracts.md, "Masks", "Defects" and "Boxes".
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.core import plugins
from isthmus.core.config import validated
from isthmus.core.errors import ConfigError, DataError
from isthmus.data.add.plan import Copy, domain_names
from isthmus.data.bounds import DEFAULT
from isthmus.data.formats.box_files import read_boxes
from isthmus.data.ingest.boxed import IMAGES, Boxed, annotation_files, boxed
from isthmus.data.ingest.paired import MASKS, folders_of
from isthmus.data.ingest.walk import Walked, walk
from isthmus.data.masks import IGNORED, one_channel
from isthmus.data.names import is_text, nfc, readable
from isthmus.data.scenario import Scenario
from isthmus.data.tasks import AnnotationConfig

CLASSIFICATION = "classification"
_GOOD = ["good", "defect"]
_OUTSIDE = "background"  # what lies outside of boxes
_SAMPLE = 200  # masks of a domain whose values are looked at
_SHOWN = 8  # values in one message


@dataclass(frozen=True)
class DensePlan:
    """What a new scenario of a task other than classification will be.

    Attributes:
        name: of the scenario.
        section: for `params.yaml`.
        scenario: the same, checked.
        folders: domain -> the user's folder, the target last.
        files: domain -> what is copied, below its folder.
        notes: what else a person should know.
    """

    name: str
    section: dict[str, Any]
    scenario: Scenario
    folders: dict[str, Path]
    files: dict[str, list[str]]
    notes: list[str] = field(default_factory=list)

    def copies(self) -> Iterator[Copy]:
        """Yields all files with their places in the raw folder."""
        for domain, paths in self.files.items():
            for path in paths:
                to = "/".join([domain, *(part if is_text(part) else readable(part) for part in path.split("/"))])
                yield Copy(self.folders[domain] / path, to, domain, None, None, None)

    def lines(self) -> list[str]:
        """Returns what was decided, for a person, a line each."""
        scenario = self.scenario
        out = [f"{self.name}: {scenario.kind}, task {scenario.task}, classes: {', '.join(scenario.classes)}"]
        for domain, folder in self.folders.items():
            role = "target" if domain == scenario.target else "source"
            out.append(f"  {role} '{domain}' ({folder}): {len(self.files[domain])} files")
        return [*out, f"  target labels: {scenario.target_labels}", *(f"  {note}" for note in self.notes)]


def make_dense_plan(
    name: str,
    sources: Sequence[Path],
    target: Path,
    kind: str,
    task: str,
    classes: Sequence[str] | None,
    labelled: bool | None,
    group: str | None,
) -> DensePlan:
    """Reads the folders and decides.

    Args:
        name: of the scenario.
        sources: folders of images with their answers.
        target: folder of images, with answers or without.
        kind: of imagery.
        task: a module of `data/tasks`, not classification.
        classes: of masks in the order of their values, of boxes the background first; None: of boxes what the files
            name, of defects `good` and `defect`.
        labelled: whether the target's answers are read; None: if there are any.
        group: a key in file names; None: none.

    Raises:
        ConfigError: the task is not known, or needs names of classes.
        DataError: a folder is missing, or what lies beside the images cannot be used.
    """
    answers: AnnotationConfig = plugins.load("data.tasks", task).Config()
    domains = domain_names([*sources, target], kind)
    folders = dict(zip(domains, [*sources, target], strict=True))
    walked = {domain: walk(folder) for domain, folder in folders.items()}
    boxes = {domain: list(annotation_files(folder)) if answers.boxes else [] for domain, folder in folders.items()}
    if labelled is None:
        seen, good = walked[domains[-1]], classes[0] if classes else _GOOD[0]
        masks = any(path.startswith(f"{MASKS}/") for path in seen.files)
        labelled = masks if answers.masks else bool(boxes[domains[-1]]) if answers.boxes else good in seen.folders
    read = domains if labelled else domains[:-1]
    wanted = [IMAGES] if answers.boxes else list(folders_of(answers)) if answers.masks else []
    for domain in domains:
        needed = [name for name in wanted if name != MASKS or domain in read]
        _check_folders(folders[domain], walked[domain], needed, task)
        if answers.boxes and domain in read and not boxes[domain]:
            raise DataError(_no_boxes(folders[domain]))
    files = {
        domain: sorted([*(p for p in walked[domain].files if not wanted or p.split("/")[0] in wanted), *boxes[domain]])
        for domain in domains
    }
    section: dict[str, Any] = {
        "kind": kind,
        "task": task,
        "raw": f"data/raw/{name}",
        "source": domains[:-1],
        "target": domains[-1],
        "target_labels": "folders" if labelled else "none",
        "classes": [nfc(c) for c in classes] if classes else [],
    }
    notes = _refused(folders, walked)
    if answers.masks:
        _of_masks(section, [(folders[d], files[d]) for d in domains[:-1]], task)
    elif answers.boxes:
        notes += _of_boxes(section, {d: (folders[d], walked[d]) for d in read})
    else:
        section["classes"] = section["classes"] or _GOOD
    if group not in (None, "none"):
        section["group"] = group
    section["model"] = answers.ships_with
    return DensePlan(name, section, validated(Scenario, section, f"scenarios.{name}: "), folders, files, notes)


def _refused(folders: dict[str, Path], walked: dict[str, Walked]) -> list[str]:
    """Returns what is refused without opening, a line a reason.

    Raises:
        DataError: there are symbolic links, of which nothing would be copied.
    """
    for domain, seen in walked.items():
        if links := sum("symbolic link" in reason for reason in seen.refused.values()):
            raise DataError(f"{folders[domain]}: {links} files are symbolic links. Give the files themselves")
    counts = Counter(reason for seen in walked.values() for reason in seen.refused.values())
    return [f"refused without opening: {count}: {reason}" for reason, count in sorted(counts.items())]


def _check_folders(folder: Path, walked: Walked, needed: Sequence[str], task: str) -> None:
    if missing := [name for name in needed if name not in walked.folders]:
        there = ", ".join(sorted(name for name in walked.folders if "/" not in name)) or "no folders"
        raise DataError(
            f"{folder}: no folder {', '.join(missing)}, which task {task} needs. There are: {there}. The layout is in"
            " docs/contracts.md"
        )


def _no_boxes(folder: Path) -> str:
    return (
        f"{folder}: no boxes: neither a COCO file *.json beside '{IMAGES}', nor annotations/*.xml (Pascal VOC), nor"
        " labels/*.txt (YOLO)"
    )


def _of_masks(section: dict[str, Any], sources: Sequence[tuple[Path, list[str]]], task: str) -> None:
    """Adds the values of the classes in the sources' masks, where they are not 0, 1, 2, ...

    Raises:
        ConfigError: the classes have no names.
        DataError: there are more or fewer values than classes.
    """
    classes = section["classes"]
    values = _values(sources, _SAMPLE)
    if classes and not _are_numbers(values, classes):
        values = _values(sources, None)  # what few masks show may be in none of the sample
    shown = ", ".join(map(str, values[:_SHOWN])) + (", ..." if len(values) > _SHOWN else "")
    if not classes:
        raise ConfigError(
            f"--classes: task {task} needs the names of the classes in the order of the values in the masks, such as"
            f" --classes background,crack (values found: {shown})"
        )
    if _are_numbers(values, classes):
        return
    scored = [value for value in values if value != IGNORED or len(values) == len(classes)]
    if len(scored) != len(classes):
        raise DataError(
            f"masks have the values {shown}, and --classes names {len(classes)} ({', '.join(classes)}). Name one class"
            f" for each value; {IGNORED} may be one more, which is not scored"
        )
    section["annotations"] = {"values": scored} | ({"ignore": None} if IGNORED in scored else {})


def _are_numbers(values: Sequence[int], classes: Sequence[str]) -> bool:
    """Says whether values are places of classes: of two classes 0 and 255 alone are black and white."""
    return set(values) <= {*range(len(classes)), IGNORED} and (len(classes) > 2 or set(values) != {0, IGNORED})


def _values(sources: Sequence[tuple[Path, list[str]]], most: int | None) -> list[int]:
    """Returns the values in about so many masks of each source, None: in all."""
    found: set[int] = set()
    for folder, files in sources:
        masks = [folder / path for path in files if path.startswith(f"{MASKS}/")]
        for path in masks[:: max(1, len(masks) // (most or len(masks) or 1))]:
            try:
                found |= {int(value) for value in np.unique(one_channel(path, "", DEFAULT))}
            except (DataError, OSError, ValueError):  # of several pages, or broken: `ingest` says what is wrong
                continue
    return sorted(found)


def _of_boxes(section: dict[str, Any], read: dict[str, tuple[Path, Walked]]) -> list[str]:
    """Adds the names of the classes; returns notes.

    Raises:
        ConfigError: the files number the classes, and nothing names them.
        DataError: no file of a source holds a box.
    """
    named = {domain: _names(folder, domain, walked) for domain, (folder, walked) in read.items()}
    numbers = sorted({name for names in named.values() for name in names if isinstance(name, int)})
    classes = section["classes"]
    if numbers and not classes:
        raise ConfigError(
            f"--classes: the YOLO files number their classes (found: {', '.join(map(str, numbers))}), and no"
            f" classes.txt beside them names these. Name '{_OUTSIDE}', then the classes in the order of the numbers"
        )
    of_sources = sorted({n for d in section["source"] for n in named[d] if isinstance(n, str)})
    if not classes and not of_sources:
        raise DataError(f"no box in the files of {', '.join(section['source'])}")
    section["classes"] = classes = classes or [_OUTSIDE, *of_sources]
    annotations: dict[str, Any] = {"numbers": classes[1:]} if numbers else {}
    others = sorted({n for names in named.values() for n in names if isinstance(n, str)} - set(classes[1:]))
    if others:
        annotations["names"] = dict.fromkeys(others)
    if annotations:
        section["annotations"] = annotations
    return [f"boxes left out: {', '.join(others)}"] if others else []


def _names(folder: Path, domain: str, walked: Walked) -> set[str | int]:
    images = [f"{folder.name}/{path}" for path in walked.files if is_text(path) and path.startswith(f"{IMAGES}/")]
    marked: list[Boxed] = boxed(folder, domain, images, target=True, read=True)[0]
    found: set[str | int] = set()
    for image in marked:
        if image.boxes is None:
            continue
        try:
            found |= {name for name, _ in read_boxes(folder.parent / image.boxes, image.path).boxes}
        except (DataError, OSError):  # `ingest` says what is wrong
            continue
    return found
