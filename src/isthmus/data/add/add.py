"""Adds a user's own pair: checks, copies, DVC, a section in `params.yaml`; on an error it changes nothing."""

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from isthmus.core.config import Config, load_params
from isthmus.core.errors import ConfigError, DataError, StoreError
from isthmus.core.files import atomic_folder, write_text
from isthmus.core.names import CODE, NAME_PATTERN
from isthmus.core.progress import log, track
from isthmus.data.add.dense_plan import CLASSIFICATION, DensePlan, make_dense_plan
from isthmus.data.add.layout import TargetLabels
from isthmus.data.add.plan import (
    TABLE,
    Contradictions,
    Copy,
    Plan,
    check_contradictions,
    check_folders_are_classes,
    check_readable,
    make_plan,
)
from isthmus.data.add.register import add_section, dvc_add, has_section, with_section
from isthmus.data.audit.summary import Bad, check_bad_share
from isthmus.data.ingest.scan import find_images, scan
from isthmus.data.ingest.tables import IngestConfig
from isthmus.data.names import private_reason, shown_name
from isthmus.data.tiles import Tiles


class _IngestParams(Config):
    ingest: IngestConfig = IngestConfig()


def add_pair(
    project: Path,
    name: str,
    sources: list[Path],
    target: Path,
    kind: str,
    classes: list[str] | None = None,
    target_labels: TargetLabels | None = None,
    *,
    task: str = CLASSIFICATION,
    group: str | None = None,
    contradictions: Contradictions = "refuse",
    dry_run: bool = False,
) -> Path:
    """Adds a pair, logs what was decided, and returns its raw folder. The folders' names become the domains' names.

    Args:
        project: the folder with `params.yaml`.
        name: of the new scenario.
        sources: folders of labelled images, in one of the layouts of `data/add/layout.py`.
        target: a folder with images, labelled or not.
        kind: a module of `data/kinds`.
        classes: that are wanted, others are left out; None: all of the sources.
        target_labels: None: what is found.
        task: a module of `data/tasks`; of other tasks than classification the folders are taken as they are, in the
            layouts of docs/contracts.md.
        group: what crosses no splits: `folder`, `none`, a column of a table or a key in file names; None: what is
            found.
        contradictions: what to do where the same bytes have two classes, or lie in source and target.
        dry_run: report what would be done, and change nothing.

    Raises:
        ConfigError: the name is taken or cannot be used, or the scenario contradicts itself.
        DataError: a folder is missing, its layout is not clear, or its images cannot be used.
        StoreError: DVC refused.
    """
    params, raw = project / "params.yaml", project / "data" / "raw" / name
    _check_name(params, raw, name)
    config = load_params(_IngestParams, params, {}).ingest
    plan = _plan(name, sources, target, kind, classes, target_labels, group, task)
    with_section(params, name, plan.section)  # before anything is copied: can the section be written at all?
    if classes is None and isinstance(plan, Plan):
        check_folders_are_classes(plan)
    log("\n".join(plan.lines()))
    if isinstance(plan, Plan):
        people = check_readable(plan, config.max_bad_share, config.files)
        if people and config.identity_key is None:
            log(
                "  files name patients: before the first run set 'ingest.identity_key' in params.yaml to a key file"
                " outside git, under which they become groups, or give groups with --group"
            )
        for line in check_contradictions(plan, contradictions):
            log(line)
    if dry_run:
        log(f"{name}: a dry run, nothing was done")
        return raw
    _check_room(plan, project)
    kept = _Before(project, raw)
    try:
        with atomic_folder(raw) as folder, _as_of_add(folder, raw):
            _copy(plan, folder)
            if isinstance(plan, Plan):
                _check_copied(folder, plan)
            else:
                _check_answers(folder, plan, config.max_bad_share)
        _versioned(project, raw.relative_to(project), kind)
        add_section(params, name, plan.section)
    except BaseException:
        kept.restore()
        raise
    what = "images" if isinstance(plan, Plan) else "answers"
    log(f"{raw}: ready. Next: isthmus check {name}, which reads some of the {what}, then isthmus run {name}")
    return raw


def _plan(
    name: str,
    sources: list[Path],
    target: Path,
    kind: str,
    classes: list[str] | None,
    target_labels: TargetLabels | None,
    group: str | None,
    task: str,
) -> Plan | DensePlan:
    if task == CLASSIFICATION:
        return make_plan(name, sources, target, kind, classes, target_labels, group)
    if target_labels == "table" or group == "folder":
        given = "--target-labels table" if target_labels == "table" else "--group folder"
        raise ConfigError(
            f"{given}: cannot be combined with --task {task}, whose folders are taken as they are. Put the images into"
            f" data/raw/{name} with a table images.csv (docs/contracts.md), run 'dvc add' on it and write the section"
        )
    labelled = None if target_labels is None else target_labels == "folders"
    return make_dense_plan(name, sources, target, kind, task, classes, labelled, group)


