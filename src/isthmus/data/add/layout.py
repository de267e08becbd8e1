"""How a folder of images is laid out -> its files with class, split and group; or a question to the user.

Understood: `<class>/file`, at any depth under one folder that wraps all; `train/ val/ test/` above or below the
classes; sub-folders of classes for patients or lots; images beside a table that names them. What can be read in two
ways, and what would lose images or labels without a word, is refused with the choices there are.
"""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from isthmus.core.errors import DataError
from isthmus.data.add.label_table import SPLITS, LabelTable, label_tables
from isthmus.data.ingest.scan import entity
from isthmus.data.ingest.walk import Walked, walk
from isthmus.data.names import nfc, printable, readable, shown_name

TargetLabels = Literal["folders", "table", "none"]
ENOUGH_GROUPS = 10  # sub-folders from which on they are taken for lots or patients; fewer fill no splits
_SHOWN = 6  # names in one message
_NEAR = 0.8  # [ratio of difflib] from which on two names may be one that was misspelt


class File(NamedTuple):
    """One image as it lies in the user's folder, and what the layout says of it."""

    path: str
    inside: str  # the same below the folder of its class
    label: str | None
    split: str | None
    group: str | None


@dataclass
class Layout:
    """What was understood of one folder.

    Attributes:
        folder: the user's own.
        walked: all that is in it.
        files: those that are taken.
        labels: where their classes come from.
        plain: they lie in folders of classes and nothing else is said of them.
        groups: what keeps files together, in words; empty: nothing.
        left_out: folder or label -> files that are not taken.
        notes: what else a person should know, a sentence each.
    """

    folder: Path
    walked: Walked
    files: list[File] = field(default_factory=list)
    labels: TargetLabels = "none"
    plain: bool = True
    groups: str = ""
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Returns class -> number of files, in the order of names."""
        return dict(sorted(Counter(f.label for f in self.files if f.label is not None).items()))


class _Step(NamedTuple):
    """A file on the way: what of its path is not yet understood."""

    path: str
    split: str | None
    rest: tuple[str, ...]


def first_folders(folder: Path) -> set[str]:
    """Returns the names that one level of folders has, below what wraps it: classes, if another source has them."""
    steps, _ = _unwrapped(folder, walk(folder), set())
    return {nfc(s.rest[0]) for s in steps if len(s.rest) > 1}


def read_source(folder: Path, classes: Sequence[str] | None, known: set[str], group: str | None, kind: str) -> Layout:
    """Returns the layout of a source.

    Args:
        folder: the user's.
        classes: those that are wanted; None: all that are found.
        known: folders of other sources, which are classes.
        group: `folder`, `none`, or a column or entity; None: what is found.
        kind: of the images, which decides what a message may contain.

    Raises:
        DataError: it can be read in several ways, or in none; with the choices.
    """
    layout = Layout(folder, walk(folder))
    steps, wrapped = _unwrapped(folder, layout.walked, {*map(nfc, classes or ()), *known})
    layout.notes += wrapped
    _refuse_masks(folder, steps, classes or ())
    _refuse_boxes(layout, classes or ())
    loose = [s for s in steps if len(s.rest) == 1]
    if loose:
        tables = _tables(layout, classes, group, kind)
        if not tables:
            raise DataError(_no_classes(folder, steps, loose, kind))
        _from_tables(layout, steps, tables, classes, group, kind, source=True, subset=True)
        return layout
    layout.labels = "folders"
    if classes is None:
        _ask_about_levels(folder, steps, kind)
    steps = _splits_below(steps)
    if classes is None:
        _ask_about_capitals(folder, {nfc(readable(s.rest[0])) for s in steps}, kind)
        _ask_about_empty(layout, steps, kind)
    _from_folders(layout, steps, classes, group, kind)
    return layout


def read_target(
    folder: Path,
    classes: Sequence[str],
    wanted: TargetLabels | None,
    subset: bool,
    group: str | None,
    kind: str,
    *,
    folders_group: bool = False,
) -> Layout:
    """Returns the layout of a target.

    Args:
        folder: the user's.
        classes: of the source.
        wanted: where labels come from; None: what is found.
        subset: `classes` were named by the user, so that other folders are left out.
        group: as of `read_source`.
        kind: as of `read_source`.
        folders_group: sub-folders keep the images of a source together, so those of an unlabelled target do too.

    Raises:
        DataError: it is not clear whether it is labelled, or not labelled as it is said to be; with the choices.
    """
    layout = Layout(folder, walk(folder))
    steps, wrapped = _unwrapped(folder, layout.walked, set(map(nfc, classes)))
    _refuse_masks(folder, steps, classes)
    steps = _splits_below(steps)
    layout.notes += wrapped
    if wanted != "none":
        matched = [_matches(s.rest[:-1], classes) for s in steps]
        tables = _tables(layout, classes, group, kind) if wanted == "table" or not any(matched) else []
        tables = _of_classes(layout, tables, classes, kind)
        if wanted == "table" and not tables:
            raise DataError(
                f"{folder}: '--target-labels table', but no table in it names its images and classes"
                f" ({', '.join(classes)}). Write one with columns 'path' and 'label', or use --target-labels none"
            )
        if tables:
            _from_tables(layout, steps, tables, classes, group, kind, source=False, subset=subset)
            return _as_target(layout)
        _ask_about_target(folder, steps, matched, classes, wanted, subset, kind)
        if any(matched):
            layout.labels = "folders"
            _from_folders(layout, steps, classes, group, kind)
            return _as_target(layout)
        folders = sorted({s.rest[0] for s in steps if len(s.rest) > 1})
        why = f"its {len(folders)} folders{_named(folders, kind)} are not classes of the source" if folders else ""
        layout.notes.append(why or "its images are not in class folders, and no table beside them names their classes")
    by = "folder" if group is None and folders_group else group
    layout.files = [File(s.path, s.path, None, s.split, _group_of(s, None, by)) for s in steps]
    if group is None and not _enough_groups({f.group for f in layout.files}):
        layout.files = [f._replace(group=None) for f in layout.files]
    layout.plain = not any(f.split or (f.group and by == "folder") for f in layout.files)
    _say_groups(layout, group)
    return _as_target(layout)


def _as_target(layout: Layout) -> Layout:
    """Returns the layout with a target's splits alone, train and test: validation images test where no others do."""
    other = "train" if any(f.split == "test" for f in layout.files) else "test"
    layout.files = [f if f.split in (None, "train", "test") else f._replace(split=other) for f in layout.files]
    return layout


