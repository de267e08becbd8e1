"""A user's folders -> what they become as a scenario, decided and said before anything is copied."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from isthmus.core.config import validated
from isthmus.core.errors import DataError
from isthmus.core.plugins import did_you_mean
from isthmus.data.add.layout import File, Layout, TargetLabels, first_folders, read_source, read_target
from isthmus.data.audit.contradictions import Member, same_bytes
from isthmus.data.audit.summary import Bad
from isthmus.data.bounds import Bounds
from isthmus.data.ingest.scan import Row, read_image_facts
from isthmus.data.ingest.table import Found
from isthmus.data.names import is_text, nfc, printable, readable, shown_name
from isthmus.data.scenario import Scenario

Contradictions = Literal["refuse", "keep"]
TABLE = "images.csv"
_SAMPLE = 20  # files a domain that are decoded before anything is copied
_SHOWN = 10  # files in one message
_LISTED = 12  # classes whose counts are said one by one
_NO_KEY = b"only whether a file can be read counts here"
_ENTITY = re.compile(r"(?:^|_)([a-z]{2,})-[A-Za-z0-9]+(?=[_.])")


class Copy(NamedTuple):
    """One file on its way into the raw folder, and its line of the table."""

    origin: Path
    to: str
    domain: str
    label: str | None
    split: str | None
    group: str | None


@dataclass(frozen=True)
class Plan:
    """What a new scenario will be.

    Attributes:
        name: of the scenario.
        section: for `params.yaml`.
        scenario: the same, checked.
        layouts: domain -> what was understood of its folder, the target last.
        table: whether a table defines the images; else their folders do.
    """

    name: str
    section: dict[str, Any]
    scenario: Scenario
    layouts: dict[str, Layout]
    table: bool

    def copies(self) -> Iterator[Copy]:
        """Yields all files with their places in the raw folder: names that are UTF-8, each once."""
        taken: set[str] = set()
        for domain, layout in self.layouts.items():
            for file in layout.files:
                inside = file.path if self.table or file.label is None else f"{file.label}/{file.inside}"
                parts = [p if is_text(p) else readable(p) for p in inside.replace("\\", "_").split("/")]
                to = _free("/".join([domain, *parts]), taken)
                yield Copy(layout.folder / file.path, to, domain, file.label, file.split, file.group)

    def table_text(self) -> str:
        """Returns the table of the raw folder."""
        together = str(self.section.get("group", "group"))
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["path", "domain", "label", "split", together])
        for copy in self.copies():
            writer.writerow([copy.to, copy.domain, copy.label or "", copy.split or "", copy.group or ""])
        return stream.getvalue()

    def lines(self) -> list[str]:
        """Returns what was decided, for a person, a line each."""
        kind, target = self.scenario.kind, self.scenario.target
        out = [f"{self.name}: {kind}, {len(self.scenario.classes)} classes: {_few(self.scenario.classes)}"]
        for domain, layout in self.layouts.items():
            counts = layout.counts()
            role = "target" if domain == target else "source"
            told = {"folders": "classes from folders", "table": "classes from a table", "none": "no labels"}
            listed = ", ".join(f"{printable(name)} {counts[name]}" for name in list(counts)[:_LISTED])
            more = f" and {len(counts) - _LISTED} more classes" if len(counts) > _LISTED else ""
            what = f": {listed}{more}" if counts else ""
            where = f"'{printable(domain)}' ({layout.folder})"
            out.append(f"  {role} {where}: {len(layout.files)} images, {told[layout.labels]}{what}")
            out += [f"    {note}" for note in layout.notes]
            splits = Counter(f.split for f in layout.files if f.split)
            if splits:
                out.append(f"    splits as given: {', '.join(f'{s} {n}' for s, n in sorted(splits.items()))}")
            if layout.groups:
                out.append(f"    groups that stay in one split: {layout.groups}")
            for what, count in sorted(layout.left_out.items()):
                out.append(f"    left out: {printable(what)}: {count} images")
            if layout.walked.beside:
                beside = ", ".join(f"{kind} {n}" for kind, n in sorted(layout.walked.beside.items()))
                out.append(f"    beside the images, ignored: {beside}")
            for reason, count in sorted(Counter(layout.walked.refused.values()).items()):
                out.append(f"    refused without opening: {count}: {reason}")
        labels = self.section["target_labels"]
        of = f" ({', '.join(self.missing)} without images there)" if labels != "none" and self.missing else ""
        out.append(f"  target labels: {labels}{of}")
        if not any(layout.groups for layout in self.layouts.values()) and not self.scenario.group:
            out.append(f"  groups: none, only copies and near-duplicates stay together{self._hint()}")
        return out

    @property
    def missing(self) -> list[str]:
        """Classes without an image in the target."""
        there = self.layouts[self.scenario.target].counts()
        return [name for name in self.scenario.classes if name not in there]

    def _hint(self) -> str:
        source = [file for domain in self.scenario.source for file in self.layouts[domain].files]
        held = Counter(key for f in source for key in set(_ENTITY.findall(f.path.rpartition("/")[2])))
        common = sorted(key for key, count in held.items() if count == len(source))
        return (
            f". All file names hold '{common[0]}-<value>_': '--group {common[0]}' keeps these together"
            if common
            else ""
        )


def make_plan(
    name: str,
    sources: Sequence[Path],
    target: Path,
    kind: str,
    classes: Sequence[str] | None,
    target_labels: TargetLabels | None,
    group: str | None,
) -> Plan:
    """Reads the folders and decides.

    Raises:
        ConfigError: the scenario contradicts itself.
        DataError: a folder is missing, or can be read in several ways or in none.
    """
    domains = domain_names([*sources, target], kind)
    wanted = None if classes is None else [nfc(c) for c in classes]
    firsts = [first_folders(s) for s in sources] if len(sources) > 1 else [set[str]()]
    layouts = {}
    for number, folder in enumerate(sources):
        known = set().union(*(names for n, names in enumerate(firsts) if n != number and len(names) > 1))
        layouts[domains[number]] = read_source(folder, wanted, known, group, kind)
    found = sorted({f.label for layout in layouts.values() for f in layout.files if f.label is not None})
    if wanted is None:
        _ask_about_spelling(layouts, kind)
    chosen = wanted or found
    folders_group = any(layout.labels == "folders" and layout.groups for layout in layouts.values())
    layouts[domains[-1]] = read_target(
        target, chosen, target_labels, wanted is not None, group, kind, folders_group=folders_group
    )
    table = any(not layout.plain for layout in layouts.values())
    labelled = layouts[domains[-1]].labels != "none"
    section: dict[str, Any] = {
        "kind": kind,
        "raw": f"data/raw/{name}",
        "source": domains[:-1],
        "target": domains[-1],
        "target_labels": ("table" if table else "folders") if labelled else "none",
        "classes": chosen,
    }
    if any(f.group for layout in layouts.values() for f in layout.files):
        section["group"] = "group" if group in (None, "folder") else group
    elif group not in (None, "none"):
        raise DataError(_no_groups(group, layouts))
    section["model"] = "vit"
    _check_counts(domains[:-1], domains[-1], chosen, layouts)
    scenario = validated(Scenario, section, f"scenarios.{name}: ")
    return Plan(name, section, scenario, layouts, table)


def domain_names(folders: Sequence[Path], kind: str) -> list[str]:
    """Returns a name a folder: its own, with those of folders above it as far as it takes to tell them apart.

    `siteA/images` and `siteB/images` become `siteA_images` and `siteB_images`.

    Args:
        folders: in any order.
        kind: of imagery; for a missing folder one of a similar name is suggested where folders name nobody.

    Raises:
        DataError: a folder is missing, or is named twice.
    """
    real = [folder.resolve() for folder in folders]
    if missing := [_missing(f, kind) for f in folders if not f.is_dir()]:
        twice = sorted({f.name for f in real if real.count(f) > 1})
        raise DataError("\n".join([*missing, *(_one_folder(name) for name in twice)]))
    if twice := sorted({f.name for f in real if real.count(f) > 1}):
        raise DataError("\n".join(map(_one_folder, twice)))
    depths = dict.fromkeys(real, 1)

    def names() -> dict[Path, str]:
        return {f: "_".join(readable(p) for p in f.parts[1:][-depths[f] :]).lstrip(".") for f in real}

    while clash := {f for f, n in names().items() if list(names().values()).count(n) > 1}:
        deeper = [f for f in clash if depths[f] < len(f.parts) - 1]
        if not deeper:
            break
        for folder in deeper:
            depths[folder] += 1
    return [names()[f] for f in real]


def _missing(folder: Path, kind: str) -> str:
    if folder.exists():
        return f"{folder}: is not a folder"
    first = next(path for path in [*reversed(folder.absolute().parents), folder.absolute()] if not path.exists())
    beside = sorted(shown_name(path.name, kind, "") for path in first.parent.iterdir() if path.is_dir())
    near = did_you_mean(first.name, beside)
    return f"{folder}: no such folder{f'.{near}' if near else ''}"


def check_readable(plan: Plan, allowed: float, bounds: Bounds) -> bool:
    """Decodes some files of each domain, and all where some are broken, before anything is copied.

    Args:
        plan: what will be copied.
        allowed: `ingest.max_bad_share`.
        bounds: `ingest.files`.

    Returns:
        Whether a file without a group names a person, so that `ingest` needs a key to hash the name.

    Raises:
        DataError: more cannot be used than `ingest` will accept, or nothing of a domain, or files are links.
    """
    from isthmus.core.progress import track
    from isthmus.data.audit.summary import check_bad_share

    bad: list[Bad] = []
    total, people = 0, False
    for domain, layout in plan.layouts.items():
        names = layout.walked.numbers()
        links = [p for p, reason in layout.walked.refused.items() if "symbolic link" in reason]
        if links:
            shown = _shown(layout, links[0], names, plan)
            raise DataError(
                f"{shown}: {layout.walked.refused[links[0]]} ({len(links)} in all). Give the files themselves"
            )
        files = layout.files
        sample = files[:: max(1, len(files) // _SAMPLE)][:_SAMPLE]
        broken = []
        for file in sample:
            facts = _facts(layout, domain, file, bounds)
            if isinstance(facts, Bad):
                broken.append(facts)
            else:
                people |= any(row.person is not None for row in facts)
        if sample and len(broken) == len(sample):
            first = f"{_shown(layout, broken[0].path, names, plan)}: {broken[0].reason}"
            raise DataError(
                f"domain '{domain}': {len(broken)} of {len(sample)} sampled files cannot be read. First: {first}"
            )
        if len(broken) * 2 > len(sample) * allowed and len(sample) < len(files):
            checked = track(files, f"check {domain}", len(files), "file")
            broken = [b for file in checked if isinstance(b := _facts(layout, domain, file, bounds), Bad)]
        refused = [Bad(p, domain, reason) for p, reason in layout.walked.refused.items()]
        bad += [Bad(_shown(layout, b.path, names, plan), domain, b.reason) for b in [*broken, *refused]]
        total += len(files) + len(refused)
    check_bad_share(bad, total, allowed)
    return people


def check_contradictions(plan: Plan, what: Contradictions) -> list[str]:
    """Returns what is said twice of the same bytes, a line each.

    Raises:
        DataError: there is something, and it is to be refused.
    """
    target = plan.scenario.target
    places = {layout.folder / f.path: (layout, f.path) for layout in plan.layouts.values() for f in layout.files}
    members = [
        Member(layout.folder / f.path, layout.walked.files[f.path], domain, f.label)
        for domain, layout in plan.layouts.items()
        for f in layout.files
    ]
    two, both = [], []
    for group in same_bytes(members):
        if len({m.label for m in group if m.label is not None}) > 1:
            two.append(group)
        if 0 < sum(m.domain == target for m in group) < len(group):
            both.append(group)
    numbers = {id(layout): layout.walked.numbers() for layout in plan.layouts.values()}

    def told(groups: list[list[Member]], sentence: str) -> list[str]:
        if not groups:
            return []
        files = [
            " = ".join(_shown(*places[m.path], numbers[id(places[m.path][0])], plan) for m in group[:3])
            for group in groups[:_SHOWN]
        ]
        more = [f"  ... and {len(groups) - _SHOWN} more"] if len(groups) > _SHOWN else []
        return [f"{len(groups)} {sentence}", *(f"  {line}" for line in files), *more]

    lines = [
        *told(two, "images have identical bytes under two classes:"),
        *told(both, "images of the target are identical to images of a source:"),
    ]
    if lines and what == "refuse":
        raise DataError(
            "\n".join(lines) + "\nGive each image one class and one domain, or continue with '--contradictions keep':"
            " 'ingest' then leaves out what two classes of a source share, and the report counts the rest"
        )
    return lines


def check_folders_are_classes(plan: Plan) -> None:
    """Refuses folders of a source that each hold one patient: their names would become classes.

    Raises:
        DataError: without a name.
    """
    from isthmus.data.readers import reader_for

    if plan.scenario.kind != "medical":
        return
    for layout in (plan.layouts[d] for d in plan.scenario.source):
        people: dict[str, set[str | None]] = {}
        for label in list(layout.counts())[:_SHOWN] if layout.labels == "folders" else []:
            inside = [f for f in layout.files if f.label == label]
            people[label] = set()
            for file in inside[:: max(1, len(inside) // 3)][:3] if len(inside) > 1 else []:
                path = layout.folder / file.path
                try:
                    people[label].add(reader_for(path).person(path, _NO_KEY))
                except (DataError, OSError):
                    continue
        found = [next(iter(seen)) for seen in people.values() if len(seen) == 1 and None not in seen]
        if len(people) > 1 and len(found) == len(people) == len(set(found)):
            raise DataError(
                f"{layout.folder}: each of its {len(layout.counts())} folders holds the images of one patient, so they"
                " look like patients and not like classes. Name the classes with --classes, or write a table labels.csv"
                " with columns 'path', 'label' and 'patient' into the folder"
            )


def _ask_about_spelling(layouts: dict[str, Layout], kind: str) -> None:
    """Refuses sources that spell a class each in its own way."""
    spelt: dict[str, dict[str, str]] = {}
    for domain, layout in layouts.items():
        for label in layout.counts():
            spelt.setdefault(label.casefold(), {})[label] = domain
    if twice := [names for names in spelt.values() if len(names) > 1]:
        told = "; ".join(", ".join(f"'{label}' in {domain}" for label, domain in names.items()) for names in twice)
        shown = shown_name(f" ({told})", kind, "")
        raise DataError(
            f"sources: {len(twice)} classes differ only in upper and lower case{shown}. Is each one class? Rename"
            f" the folders or"
            " labels, or name the classes with --classes"
        )


def _one_folder(name: str) -> str:
    return f"two folders are named '{name}': they are one folder. Name each folder once"


def _facts(layout: Layout, domain: str, file: File, bounds: Bounds) -> list[Row] | Bad:
    return read_image_facts(layout.folder, Found(file.path, domain, None, file.group, None), _NO_KEY, bounds=bounds)


def _shown(layout: Layout, path: str, numbers: dict[str, int], plan: Plan) -> str:
    stand_in = f"file {numbers[path]} of {layout.folder} ('isthmus where' finds it)"
    return shown_name(str(layout.folder / path), plan.scenario.kind, stand_in)


def _check_counts(sources: list[str], target: str, classes: Sequence[str], layouts: dict[str, Layout]) -> None:
    problems = []
    for domain, layout in layouts.items():
        key = "target" if domain == target else "source"
        if len(layout.files) < 2:
            problems.append(
                f"domain '{domain}', named by '{key}' of the new scenario: {len(layout.files)} images"
                f" ({len(layout.walked.refused)} refused) in {layout.folder}. At least 2 are needed"
            )
    there = {f.label for d in sources for f in layouts[d].files}
    left_out = sorted({name for d in sources for name in layouts[d].left_out})
    besides = f". Left out: {_few(left_out)}" if left_out else ""
    problems += [
        f"class '{label}' of 'classes' of the new scenario: no image in the source ({', '.join(sources)})."
        f" Classes with images: {_few(sorted(v for v in there if v)) or 'none'}{besides}. Add images or remove it"
        for label in classes
        if label not in there
    ]
    if problems:
        raise DataError("\n".join(problems) + "\nThen run the same command again")


def _no_groups(group: str, layouts: dict[str, Layout]) -> str:
    folders = ", ".join(str(layout.folder) for layout in layouts.values())
    if group == "folder":
        return f"'--group folder', but no image of {folders} lies in a sub-folder beside that of its class"
    return (
        f"'--group {group}', but no file name in {folders} holds '{group}-<value>_', and no table there has a column"
        f" '{group}'. Allowed: folder (sub-folders of a class), none, a key in file names (`lot` of"
        " `lot-12_0001.png`), or a column"
    )


def _free(path: str, taken: set[str]) -> str:
    """Returns a path that no other file has: two folders that become one class may each hold an `a.png`."""
    stem, dot, suffix = path.rpartition(".")
    number, free = 1, path
    while free in taken:
        number += 1
        free = f"{stem}-{number}{dot}{suffix}" if stem and "/" not in suffix else f"{path}-{number}"
    taken.add(free)
    return free


def _few(names: Sequence[str]) -> str:
    shown = [printable(name) for name in names[:_LISTED]]
    return ", ".join(shown) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
