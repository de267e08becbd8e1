"""Brings a user's own pair into the project: checks, copies, DVC, a section in `params.yaml`; or nothing at all."""

import re
import shutil
from pathlib import Path
from typing import Any, Literal

from isthmus.core.config import validated
from isthmus.core.errors import ConfigError, DataError
from isthmus.core.files import atomic_folder
from isthmus.core.names import NAME_PATTERN
from isthmus.core.progress import say
from isthmus.data.register import add_section, dvc_add, has_section
from isthmus.data.scan import find_images, read_image_facts
from isthmus.data.scenario import Scenario
from isthmus.data.table import Bad, Found

_SAMPLE = 20  # files a domain that are decoded before anything is copied
_NO_KEY = b"only whether a file can be read counts here"
TargetLabels = Literal["folders", "none"]


def add_pair(
    project: Path,
    name: str,
    sources: list[Path],
    target: Path,
    kind: str,
    classes: list[str] | None = None,
    target_labels: TargetLabels | None = None,
) -> Path:
    """Adds a pair and returns its raw folder. The folders' names become the names of the domains.

    Args:
        project: the folder with `params.yaml`.
        name: of the new scenario.
        sources: folders with one sub-folder a class.
        target: a folder with images, or with one sub-folder a class.
        kind: a module of `data/kinds`.
        classes: None: the names of the sources' sub-folders.
        target_labels: None: `folders` if each sub-folder of the target is one of the classes, else `none`.

    Raises:
        ConfigError: the name is taken or cannot be used, or the scenario contradicts itself.
        DataError: a folder is missing, a class is unknown, or the images cannot be decoded.
        StoreError: DVC refused.
    """
    params, raw = project / "params.yaml", project / "data" / "raw" / name
    _check_name(params, raw, name)
    _check_folders([*sources, target])
    classes = classes or sorted({p.name for source in sources for p in _folders(source)})
    section: dict[str, Any] = {
        "kind": kind,
        "raw": f"data/raw/{name}",
        "source": [source.resolve().name for source in sources],
        "target": target.resolve().name,
        "target_labels": target_labels or _labels_of(target, classes),
        "classes": classes,
        "model": "vit",
    }
    scenario = validated(Scenario, section, f"scenarios.{name}: ")
    older = params.read_text(encoding="utf-8")
    try:
        with atomic_folder(raw) as folder:
            for origin in [*sources, target]:
                say(f"copy {origin} to {raw / origin.resolve().name}")
                # links are kept as links, so that the checks below see and refuse them; nothing they name is copied
                shutil.copytree(origin, folder / origin.resolve().name, symlinks=True)
            _check_images(folder, scenario, [*sources, target])
        add_section(params, name, section)
        dvc_add(project, raw.relative_to(project))  # last: DVC takes back its own half-done work
    except BaseException:
        _undo(params, older, raw)
        raise
    say(f"{raw}: ready. Next: dvc repro report@{name}")
    return raw


def _check_name(params: Path, raw: Path, name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(f"name '{name}' cannot be used. Allowed: lower-case letters, digits and '_'")
    if has_section(params, name):
        raise ConfigError(f"{params}: 'scenarios.{name}' is there already. Choose another name, or remove the section")
    if raw.exists() or raw.with_name(f"{name}.dvc").exists():
        raise DataError(f"{raw}: is there already. Choose another name, or move the folder and its .dvc file away")


def _check_folders(folders: list[Path]) -> None:
    problems = [f"{folder}: no such folder" for folder in folders if not folder.is_dir()]
    names = [folder.resolve().name for folder in folders]
    problems += [
        f"two folders are named '{name}': a folder's name becomes its domain's. Rename one"
        for name in sorted({n for n in names if names.count(n) > 1})
    ]
    if problems:
        raise DataError("\n".join(problems))


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _labels_of(target: Path, classes: list[str]) -> TargetLabels:
    inside = [p.name for p in _folders(target)]
    loose = any(p.is_file() and not p.name.startswith(".") for p in target.iterdir())
    return "folders" if inside and not loose and set(inside) <= set(classes) else "none"


def _check_images(raw: Path, scenario: Scenario, origins: list[Path]) -> None:
    try:
        found, bad = find_images(raw, scenario, "of the new scenario")
    except DataError as error:
        raise DataError(_in_users_words(str(error), raw, origins)) from None
    links = [b for b in bad if "symbolic link" in b.reason]
    if links:
        raise DataError(f"{links[0].path}: {links[0].reason} ({len(links)} in all). Give the files themselves")
    for domain in scenario.domains:
        files = [f for f in found if f.domain == domain]
        broken = [b for b in (read_image_facts(raw, f, _NO_KEY) for f in _spread(files)) if isinstance(b, Bad)]
        if len(broken) * 2 > len(_spread(files)):
            raise DataError(
                f"domain '{domain}': {len(broken)} of {len(_spread(files))} sampled files cannot be read. First:"
                f" {broken[0].path}: {broken[0].reason}"
            )


def _in_users_words(message: str, copied: Path, origins: list[Path]) -> str:
    """Names the user's own folders instead of their copies, which are gone when the message is read."""
    for origin in origins:
        message = message.replace(str(copied / origin.resolve().name), str(origin))
    return message.replace("Then run 'dvc repro' again", "Then run the same command again")


def _spread(files: list[Found]) -> list[Found]:
    return files[:: max(1, len(files) // _SAMPLE)][:_SAMPLE]


def _undo(params: Path, older: str, raw: Path) -> None:
    shutil.rmtree(raw, ignore_errors=True)
    raw.with_name(f"{raw.name}.dvc").unlink(missing_ok=True)
    if params.read_text(encoding="utf-8") != older:
        params.write_text(older, encoding="utf-8")
