"""Searches settings of one method by Optuna. Not a stage of the graph: a command of its own.

A trial trains the method with its seeds on the features at hand and is scored without the target's test labels: by the
half of the labels for training that the trial does not see, or by a validator (`evaluation/validators`). The first
trial is `params.yaml` as it stands, so that a search can show that nothing was better. What the guards refuse is
recorded as pruned and never wins.

`out/SCENARIO/tune/METHOD/study.jsonl` is Optuna's journal: a search that was cut off goes on from it, one of other
data, code, ranges or objective begins anew beside it. `trials.csv` lists the trials of the last search. MLflow gets a
run a search and a run a trial, in an experiment of its own.
"""

import copy
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
import pandas as pd
import yaml
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sklearn.model_selection import StratifiedGroupKFold

from isthmus.core import plugins
from isthmus.core.accuracy import balanced_accuracy
from isthmus.core.config import load_params, read_yaml
from isthmus.core.errors import ConfigError, DataError
from isthmus.core.files import write_text
from isthmus.core.locks import flocked
from isthmus.core.progress import log
from isthmus.core.seeds import derive_seed
from isthmus.data.labels.given import GIVEN_LABELS
from isthmus.data.manifest import read_table, write_table
from isthmus.evaluation.guards import TaskGuards
from isthmus.evaluation.selection.candidates import candidate, views_of
from isthmus.evaluation.selection.choice import refusals
from isthmus.evaluation.trained import Samples, open_trained, read_samples
from isthmus.evaluation.validators import Validator
from isthmus.registry.publish.publish import model_name
from isthmus.registry.store.stores import open_store
from isthmus.registry.store.tracking import PART, PUBLICATION, Point
from isthmus.stages import select, train
from isthmus.training_inputs import training_inputs

LABELS = "labels"
WITHOUT_LABELS = "information_maximisation"  # the validator that is used where there are too few labels
_ENOUGH = 10  # labels for training, of which half score
_FACTORS = (10.0, 3.0, 1.5)  # about a setting, the widest that its bounds allow
_LOGARITHMIC = 10.0  # ratio of a range's ends from which it is searched by factors


class Search(NamedTuple):
    """What is asked for.

    Attributes:
        trials: in all, those of an earlier call counted.
        minutes: after which no further trial begins; None: no limit.
        objective: `labels` or a validator; None: labels where there are enough, else a validator.
        ranges: dotted key of params.yaml -> `LOW:HIGH`, or `A,B,C`; none: what `default_ranges` says.
    """

    trials: int
    minutes: float | None = None
    objective: str | None = None
    ranges: Mapping[str, str] = {}


@dataclass(frozen=True)
class Result:
    """What a search found.

    Attributes:
        objective: what scored the trials.
        first: the trial of the settings of `params.yaml`, None where the ranges do not hold them.
        best: the best trial, None where the guards refused all.
        trials: finished in all.
        folder: with `trials.csv` and the journal.
        command: that runs the best settings as an experiment of DVC.
    """

    objective: str
    first: FrozenTrial | None
    best: FrozenTrial | None
    trials: int
    folder: Path
    command: str

    def text(self) -> str:
        """Returns what a person reads."""
        now = "not tried, for the ranges do not hold them"
        if self.first is not None:
            now = "refused by the guards" if self.first.value is None else f"{self.first.value:.4f}"
        head = f"{self.trials} trials, scored by {self.objective}; settings of params.yaml: {now}"
        if self.best is None:
            return f"{head}\nthe guards refused every trial; their reasons: {self.folder / 'trials.csv'}"
        if self.best is self.first:
            return f"{head}\nnothing was better than the settings of params.yaml"
        found = "\n".join(f"  {key}: {_short(value)}" for key, value in self.best.params.items())
        return f"{head}\nbest: {self.best.value:.4f}, trial {self.best.number}\n{found}\nrun it: {self.command}"