def _check_name(params: Path, raw: Path, name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(f"name '{name}' cannot be used. Allowed: lower-case letters, digits and '_'")
    if name == CODE:
        raise ConfigError(f"name '{name}' is taken: out/{name} holds fingerprints of the code. Choose another name")
    if has_section(params, name):
        raise ConfigError(f"{params}: 'scenarios.{name}' already exists. Choose another name, or remove the section")
    if raw.exists() or raw.with_name(f"{name}.dvc").exists():
        raise DataError(f"{raw}: already exists. Choose another name, or move the folder and its .dvc file away")


def _check_room(plan: Plan | DensePlan, project: Path) -> None:
    needed = sum(copy.origin.stat().st_size for copy in plan.copies())
    free = shutil.disk_usage(project).free
    if needed > free:
        raise DataError(
            f"{project}: {needed / 1e9:.2f} GB are to be copied, and {free / 1e9:.2f} GB are free. Make room"
        )


def _copy(plan: Plan | DensePlan, folder: Path) -> None:
    copies = list(plan.copies())
    made: set[Path] = set()
    for number, copy in enumerate(track(copies, f"copy to {plan.section['raw']}", len(copies), "file"), 1):
        to = folder / copy.to
        try:
            if to.parent not in made:
                to.parent.mkdir(parents=True, exist_ok=True)
                made.add(to.parent)
            shutil.copyfile(copy.origin, to, follow_symlinks=False)
        except OSError as error:
            raise DataError(_not_copied(copy, number, plan, error)) from None
    if isinstance(plan, Plan) and plan.table:
        write_text(folder / TABLE, plan.table_text())


def _not_copied(copy: Copy, number: int, plan: Plan | DensePlan, error: OSError) -> str:
    shown = shown_name(str(copy.origin), plan.scenario.kind, f"image {number} of {plan.name}")
    return f"{shown}: cannot be copied to {plan.section['raw']} ({error.strerror}). Nothing was added"


def _check_copied(folder: Path, plan: Plan) -> None:
    """Reads the raw folder as `ingest` will: what was planned must be what it finds."""
    found, bad = find_images(folder, plan.scenario, "of the new scenario")
    planned = sum(len(layout.files) for layout in plan.layouts.values())
    if bad or len(found) != planned:
        raise DataError(f"{plan.name}: {len(found)} of {planned} images can be found again ({len(bad)} refused)")


def _check_answers(folder: Path, plan: DensePlan, allowed: float) -> None:
    """Reads the raw folder as `ingest` will: which images have no answers, and which answers no image."""
    tiled = plan.scenario.model_copy(update={"tiles": Tiles(size=1)})  # of one large scene `tiles` can make many images
    seen = scan(folder, tiled, "of the new scenario")
    bad = [Bad(seen.names[b.path], b.domain, private_reason(b.reason, b.path, plan.scenario.kind)) for b in seen.bad]
    check_bad_share(bad, len(seen.found) + len(bad), allowed)
    for reason, count in sorted(Counter(b.reason for b in bad).items()):
        log(f"  will not be used: {count}: {reason}")
    without = sum(bool(found.without_mask) for found in seen.found)
    if without:
        log(f"  target images without answers, used to train: {without}")
    counts = Counter(found.domain for found in seen.found)
    for domain in (domain for domain in plan.scenario.domains if counts[domain] == 1):
        log(f"  '{domain}' holds one image: set 'tiles', which cut it, before the first run (docs/how-to/data.md)")


@contextmanager
def _as_of_add(folder: Path, raw: Path) -> Iterator[None]:
    """Has what `ingest` would say of a copy speak of the folder that it would become, and of the command that ran."""
    try:
        yield
    except DataError as error:
        said = str(error).replace(str(folder), str(raw)).replace("run 'dvc repro' again", "run 'isthmus add' again")
        raise DataError(said) from None


def _versioned(project: Path, raw: Path, kind: str) -> None:
    try:
        dvc_add(project, raw)
    except StoreError as error:
        told = shown_name(str(error), kind, "")
        raise StoreError(
            told or f"{raw}: 'dvc add' failed in {project}; its output may name files and is not shown"
        ) from None


class _Before:
    """What was there before a pair is added, so that nothing of a refused one stays."""

    def __init__(self, project: Path, raw: Path) -> None:
        self._raw, self._ignored = raw, raw.with_name(".gitignore")
        self._text = self._ignored.read_bytes() if self._ignored.is_file() else None
        self._new: Sequence[Path] = [p for p in (project / "data" / "raw", project / "data") if not p.exists()]

    def restore(self) -> None:
        """Removes what was made since."""
        shutil.rmtree(self._raw, ignore_errors=True)
        self._raw.with_name(f"{self._raw.name}.dvc").unlink(missing_ok=True)
        if self._text is not None:
            self._ignored.write_bytes(self._text)
        else:
            self._ignored.unlink(missing_ok=True)
        for folder in self._new:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