def _of_classes(layout: Layout, tables: list[LabelTable], classes: Sequence[str], kind: str) -> list[LabelTable]:
    """Returns the tables whose labels are classes of the source.

    Raises:
        DataError: the labels of one are only nearly named like classes.
    """
    found = []
    for table in tables:
        labels = {said.label for said in table.said.values() if said.label is not None}
        if any(_match(label, classes) for label in labels):
            found.append(table)
        elif near := [f"{label} for class {h}" for label in sorted(labels) if (h := _near(label, classes))]:
            raise DataError(
                f"{layout.folder}: labels of {table.name} have names close to classes of the source"
                f"{_named(near, kind)}. Rename them, or use '--target-labels none' to use its images without labels"
            )
        elif labels:
            layout.notes.append(f"{table.name} names its images, but holds no class of the source")
    return found


def _unwrapped(folder: Path, walked: Walked, known: set[str]) -> tuple[list[_Step], list[str]]:
    """Returns the files below folders that wrap everything, with the splits that folders name."""
    steps = [_Step(path, None, tuple(path.split("/"))) for path in walked.files]
    notes: list[str] = []
    while steps and all(len(s.rest) > 1 for s in steps):
        names = {s.rest[0] for s in steps}
        splits = {name for name in names if name.casefold() in SPLITS and not _match(readable(name), list(known))}
        if splits == names and steps[0].split is None:
            several = len({SPLITS[name.casefold()] for name in names}) > 1
            how = "splits, used as given" if several else "the only split, so 'ingest' divides its images"
            notes.append(f"{_few(sorted(names))}: {how}")
            steps = [_Step(s.path, SPLITS[s.rest[0].casefold()] if several else None, s.rest[1:]) for s in steps]
            continue
        _ask_about_splits(folder, steps, splits)
        only = readable(next(iter(names)))
        if len(names) > 1 or _match(only, list(known)) or _near(only, list(known)):
            break
        steps = [s._replace(rest=s.rest[1:]) for s in steps]
    return steps, notes


