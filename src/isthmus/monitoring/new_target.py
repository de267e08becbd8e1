"""Makes a batch of images the target of a scenario: a new version of its raw data, in which nothing is lost."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml
from ruamel.yaml import YAML

from isthmus.core.config import load_params, read_yaml
from isthmus.core.errors import ConfigError, DataError
from isthmus.core.files import atomic_folder, sha256_file, sweep, write_text
from isthmus.data.add.register import dvc_add
from isthmus.data.csv_lines import read_csv
from isthmus.data.ingest.boxed import IMAGES
from isthmus.data.ingest.scan import TABLES
from isthmus.data.ingest.walk import walk
from isthmus.data.names import nfc
from isthmus.data.scenario import Scenario, ScenarioParams


@dataclass(frozen=True)
class Incoming:
    """A batch that is to become a scenario's target.

    Attributes:
        project: its root.
        scenario: its name.
        section: what `params.yaml` says of it.
        folder: where the batch lies now.
        files: of it, those that can be used.
    """

    project: Path
    scenario: str
    section: Scenario
    folder: Path
    files: list[Path]

    @property
    def raw(self) -> Path:
        """The scenario's raw folder."""
        return self.project / self.section.raw

    def plan(self) -> list[str]:
        """Returns what will be done, a line a step, for a person."""
        table = _table(self.raw)
        old = f"its rows of {table.name} leave it" if table else f"the old one becomes {_aside(self)}"
        return [
            f"copy {len(self.files)} images into {self.section.raw} as target '{self.section.target}'; {old}",
            f"set scenarios.{self.scenario}.target_labels to none; dvc add {self.section.raw}",
            f"run 'isthmus run {self.scenario}', then score, gate and promote",
        ]


def read_incoming(project: Path, scenario: str, folder: Path, files: list[Path]) -> Incoming:
    """Returns the batch, after all that could stand in its way was looked at.

    Raises:
        ConfigError: there is no such scenario, its task compares two images, a stage writes its raw data, or the
            batch lies inside them.
        DataError: the raw data are not here.
    """
    params = project / "params.yaml"
    section = load_params(ScenarioParams, params, {"scenario": f"scenarios.{scenario}"}).scenario
    place = folder.resolve()
    # by their names in the folder: with DVC's cache elsewhere each file of a versioned batch is a link into it
    named = [place / file.relative_to(folder) for file in files]
    incoming = Incoming(project.resolve(), scenario, section, place, named)
    if section.annotation_config().second:
        raise ConfigError(
            f"{params}: scenarios.{scenario}: task {section.task} compares two images, which --adapt cannot bring in."
            f" Put the new pairs into {section.raw}/{section.target}, set target_labels: none, and run 'isthmus run"
            f" {scenario}'"
        )
    if scenario in (read_yaml(params).get("pairs") or {}):
        raise ConfigError(
            f"{params}: pairs.{scenario}: the stage 'simulate@{scenario}' writes {section.raw}, so no images can be"
            f" brought there. Bring them as a pair of their own with 'isthmus add'"
        )
    sweep(incoming.raw.parent)
    if not incoming.raw.is_dir():
        raise DataError(f"{incoming.raw}: no such folder. Get it with 'dvc checkout {section.raw}.dvc'")
    if incoming.folder.is_relative_to(incoming.raw.resolve()):
        raise ConfigError(f"{folder}: lies inside the raw data of '{scenario}'. Name a folder outside {section.raw}")
    return incoming


def bring_in(incoming: Incoming) -> bool:
    """Makes the batch the target; returns False where it was already. A killed call is finished by the next.

    The old target stays in the raw folder, under a name that no domain has: it is not trained on, and not lost. What
    the raw folder was before goes into DVC's cache first.

    Raises:
        ConfigError: `params.yaml` is laid out so that it must be edited by hand.
        StoreError: DVC refused.
    """
    relative = incoming.section.raw
    new = _target_hashes(incoming) != {sha256_file(file) for file in incoming.files}
    if new:
        dvc_add(incoming.project, relative)
        with atomic_folder(incoming.raw) as fresh:
            # links, not copies: the new version shares all old bytes with the folder that it replaces
            shutil.copytree(incoming.raw, fresh, copy_function=_linked, dirs_exist_ok=True, symlinks=True)
            _place(incoming, fresh)
    _forget_labels(incoming.project / "params.yaml", incoming.scenario)
    dvc_add(incoming.project, relative)
    return new