def parsed(ranges: Sequence[str]) -> dict[str, str]:
    """Returns `KEY=RANGE` of a command line by key.

    Raises:
        ConfigError: one is not written so.

    >>> parsed(["methods.mcc.weight=0.1:10"])
    {'methods.mcc.weight': '0.1:10'}
    """
    pairs = [text.partition("=") for text in ranges]
    if wrong := ["".join(pair) for pair in pairs if not (pair[0].strip() and pair[2].strip())]:
        raise ConfigError(f"tune: --range {wrong[0]}: must be KEY=LOW:HIGH or KEY=A,B,...")
    return {key.strip(): text.strip() for key, _, text in pairs}


def tune(project: Path, scenario: str, method: str, search: Search) -> Result:
    """Searches and returns what was found.

    Raises:
        ConfigError: an unknown objective, a range that params.yaml does not allow, a task without an objective.
        DataError: too few labels for the objective, or the scenario has no features yet.
    """
    settings = Settings(project / "params.yaml", scenario, method)
    paths = training_inputs(project, scenario, method)
    samples = read_samples(paths["manifest"], paths["prepared"])
    ranges = settings.ranges(search.ranges) if search.ranges else settings.default_ranges()
    labels = read_table(paths["labels_train"], GIVEN_LABELS)
    objective = _objective(search.objective, len(labels), settings)
    folder = paths["trained"].parent.parent / "tune" / method
    folder.mkdir(parents=True, exist_ok=True)
    inputs = {name: paths[name] for name in ("manifest", "prepared", "features", "labels_train")}
    asked = {"objective": objective, "ranges": {key: repr(value) for key, value in ranges.items()}}
    name = train.key_of_run(asked | {"method": method, "settings": settings.facts()}, **inputs)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    halves = _labels(paths, labels, samples, objective, settings.seed)
    with flocked(folder / "lock", patience=1.0), halves as (seen, held):
        storage = JournalStorage(JournalFileBackend(str(folder / "study.jsonl")))
        study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True, direction="maximize")
        for cut_off in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(cut_off.number, state=TrialState.FAIL)
        if not study.trials:
            now = {key: settings.value(key) for key in ranges}
            study.set_user_attr("begins", all(_holds(ranges[key], value) for key, value in now.items()))
            if study.user_attrs["begins"]:
                study.enqueue_trial(now)
        done = _finished(study)
        if done:
            log(f"tune: {len(done)} trials are left from an earlier call")
        study.sampler = optuna.samplers.TPESampler(seed=derive_seed(settings.seed, "tune", len(done)) % 2**32)
        record = _Record(project, settings, objective, ranges, name)
        record.log(study)
        end = math.inf if search.minutes is None else time.monotonic() + 60 * search.minutes
        for _ in range(search.trials - len(done)):
            if time.monotonic() >= end:
                break
            trial = study.ask(ranges)
            value = _trial(trial, settings, paths | {"labels_train": seen}, samples, objective, held)
            study.tell(trial, value, TrialState.PRUNED if value is None else TrialState.COMPLETE)
            record.log(study)
    done = _finished(study)
    study.trials_dataframe().to_csv(folder / "trials.csv", index=False)
    scored = [trial for trial in done if trial.value is not None]
    best = max(scored, key=lambda trial: (trial.value, -trial.number), default=None)
    record.end(folder / "trials.csv")
    first = next((trial for trial in done if trial.number == 0 and study.user_attrs["begins"]), None)
    return Result(objective, first, best, len(done), folder, settings.command(best.params) if best else "")


