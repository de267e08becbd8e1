"""Where the project is: the folder that holds `params.yaml` and `dvc.yaml`, this one or one above it."""

import os
import shlex
from pathlib import Path
from typing import Any

from isthmus.core import plugins
from isthmus.core.errors import ConfigError

MARKS = ("params.yaml", "dvc.yaml")


def find_project(start: Path | None = None) -> Path:
    """Returns the root of the project that a folder lies in.

    Args:
        start: the folder to look from; None: the current one.

    Raises:
        ConfigError: neither the folder nor one above it is a project.
    """
    try:
        here = (start or Path.cwd()).absolute()
    except FileNotFoundError:
        raise ConfigError("the current folder was deleted. Change into the project's folder") from None
    half = None
    for folder in (here, *here.parents):
        missing = [name for name in MARKS if not (folder / name).is_file()]
        if not missing:
            return folder
        if len(missing) < len(MARKS) and half is None:
            half = f" ({folder} has no {missing[0]}: 'git checkout {missing[0]}' restores a deleted one)"
    raise ConfigError(
        f"{here}: not in a project: neither this folder nor one above it holds {' and '.join(MARKS)}{half or ''}."
        " Change into the folder of your project, or make one with 'isthmus init'"
    )


def work_in(project: Path) -> None:
    """Makes a project the current folder, since paths in `params.yaml` are relative to it, and its plugins known."""
    os.chdir(project)
    plugins.use(project / plugins.OWN)


def stage_path(stages: dict[str, Any], stage: str, flag: str, scenario: str) -> str:
    """Returns the path that a stage is given by a flag: the commands of `dvc.yaml` own every path.

    Args:
        stages: what stands under `stages` in `dvc.yaml`.
        stage: one that is there for each scenario.
        flag: of its command, without the dashes.
        scenario: its name.

    >>> stage_path({"ingest": {"do": {"cmd": "run --audit out/${key}/audit.json"}}}, "ingest", "audit", "steel")
    'out/steel/audit.json'
    """
    words = shlex.split(stages[stage].get("do", stages[stage])["cmd"])
    return words[words.index(f"--{flag}") + 1].replace("${key}", scenario)


def check_repository(project: Path) -> None:
    """Looks whether a project lies in a git repository, without which DVC and the lineage of a model do not work.

    Raises:
        ConfigError: it does not, and DVC was not told to do without.
    """
    settings = project / ".dvc" / "config"
    without = settings.is_file() and "no_scm = true" in settings.read_text(encoding="utf-8").lower()
    if not without and not any(
        (folder / ".git").exists() for folder in (project.absolute(), *project.absolute().parents)
    ):
        raise ConfigError(no_repository(project))


def no_repository(project: Path) -> str:
    """Returns what to say of a project that lies in no git repository."""
    return (
        f"{project}: not in a git repository (was it unpacked from an archive?). DVC and the lineage of a model"
        " need one: run 'git init', 'git add -A' and 'git commit -m first', then the same command again"
    )
