"""A few labels of the target: writes the list of images to label, and takes the answers back.

`out/<scenario>/label/` beside the report: `label.html` (thumbnails, answers can be chosen and saved there),
`label_first.csv` (the same list, with an empty column `class`), `asked.json` (image -> purpose, of all lists so far).
Answers are kept in `data/labels/<scenario>.csv`, under DVC, one line an image with who gave it and when.
"""

import datetime
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from isthmus.core.config import load_params, read_yaml
from isthmus.core.errors import ConfigError, DataError, StoreError
from isthmus.core.files import read_json, write_json, write_text
from isthmus.core.locks import flocked
from isthmus.core.project import stage_path
from isthmus.data.add.register import dvc_add
from isthmus.data.audit.summary import plural
from isthmus.data.csv_lines import read_csv
from isthmus.data.labels.answers import Images, merged, read_answers
from isthmus.data.labels.given import (
    MEASURE,
    TRAIN,
    Given,
    Purpose,
    drawing_order,
    labels_file,
    pool_of,
    read_given,
    write_given,
)
from isthmus.data.manifest import LOCATIONS, MANIFEST, read_table
from isthmus.data.scenario import Scenario, ScenarioParams
from isthmus.data.scenario_names import scenario_names
from isthmus.evaluation.scoring.predict import PREDICTIONS
from isthmus.registry.lineage.git import run_git
from isthmus.report.labels.label_page import asked_images, label_csv, label_page

RANDOM = 50  # [image] drawn for measuring: an interval at most 26 points wide (docs/benchmarks.md)
PER_CLASS = 5  # [image] for training: what they gain is in docs/benchmarks.md
_LIST = "label_first.csv"


@dataclass(frozen=True)
class Written:
    """The list that was written.

    Attributes:
        folder: where it lies.
        counts: purpose -> images that are asked for now.
        missing: what is not on it and why, empty where all is.
    """

    folder: Path
    counts: dict[Purpose, int]
    missing: str


@dataclass(frozen=True)
class Taken:
    """The answers that were taken.

    Attributes:
        file: where all labels of the scenario are kept.
        new: images whose answer is new or another one.
        counts: purpose -> labels in all.
    """

    file: Path
    new: int
    counts: dict[Purpose, int]


def write_list(project: Path, name: str, random: int = RANDOM, per_class: int = PER_CLASS) -> Written:
    """Writes the images that shall be labelled next; those that have a label are not asked for again.

    The part for measuring needs the stage `ingest`, the one for training what a finished run predicted.

    Args:
        project: the folder with `params.yaml`.
        name: of the scenario.
        random: images drawn for measuring in all, labelled ones included; never fewer than were drawn before.
        per_class: images of each class for training in all, labelled ones included, drawn at random among those that
            the model gives this class.

    Raises:
        ConfigError: there is no such scenario, its images have no class, or a number is negative.
        DataError: it has no manifest yet, or the list holds answers that were not taken.
    """
    for option, number in (("--random", random), ("--per-class", per_class)):
        if number < 0:
            raise ConfigError(f"{option} {number}: allowed are 0 and more")
    at = _Places(project, name)
    given = read_given(at.file)
    _check_taken(at.folder / _LIST, given, name)
    before = at.asked() if at.has_asked else {}
    drawn_before = [image_id for image_id, purpose in before.items() if purpose == MEASURE]
    manifest = at.manifest()
    order = drawing_order(pool_of(manifest, at.scenario.target))
    count = max(random, len(drawn_before))
    drawn = [i for i in order[:count] if i not in given or given[i].purpose == MEASURE]
    wanted: dict[str, Purpose] = dict.fromkeys((i for i in drawn if i not in given), MEASURE)
    predictions, missing = at.path("evaluate", "predictions"), []
    if per_class and predictions.is_file():
        group = manifest.set_index("image_id")["group"]
        measured = set(group[[*drawn_before, *order[:count]]])
        apart = [i for i in order[count:] if i not in given and group[i] not in measured]
        predicted = read_table(predictions, PREDICTIONS).set_index("image_id")["predicted"].reindex(apart).dropna()
        chosen: set[str] = set()
        for number, label in enumerate(at.scenario.classes):
            known = sum(entry.purpose == TRAIN and entry.label == label for entry in given.values())
            chosen.update(predicted.index[predicted == number][: max(0, per_class - known)])
        wanted |= {i: TRAIN for i in apart if i in chosen}  # in the order of the draw: not by what the model says
        if not apart:
            missing.append("no images to train with: each group of the target has an image that is drawn for measuring")
    elif per_class:
        missing.append(
            f"no images to train with: they are drawn by predicted class. Run 'dvc repro report@{name}', then the same"
            " command again"
        )
    prepared = at.path("report", "prepared")
    images, enlarged = asked_images(wanted, at.scenario, at.path("ingest", "locations"), prepared)
    write_json(at.folder / "asked.json", before | dict.fromkeys(drawn, MEASURE) | wanted)
    write_text(at.folder / "label.html", label_page(name, at.scenario, images, enlarged))
    write_text(at.folder / _LIST, label_csv(images))
    if not (prepared / "index.parquet").is_file():
        missing.append(
            f"no thumbnails: the images are not prepared. Run 'dvc repro prepare@{name}', then the same command again"
        )
    counts = Counter(wanted.values())
    return Written(at.folder, {purpose: counts[purpose] for purpose in (MEASURE, TRAIN)}, "\n".join(missing))