def _refuse_masks(folder: Path, steps: list[_Step], classes: Sequence[str]) -> None:
    """Refuses a folder of images with masks, which would be taken for classes."""
    names = {nfc(readable(s.rest[0])) for s in steps if len(s.rest) > 1}
    if not names & {*classes}:
        for task, wanted in (("segmentation", ("images", "masks")), ("change", ("a", "b", "masks"))):
            if names >= set(wanted):
                raise DataError(
                    f"{folder}: holds {', '.join(f'{name}/' for name in wanted)}: images with masks. Add '--task {task}"
                    " --classes NAMES', with the names in the order of the masks' values; if these folders are classes,"
                    " name them with --classes alone"
                )


def _refuse_boxes(layout: Layout, classes: Sequence[str]) -> None:
    """Refuses a folder of images with boxes beside them: COCO JSON, or a file of the image's name in another folder."""
    walked, folder = layout.walked, layout.folder
    beside = [f"{name}/" for name in ("annotations", "labels") if name in walked.notes]
    beside += [readable(path.name) for path in sorted(folder.glob("*.json"))[:1]]
    if "images" in walked.folders and beside and "images" not in classes:
        raise DataError(
            f"{folder}: holds images/ and {beside[0]}: images with boxes. Add '--task detection'; if 'images' is a"
            " class, name the classes with --classes"
        )


def _ask_about_splits(folder: Path, steps: list[_Step], splits: set[str]) -> None:
    """Refuses folders of which some are splits and some are not."""
    if not splits:
        return
    below: dict[str, set[str]] = {s.rest[0]: set() for s in steps}
    for step in steps:
        below[step.rest[0]] |= set(step.rest[1:2]) if len(step.rest) > 2 else set()
    others = sorted(set(below) - splits)
    alike = any(below[name] & below[other] for name in splits for other in others)
    if len(splits) > 1 or alike:
        raise DataError(
            f"{folder}: {_few(sorted(splits))} look like splits, but {len(others)} more folders lie beside them. Are"
            " they splits or classes? Move the others away, or name the classes with --classes"
        )


def _splits_below(steps: list[_Step]) -> list[_Step]:
    """Returns the files with the splits that folders below the classes name."""
    second = {s.rest[1] for s in steps if len(s.rest) > 2}
    if any(len(s.rest) < 3 for s in steps) or len(second) < 2 or not all(n.casefold() in SPLITS for n in second):
        return steps
    return [_Step(s.path, SPLITS[s.rest[1].casefold()], (s.rest[0], *s.rest[2:])) for s in steps]


def _ask_about_levels(folder: Path, steps: list[_Step], kind: str) -> None:
    """Refuses folders that each hold the same folders: either level may be the classes."""
    below: dict[str, set[str]] = {}
    for step in steps:
        below.setdefault(step.rest[0], set()).add(step.rest[1] if len(step.rest) > 2 else "")
    inner = next(iter(below.values()), set())
    same = len(below) > 1 and len(inner) > 1 and "" not in inner and all(found == inner for found in below.values())
    if not same or {name.casefold() for name in inner} <= set(SPLITS):
        return
    raise DataError(
        f"{folder}: each of its {len(below)} folders{_named(sorted(below), kind)} holds the same {len(inner)}"
        f" folders{_named(sorted(inner), kind)}. Which of the two are the classes? Name them with --classes"
    )


def _ask_about_capitals(folder: Path, names: set[str], kind: str) -> None:
    twice = sorted(n for n in names if sum(n.casefold() == other.casefold() for other in names) > 1)
    if twice:
        raise DataError(
            f"{folder}: {len(twice)} folders{_named(twice, kind)} differ only in upper and lower case. Are they"
            f" one class? Rename"
            " one of them, or name each with --classes"
        )


def _ask_about_empty(layout: Layout, steps: list[_Step], kind: str) -> None:
    """Refuses an empty folder beside those of classes: is it a class without images, or a slip?"""
    above, there = {step.path[: -len("/".join(step.rest))] for step in steps}, {step.rest[0] for step in steps}
    empty = [
        folder
        for folder in layout.walked.folders
        if f"{folder.rpartition('/')[0]}/".lstrip("/") in above
        and folder.rpartition("/")[2] not in there
        and layout.walked.is_empty(folder)
    ]
    if empty:
        raise DataError(
            f"{layout.folder}: {len(empty)} folders beside those of the classes are empty{_named(empty, kind)}: a class"
            " needs images in the source. Add images, remove them, or name the classes with --classes"
        )