class Settings:
    """params.yaml, with other values at some of its keys."""

    def __init__(self, path: Path, scenario: str, method: str) -> None:
        self._path, self._document = path, read_yaml(path)
        self.scenario, self.method = scenario, method
        self._sections = {
            field: place.format(scenario=scenario, method=method) for field, place in train.Params.SECTIONS.items()
        }
        self.base = load_params(train.Params, path, self._sections)
        self.seed = self.base.seed
        self.select = load_params(
            select.Params, path, {"scenario": select.Params.SECTIONS["scenario"].format(scenario=scenario)}
        ).select
        self._model = f"models.{self.base.scenario.model}"

    def facts(self) -> dict[str, Any]:
        """Returns what `train` would read of params.yaml as it stands."""
        return self.base.model_dump(mode="json")

    def value(self, key: str) -> Any:
        """Returns the value of a key as it stands: of params.yaml, else the default; None where it has none."""
        owner: Any = self.base.method if key.startswith("methods.") else self.base.model
        for part in key.split(".")[2:]:
            owner = owner.get(part) if isinstance(owner, dict) else getattr(owner, part, None)
        return owner

    def ranges(self, given: Mapping[str, str]) -> dict[str, BaseDistribution]:
        """Returns the ranges of a person, each end of which `train` must accept."""
        allowed = (f"methods.{self.method}.", f"{self._model}.")
        found = {}
        for key, text in given.items():
            if not key.startswith(allowed):
                raise ConfigError(f"tune: --range {key}: is not searched. Allowed: keys under {' and '.join(allowed)}")
            found[key] = _distribution(key, text)
            for value in _ends(found[key]):
                self.with_values({key: value})
        return found

    def default_ranges(self) -> dict[str, BaseDistribution]:
        """Returns the learning rate and every positive option of the method, a tenth to ten times what they are."""
        options = {
            f"methods.{self.method}.{name}": value
            for name, value in self.base.method.model_dump(mode="python").items()
            if isinstance(value, float) and value > 0
        }
        options[f"{self._model}.learning_rate"] = self.base.model.learning_rate
        found: dict[str, BaseDistribution] = {}
        for key, value in options.items():
            for factor in _FACTORS:
                ends = FloatDistribution(value / factor, value * factor, log=True)
                if all(self._allowed({key: end}) for end in _ends(ends)):
                    found[key] = ends
                    break
        return found

    def with_values(self, values: Mapping[str, Any]) -> train.Params:
        """Returns what `train` reads, with other values at these keys.

        Raises:
            ConfigError: a value is not allowed there.
        """
        document = copy.deepcopy(self._document)
        for key, value in values.items():
            node, *sections, last = document, *key.split(".")
            for part in sections:
                if not isinstance(node.setdefault(part, {}), dict | None):
                    raise ConfigError(f"tune: {key}: '{part}' of params.yaml has no options below it")
                node[part] = node[part] or {}
                node = node[part]
            node[last] = value
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "params.yaml"
            write_text(path, yaml.safe_dump(document))
            try:
                return load_params(train.Params, path, self._sections)
            except ConfigError as error:
                raise ConfigError(str(error).replace(str(path), "tune: params.yaml")) from None

    def _allowed(self, values: Mapping[str, Any]) -> bool:
        try:
            self.with_values(values)
        except ConfigError:
            return False
        return True

    def validator(self, name: str) -> Validator:
        """Returns a validator, with its options of `select.validators` where it stands there."""
        config = self.select.validators.get(name) or plugins.load("evaluation.validators", name).Config()
        built: Validator = config.build()
        return built

    def command(self, values: Mapping[str, Any]) -> str:
        """Returns the command that runs values as an experiment; a key that params.yaml does not hold has a +."""
        words = []
        for key, value in values.items():
            node: Any = self._document
            for part in key.split("."):
                node = node.get(part) if isinstance(node, dict) else None
            words.append(f"-S '{'+' if node is None else ''}{key}={_short(value)}'")
        return f"dvc exp run {' '.join(words)} report@{self.scenario}"