def _table(raw: Path) -> Path | None:
    return next((raw / name for name in TABLES if (raw / name).is_file()), None)


def _aside(incoming: Incoming) -> str:
    """Returns a free name for the target that was: the numbers tell the order."""
    number = 1
    while any(incoming.raw.glob(f"*_before_{number}*")):
        number += 1
    return f"{incoming.section.target}_before_{number}"


def _place(incoming: Incoming, fresh: Path) -> None:
    target, aside, table = incoming.section.target, _aside(incoming), _table(fresh)
    place, answers = fresh / target, incoming.section.annotation_config()
    if place.is_dir():
        place.rename(fresh / aside)
    if table is None and (answers.boxes or answers.masks) and not answers.regions:
        place /= IMAGES
    for file in incoming.files:
        to = place / file.relative_to(incoming.folder)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, to)
    if table is not None:
        paths = [f"{target}/{file.relative_to(incoming.folder).as_posix()}" for file in incoming.files]
        _write_rows(table, target, aside, paths)


def _write_rows(table: Path, target: str, aside: str, paths: list[str]) -> None:
    """Rewrites the target's rows without labels; the old table stays beside it."""
    csv, rows = table.suffix == ".csv", _rows(table)
    mine = _of_target(rows, target)
    inside = ~mine & rows["path"].str.startswith(f"{target}/")
    if inside.any():
        raise ConfigError(
            f"{table}: {int(inside.sum())} images of other domains lie in the target's folder '{target}/'."
            " Move them into a folder of their own, and name it in the table"
        )
    table.rename(table.with_name(f"{aside}_{table.name}"))
    empty = "" if csv else None
    new = pd.DataFrame({c: [empty] * len(paths) for c in rows} | {"path": paths, "domain": target}, dtype=object)
    rows = pd.concat([rows[~mine].astype(object), new], ignore_index=True)
    if csv:
        rows.to_csv(table, index=False)
    else:
        rows.to_parquet(table, index=False)


def _rows(table: Path) -> pd.DataFrame:
    """Returns the rows of a table as `ingest` reads them: no cell is taken for a missing one, names have no margins."""
    if table.suffix != ".csv":
        return pd.read_parquet(table)
    columns, lines = read_csv(table)
    return pd.DataFrame([line.cells for line in lines], columns=columns, dtype=object)


def _of_target(rows: pd.DataFrame, target: str) -> "pd.Series[bool]":
    return rows["domain"].map(lambda domain: target in (nfc(str(domain)), nfc(str(domain)).strip()))


def _target_hashes(incoming: Incoming) -> set[str]:
    table, target = _table(incoming.raw), incoming.section.target
    if table is None:
        return {sha256_file(incoming.raw / target / path) for path in walk(incoming.raw / target).files}
    rows = _rows(table)
    paths = [incoming.raw / path for path in rows.loc[_of_target(rows, target), "path"]]
    return {sha256_file(path) for path in paths if path.is_file()}


def _forget_labels(params: Path, scenario: str) -> None:
    """Sets `target_labels: none`, since the new images have no labels; no other byte changes."""
    expected = read_yaml(params)
    section = expected["scenarios"][scenario]
    if section.get("target_labels", "none") == "none":
        return
    text = params.read_text(encoding="utf-8")
    line, column = YAML().load(text)["scenarios"][scenario].lc.value("target_labels")
    lines = text.splitlines(keepends=True)
    before, value = lines[line][:column], section["target_labels"]
    lines[line] = before + lines[line][column:].replace(value, "none", 1)
    section["target_labels"] = "none"
    text = "".join(lines)
    if yaml.safe_load(text) != expected:
        raise ConfigError(f"{params}: scenarios.{scenario}: set 'target_labels: none' by hand, and run this again")
    write_text(params, text)


def _linked(origin: str, to: str) -> str:
    try:
        os.link(origin, to)
    except OSError:  # a file system without hard links
        shutil.copy2(origin, to)
    return to