def _no_classes(folder: Path, steps: list[_Step], loose: list[_Step], kind: str) -> str:
    deep = len(steps) - len(loose)
    what = f"{len(loose)} images lie outside class folders{_named([s.path for s in loose], kind)}"
    more = f", {deep} lie in folders" if deep else ""
    return (
        f"{folder}: {what}{more}, and no table beside them names them. A source needs the class of each image: put them"
        " into one folder a class, or write a table labels.csv with columns 'path' and 'label' into the folder"
    )


def _matches(folders: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Returns the classes that folders of a path stand for, each once."""
    return list(dict.fromkeys(found for name in folders if (found := _match(readable(name), classes))))


def _match(name: str, classes: Sequence[str]) -> str:
    """Returns the class of a name: spelt the same, else the only one that differs in capitals alone; empty: none.

    >>> _match("Crack", ("crack", "good")), _match("cracks", ("crack",))
    ('crack', '')
    """
    return _matched(name, tuple(classes))


@lru_cache(maxsize=4096)  # folders repeat in a million paths
def _matched(name: str, classes: tuple[str, ...]) -> str:
    if name in classes:
        return name
    alike = [c for c in classes if c.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else ""


def _ask_about_target(
    folder: Path,
    steps: list[_Step],
    matched: list[list[str]],
    classes: Sequence[str],
    wanted: TargetLabels | None,
    subset: bool,
    kind: str,
) -> None:
    """Refuses a target that is labelled in part, or nearly."""
    without = [s for s, found in zip(steps, matched, strict=True) if not found]
    choices = (
        "Use '--target-labels none' to use all of its images without labels, '--classes' with the classes that you"
        " want to leave the others out, or rename or move the folders"
    )
    folders = Counter(s.rest[0] for s in without if len(s.rest) > 1)
    near = [f"{n} for class {h}" for n in sorted(folders) if (h := _near(readable(n), classes))]
    if not any(matched):
        if wanted == "folders":
            raise DataError(
                f"{folder}: '--target-labels folders', but no folder in it is a class ({', '.join(classes)})"
            )
        if near:
            raise DataError(
                f"{folder}: {len(near)} folders have names close to classes of the source{_named(near, kind)}."
                f" {choices}"
            )
        return
    loose = sum(len(s.rest) == 1 for s in without)
    if not without or (subset and not loose):
        return
    counted = [f"{n}: {count} images" for n, count in sorted(folders.items())]
    told = [f"{len(folders)} folders{_named(counted, kind)}"] if folders else []
    told += [f"{loose} images outside folders"] if loose else []
    hint = f" Close to the name of a class{_named(near, kind)}." if near else ""
    there = ", ".join(sorted({c for found in matched for c in found}))
    raise DataError(
        f"{folder}: has folders of the source's classes ({there}), and beside them {' and '.join(told)} that are none."
        f"{hint} {choices}"
    )


def _near(name: str, classes: Sequence[str]) -> str:
    low = {c.casefold(): c for c in classes}
    near = difflib.get_close_matches(name.casefold(), list(low), n=1, cutoff=_NEAR)
    return low[near[0]] if near else ""


def _from_folders(
    layout: Layout, steps: list[_Step], classes: Sequence[str] | None, group: str | None, kind: str
) -> None:
    """Takes the files with the class that a folder of their path names; others are left out and counted."""
    spelt: dict[str, set[str]] = {}
    for step in steps:
        if classes is None:
            label, place = nfc(readable(step.rest[0])), 0
        else:
            found = _matches(step.rest[:-1], classes)
            if not found:
                outside = len(step.rest) == 1
                layout.left_out["outside folders" if outside else shown_name(step.rest[0], kind, "other folders")] += 1
                continue
            if len(found) > 1:
                shown = shown_name(step.path, kind, "a file")
                raise DataError(f"{layout.folder}: {shown} lies in folders of several classes: {', '.join(found)}")
            label = found[0]
            place = next(n for n, name in enumerate(step.rest) if _match(readable(name), classes) == label)
        spelt.setdefault(label, set()).add(step.rest[place])
        layout.plain &= place == 0 and step.split is None
        inside = "/".join(step.rest[place + 1 :])
        layout.files.append(File(step.path, inside, label, step.split, _group_of(step, place, group)))
    for label, names in sorted(spelt.items()):
        if other := sorted(printable(name) for name in names if name != label):
            layout.notes.append(f"folder {_few(other)} is class '{label}'")
    found_groups = {f.group for f in layout.files}
    if group is None and not _enough_groups(found_groups):
        if found_groups != {None}:
            layout.notes.append(
                f"sub-folders of classes ({len(found_groups - {None})}) are not used; '--group folder' keeps the images"
                " of each together"
            )
        layout.files = [f._replace(group=None) for f in layout.files]
    layout.plain &= not (group in (None, "folder") and any(f.group for f in layout.files))
    _say_groups(layout, group)


def _group_of(step: _Step, place: int | None, group: str | None) -> str | None:
    """Returns the sub-folder that a file lies in beside its class's, or the entity in its name."""
    if group in (None, "folder"):
        inside = [name for number, name in enumerate(step.rest[:-1]) if number != place]
        after = inside[place:] if place is not None and inside[place:] else inside
        return readable(after[0]) if after and (place is not None or group) else None
    return None if group == "none" else entity(step.rest[-1], group)


def _enough_groups(found: set[str | None]) -> bool:
    return None not in found and len(found) >= ENOUGH_GROUPS


def _say_groups(layout: Layout, group: str | None) -> None:
    if count := len({f.group for f in layout.files} - {None}):
        layout.groups = f"{count}, by {'sub-folder' if group in (None, 'folder') else group}"


def _tables(layout: Layout, classes: Sequence[str] | None, group: str | None, kind: str) -> list[LabelTable]:
    near = [name for name in layout.walked.tables if name.count("/") <= 2]
    return label_tables(layout.folder, near, list(layout.walked.files), classes, group, kind)


def _from_tables(
    layout: Layout,
    steps: list[_Step],
    tables: list[LabelTable],
    classes: Sequence[str] | None,
    group: str | None,
    kind: str,
    *,
    source: bool,
    subset: bool,
) -> None:
    """Takes the files with what the tables say of them; what is left out is counted, or asked about."""
    layout.labels, layout.plain = "table", False
    unknown: Counter[str] = Counter()
    unlabelled = unnamed = 0
    for step in steps:
        said = [(t, t.said[step.path]) for t in tables if step.path in t.said]
        if not said:
            unnamed += 1
            if not source:
                layout.files.append(File(step.path, step.path, None, step.split, None))
            continue
        table, entry = said[0]
        if any(other.label != entry.label for _, other in said[1:]):
            shown = shown_name(step.path, kind, "a file")
            raise DataError(f"{layout.folder}: {table.name} and {said[1][0].name} give different classes for {shown}")
        label = entry.label and (entry.label if classes is None else _match(entry.label, classes))
        if entry.label and not label:
            unknown[shown_name(entry.label, kind, "other labels")] += 1
            continue
        if entry.label is None and source:
            unlabelled += 1
            continue
        named = SPLITS.get(table.name.rpartition("/")[2].rpartition(".")[0].casefold())
        split = entry.split or step.split or named
        together = entry.group or (_group_of(step, None, group) if group else None)
        layout.files.append(File(step.path, step.path, label or None, split, together))
    if unknown and not subset:
        raise DataError(
            f"{layout.folder}: {tables[0].name} has labels of the source's classes, and {len(unknown)}"
            f"{_named(sorted(unknown), kind)} that are none. Use '--target-labels none' to use all images without"
            " labels, or '--classes' with the classes that you want to leave the others out"
        )
    if unlabelled:
        raise DataError(
            f"{layout.folder}: {unlabelled} images have no label in {tables[0].name}. Give each a label, or remove"
            " their lines"
        )
    layout.left_out += Counter({f"label {label}": count for label, count in unknown.items()})
    if unnamed and source:
        layout.left_out[f"not in {tables[0].name}"] = unnamed
    for table in tables:
        files, label, split, together = table.columns
        used = (("files", files), ("classes", label), ("splits", split), ("groups", together))
        told = ", ".join(f"{what} from '{column}'" for what, column in used if column)
        layout.notes.append(f"{table.name} is read: {told}")
        if table.absent:
            layout.notes.append(f"{table.absent} lines of {table.name} name missing files")
    _say_groups(layout, next((f"column '{t.columns[3]}'" for t in tables if t.columns[3]), group))


def _named(names: Sequence[str], kind: str) -> str:
    """Returns names in brackets; nothing where they may name people."""
    return shown_name(f" ({_few(names)})", kind, "")


def _few(names: Sequence[str]) -> str:
    shown = [printable(name) for name in names[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