def _distribution(key: str, text: str) -> BaseDistribution:
    low, colon, high = text.partition(":")
    ends = [yaml.safe_load(end) for end in ((low, high) if colon else text.split(","))]
    if not colon and len(ends) > 1:
        return CategoricalDistribution(ends)
    ends = [float(end) if isinstance(end, str) and _is_number(end) else end for end in ends]  # YAML's 1e-4 is a text
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
    if len(ends) < 2 or not numbers or ends[0] >= ends[1]:
        raise ConfigError(f"tune: --range {key}={text}: must be LOW:HIGH, two numbers, the lower first, or A,B,...")
    logarithmic = ends[0] > 0 and ends[1] / ends[0] >= _LOGARITHMIC
    if all(isinstance(end, int) for end in ends):
        return IntDistribution(ends[0], ends[1], log=logarithmic)
    return FloatDistribution(ends[0], ends[1], log=logarithmic)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _holds(allowed: BaseDistribution, value: Any) -> bool:
    ends = _ends(allowed)
    return value in ends if isinstance(allowed, CategoricalDistribution) else ends[0] <= (value or 0) <= ends[1]


def _ends(allowed: BaseDistribution) -> list[Any]:
    if isinstance(allowed, CategoricalDistribution):
        return list(allowed.choices)
    assert isinstance(allowed, FloatDistribution | IntDistribution)
    return [allowed.low, allowed.high]


def _objective(wanted: str | None, labels: int, settings: Settings) -> str:
    """Returns what scores the trials.

    Raises:
        ConfigError: it is not known, or the task has none.
        DataError: there are too few labels for it.
    """
    task = settings.base.scenario.task
    if task != "classification":
        raise ConfigError(
            f"tune: scenario '{settings.scenario}' has task {task}, whose settings nothing scores without labels."
            " Allowed: scenarios of task classification"
        )
    known = [LABELS, *plugins.names("evaluation.validators")]
    if wanted is not None and wanted not in known:
        hint = plugins.did_you_mean(wanted, known)
        raise ConfigError(f"tune: --objective {wanted}: unknown.{hint} Allowed: {', '.join(known)}")
    if wanted == LABELS and labels < _ENOUGH:
        raise DataError(
            f"tune: --objective {LABELS}: needs {_ENOUGH} target labels for training, half of which score (got"
            f" {labels}). Run 'isthmus label {settings.scenario}', take the answers and run the scenario again"
        )
    return wanted or (LABELS if labels >= _ENOUGH else WITHOUT_LABELS)


@contextmanager
def _labels(
    paths: Mapping[str, Path], given: pd.DataFrame, samples: Samples, objective: str, seed: int
) -> Iterator[tuple[Path, dict[str, int]]]:
    """Yields the labels that training may see, as a file, and those that score: two halves apart by group."""
    if objective != LABELS:
        yield paths["labels_train"], {}
        return
    group = dict(zip(samples.image_id, samples.group, strict=True))
    given = given[given["image_id"].isin(group)].reset_index(drop=True)
    twice = given.groupby("label")["label"].transform("size") >= 2  # a class with one label: training has it
    if given.loc[twice, "label"].nunique() < 2:
        raise DataError(
            f"tune: the {len(given)} target labels for training cannot be halved: fewer than two classes have two of"
            " them. Label more images, or set --objective to a validator"
        )
    halves = StratifiedGroupKFold(2, shuffle=True, random_state=derive_seed(seed, "tune", "labels") % 2**32)
    divided = given[twice]
    _, scoring = next(halves.split(divided, divided["label"], [group[image_id] for image_id in divided["image_id"]]))
    held = divided.iloc[scoring]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "labels_train.parquet"
        write_table(file, given.drop(held.index), GIVEN_LABELS)
        yield file, dict(zip(held["image_id"], held["label"].astype(int), strict=True))


