"""Folders of a task whose answers lie beside the images: images, masks and, for change, the later images.

`<domain>/images/NAME` with `<domain>/masks/NAME`, or `<domain>/a/NAME` and `<domain>/b/NAME` with
`<domain>/masks/NAME`: files belong together by their path below these folders, less the suffix. A mask may be called
`NAME_mask`.
"""

from collections.abc import Container, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from isthmus.data.audit.summary import Bad
from isthmus.data.names import nfc
from isthmus.data.tasks import AnnotationConfig

MASKS = "masks"
_MASK = "_mask"  # at the end of a mask's name


class Paired(NamedTuple):
    """One image and the files that belong to it; None where there is none.

    `without_mask`: why a target image has none, though masks are read.
    """

    path: str
    mask: str | None
    second: str | None
    without_mask: str = ""


def paired(
    domain: str, files: list[str], answers: AnnotationConfig, target: bool, read: bool
) -> tuple[list[Paired], list[Bad]]:
    """Returns the images of a domain with what lies beside each, and the files that cannot be used.

    Args:
        domain: its name.
        files: paths below the raw folder, `<domain>/<folder>/...`.
        answers: of the task.
        target: whether it is the target, whose images are used without masks too.
        read: whether masks are read at all.
    """
    first, later = ("a", "b") if answers.second else ("images", "")
    by_folder: dict[str, dict[str, list[str]]] = {first: {}, later: {}, MASKS: {}}
    bad: list[Bad] = []
    for path in files:
        parts = path.split("/")
        if len(parts) < 3 or parts[1] not in by_folder:
            allowed = ", ".join(f"{domain}/{name}/" for name in by_folder if name)
            bad.append(Bad(path, domain, f"lies in none of the folders of this task. Allowed: {allowed}"))
            continue
        by_folder[parts[1]].setdefault(nfc("/".join([*parts[2:-1], _stem(parts[-1])])), []).append(path)
    by_folder[MASKS] = _by_image(by_folder[MASKS], by_folder[first])
    found: list[Paired] = []
    for stem, paths in by_folder[first].items():
        mask, no_mask = _one(by_folder[MASKS].get(stem, []), MASKS) if read else (None, "")
        second, no_second = _one(by_folder[later].get(stem, []), later) if later else (None, "")
        several = f"{len(paths)} files in '{first}' have one name: keep one of them" if len(paths) > 1 else ""
        if reason := several or no_second or ("" if target else no_mask):
            bad += [Bad(path, domain, reason) for path in paths]
        else:
            found.append(Paired(paths[0], mask, second, no_mask))
    for folder in filter(None, [MASKS if read else "", later]):
        for stem in by_folder[folder].keys() - by_folder[first].keys():
            bad += [Bad(path, domain, f"no image of its name lies in '{first}'") for path in by_folder[folder][stem]]
    return found, bad


def _by_image(masks: dict[str, list[str]], images: Container[str]) -> dict[str, list[str]]:
    """Returns the masks by the image that they belong to: `NAME_mask` to NAME, where no image is called NAME_mask."""
    found: dict[str, list[str]] = {}
    for stem, paths in masks.items():
        plain = stem.removesuffix(_MASK)
        found.setdefault(plain if plain in images and stem not in images else stem, []).extend(paths)
    return found


def folders_of(answers: AnnotationConfig) -> Iterator[str]:
    """Yields the names of the folders inside a domain that a task needs."""
    yield from ("a", "b") if answers.second else ("images",)
    yield MASKS


def apart(files: list[str]) -> tuple[list[str], dict[str, str]]:
    """Separates images in class folders from the masks of where a defect is.

    Args:
        files: paths below the raw folder: `<domain>/<class>/NAME`, and `<domain>/masks/<class>/NAME` or `NAME_mask`.

    Returns:
        The images, and of an image's path without its suffix the mask.
    """
    images = [path for path in files if path.split("/")[1] != MASKS or path.count("/") == 1]
    masks = {}
    for path in sorted(set(files) - set(images)):
        domain, _, inside = path.split("/", 2)
        masks[f"{domain}/{without_suffix(inside).removesuffix(_MASK)}"] = path
    return images, masks


def without_suffix(path: str) -> str:
    """Returns a path without the suffix of its name."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{_stem(name)}" if folder else _stem(name)


def _one(paths: list[str], folder: str) -> tuple[str | None, str]:
    """Returns the only path, or why there is none; no reason holds a name, which may be a patient's."""
    if len(paths) > 1:
        return None, f"{len(paths)} files in '{folder}' have its name: keep one of them"
    return (paths[0], "") if paths else (None, f"no file of its name lies in '{folder}'")


def _stem(name: str) -> str:
    """Returns a file's name without suffix; `.nii.gz` counts as one."""
    return name[: -len(".nii.gz")] if name.lower().endswith(".nii.gz") else PurePosixPath(name).stem