def take(project: Path, name: str, place: Path, by: str | None = None, replace: bool = False) -> Taken:
    """Takes answers: all of them, or none at all. The same answers again change nothing.

    Args:
        project: the folder with `params.yaml`.
        name: of the scenario.
        place: a table, or a folder of class folders.
        by: who gave the answers; None: git's user.
        replace: take answers that differ from the kept ones.

    Raises:
        ConfigError: there is no such scenario, its images have no class, or it is not known who answered.
        DataError: no list was written, or an answer cannot be taken.
        StoreError: DVC refused.
    """
    at = _Places(project, name)
    who = by.strip() if by else _git_user(project)
    if not who or not who.isprintable():
        raise ConfigError("who gave these answers? git has no user.name. Name the person with --by")
    images = Images(at.scenario, project / at.scenario.raw, at.manifest(), at.locations())
    answers = read_answers(place, images)
    asked = at.asked()
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    with flocked(project / ".isthmus" / "label.lock"):
        before = read_given(at.file)
        given = merged(before, answers, asked, who, date, replace)
        _keep(project, at.file, given)
    new = sum(given[image_id] != before.get(image_id) for image_id in answers)
    counts = Counter(entry.purpose for entry in given.values())
    return Taken(at.file, new, {purpose: counts[purpose] for purpose in (MEASURE, TRAIN)})


def _keep(project: Path, file: Path, given: dict[str, Given]) -> None:
    """Writes the labels and puts them under DVC; where DVC refuses, everything is as it was."""
    kept = [file, file.with_name(f"{file.name}.dvc"), file.with_name(".gitignore")]
    before = {path: path.read_bytes() if path.is_file() else None for path in kept}
    try:
        write_given(file, given)
        dvc_add(project, file.relative_to(project))
    except BaseException:
        for path, content in before.items():
            path.unlink(missing_ok=True)  # it may be a link into DVC's cache, which is not to be written
            if content is not None:
                path.write_bytes(content)
        raise


class _Places:
    """A scenario's files, by the commands of dvc.yaml."""

    def __init__(self, project: Path, name: str) -> None:
        params = project / "params.yaml"
        scenario_names(read_yaml(params), [name], params)
        self._project, self._name = project, name
        self._stages: dict[str, Any] = read_yaml(project / "dvc.yaml")["stages"]
        self.scenario: Scenario = load_params(ScenarioParams, params, {"scenario": f"scenarios.{name}"}).scenario
        answers = self.scenario.annotation_config()
        if not answers.labelled:
            raise ConfigError(
                f"scenario '{name}' is of task {self.scenario.task}: its images have no class to ask for. Draw"
                f" {plural(answers.noun)} of target images and name them in the column '{answers.noun}' of images.csv"
                " (target_labels: table); the report's label_first.csv lists images to begin with"
            )
        self.file = labels_file(self.path("labels", "labels"), name)
        self.folder = self.path("report", "report").parent / "label"

    def path(self, stage: str, flag: str) -> Path:
        """Returns what a stage is given by a flag."""
        return self._project / stage_path(self._stages, stage, flag, self._name)

    def manifest(self) -> pd.DataFrame:
        """Returns `MANIFEST`.

        Raises:
            DataError: `ingest` has not run.
        """
        path = self.path("ingest", "manifest")
        if not path.is_file():
            raise DataError(f"{path}: no such file. Run 'dvc repro ingest@{self._name}' first")
        return read_table(path, MANIFEST)

    def locations(self) -> pd.DataFrame:
        """Returns `LOCATIONS`."""
        return read_table(self.path("ingest", "locations"), LOCATIONS)

    @property
    def has_asked(self) -> bool:
        """Whether a list was written."""
        return (self.folder / "asked.json").is_file()

    def asked(self) -> dict[str, Purpose]:
        """Returns image -> purpose, of all lists that were written.

        Raises:
            DataError: there is none.
        """
        if not self.has_asked:
            raise DataError(
                f"{self.folder / 'asked.json'}: no such file, so it is not known which images were drawn at random. Run"
                f" 'isthmus label {self._name}' first, which draws the same ones again, then the same command"
            )
        asked: dict[str, Purpose] = read_json(self.folder / "asked.json")
        return asked


def _check_taken(path: Path, given: dict[str, Given], name: str) -> None:
    """Refuses to write over a list in which somebody has answered."""
    if not path.is_file():
        return
    _, lines = read_csv(path, any_dialect=True)
    open_ = [n for n, c in lines if c.get("class", "").strip() and c.get("image_id", "").strip() not in given]
    if open_:
        raise DataError(
            f"{path}: holds {len(open_)} answers that were not taken (first: line {open_[0]}), and would be written"
            f" anew. Run 'isthmus label {name} --take {path}' first, or move the file away"
        )


def _git_user(project: Path) -> str:
    with suppress(StoreError):
        return run_git(project, "config", "user.name")
    return ""