def _trial(
    trial: optuna.Trial,
    settings: Settings,
    paths: Mapping[str, Path],
    samples: Samples,
    objective: str,
    held: Mapping[str, int],
) -> float | None:
    """Trains and scores one trial; None where the guards refuse what it trained."""
    params, scenario = settings.with_values(trial.params), settings.base.scenario
    log(f"tune: trial {trial.number}: {', '.join(f'{key} {_short(value)}' for key, value in trial.params.items())}")
    with tempfile.TemporaryDirectory(dir=paths["trained"].parent.parent / "tune") as folder:
        trained = Path(folder) / "train" / settings.method
        train.run(
            params,
            scenario=settings.scenario,
            method=settings.method,
            **{key: paths[key] for key in ("manifest", "prepared", "features", "labels_train")},
            checkpoints=Path(folder) / "checkpoints",
            trained=trained,
        )
        run = open_trained(trained.parent, [settings.method], scenario.classes, len(samples.label))[settings.method]
        guards: TaskGuards = plugins.load("evaluation.guards", scenario.task).Guards()
        views = views_of(samples, scenario.source, scenario.target, settings.select.max_images)
        validators = {} if objective == LABELS else {objective: settings.validator(objective)}
        measured = candidate(run, views, validators, guards, settings.select.significance)
        logits = run.all_logits(run.facts.epochs[-1])
    trial.set_user_attr("source_val_accuracy", measured.source_val_accuracy)
    trial.set_user_attr("refused", "; ".join(refusals(measured).values()))
    if trial.user_attrs["refused"]:
        return None
    return _accuracy(logits, samples, held) if objective == LABELS else measured.scores[objective]


def _accuracy(logits: NDArray[np.float32], samples: Samples, held: Mapping[str, int]) -> float:
    """Returns the mean over seeds of the balanced accuracy on the labels that score."""
    rows = np.flatnonzero(np.isin(samples.image_id, list(held)))
    labels = np.array([held[image_id] for image_id in samples.image_id[rows]])
    return float(np.mean([balanced_accuracy(plane[rows].argmax(axis=1), labels) for plane in logits]))


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


class _Record:
    """A search in MLflow: a run of its own with a run a trial below; what is there is not written again."""

    def __init__(
        self, project: Path, settings: Settings, objective: str, ranges: Mapping[str, BaseDistribution], name: str
    ) -> None:
        self._store = open_store(project, make=True)
        self._experiment = self._store.experiment(f"{model_name(settings.scenario)}-tune")
        self._tags = {PUBLICATION: f"tune/{name}", "isthmus.method": settings.method, "isthmus.objective": objective}
        self._runs = self._store.runs_of(self._experiment, self._tags[PUBLICATION])
        self._title = f"{settings.scenario}: {settings.method} by {objective}"
        self._ranges = {f"range of {key}": _range_text(allowed) for key, allowed in ranges.items()}

    def log(self, study: optuna.Study) -> None:
        """Writes the trials that are not there yet."""
        if "search" not in self._runs:
            started = int(1000 * time.time())
            self._runs["search"] = self._store.start_run(
                self._experiment, self._title, started, self._tags | {PART: "search"}
            )
            self._store.log(self._runs["search"], started, self._ranges, [])
        best = None
        for trial in _finished(study):
            if trial.value is not None:
                best = trial.value if best is None else max(best, trial.value)
            if (part := f"trial {trial.number}") in self._runs:
                continue
            assert trial.datetime_start is not None
            started = int(1000 * trial.datetime_start.timestamp())
            tags = self._tags | {PART: part, "isthmus.refused": trial.user_attrs.get("refused", "")}
            run = self._store.start_run(self._experiment, part, started, tags, self._runs["search"])
            points = [Point("source_val_accuracy", trial.user_attrs["source_val_accuracy"], 0)]
            points += [] if trial.value is None else [Point("objective", trial.value, 0)]
            self._store.log(run, started, {key: str(value) for key, value in trial.params.items()}, points)
            self._store.end_run(run)
            curve = [] if trial.value is None else [Point("objective", trial.value, trial.number)]
            curve += [] if best is None else [Point("best", best, trial.number)]
            self._store.log(self._runs["search"], started, {}, curve)
            self._runs[part] = run

    def end(self, trials: Path) -> None:
        """Ends the run of the search, with its table beside it."""
        self._store.log_file(self._runs["search"], trials)
        self._store.end_run(self._runs["search"])


def _range_text(allowed: BaseDistribution) -> str:
    ends = _ends(allowed)
    return ", ".join(map(str, ends)) if isinstance(allowed, CategoricalDistribution) else f"{ends[0]} to {ends[1]}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
