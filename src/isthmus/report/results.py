"""Everything the stages of one scenario wrote, read once for the report and the model card."""

import ast
import importlib.util
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from isthmus.core import plugins
from isthmus.core.errors import DataError
from isthmus.core.files import read_json
from isthmus.data.manifest import INDEX, MANIFEST, read_table
from isthmus.data.scenario import Scenario
from isthmus.evaluation.selection.choice import ENSEMBLE


@dataclass(frozen=True)
class Scored:
    """How the answers of a task are scored, and what its files hold.

    Attributes:
        metric: key of a method in `truth.json` by which methods are compared, and `name` of it in words.
        second: key of the second score.
        occurs: key of a class in `truth.json` that is zero where the truth does not hold it.
        unit: what is right or wrong.
        collapse: what is seen of a model whose answers on the target collapsed; `collapsed` what it does, `worth` why
            it is of no use.
        not_learned: what a model does that has not learned the source.
        truth: keys that must be there; `trust` and `predictions` likewise.
    """

    metric: str
    name: str
    second: str
    occurs: str
    unit: Literal["image", "pixel", "box"]
    truth: tuple[str, ...]
    trust: tuple[str, ...]
    predictions: tuple[str, ...]
    collapse: str = "Over 99% of them get one class"
    collapsed: str = "gives nearly all target images the same answer"
    worth: str = "its answer does not depend on the image"
    not_learned: str = "is not shown to tell the classes apart better than by chance"

    @property
    def heading(self) -> str:
        """The name of the score at the beginning of a sentence."""
        return f"{self.name[0].upper()}{self.name[1:]}"


_CHOICE_KEYS = ("scenario", "chosen", "epochs", "candidates", "guards", "validators", "average", "ensemble")
_TRUTH_KEYS = ("available", "chosen", "methods", "oracle", "regret", "classes", "count", "groups", "intervals")
_SHIFT_KEYS = ("pairs", "control", "zscored", "advice", "images", "map", "label_shift", "transferability")
_PREDICTION_COLUMNS = ("image_id", "domain", "split", "confidence")
CLASSES = Scored(
    metric="balanced_accuracy",
    name="balanced accuracy",
    second="accuracy",
    occurs="count",
    unit="image",
    truth=(*_TRUTH_KEYS, "trust", "class_shift", "leep"),
    trust=("alarms", "shift", "temperature", "calibration", "conformal", "estimate"),
    predictions=(*_PREDICTION_COLUMNS, "predicted"),
)
ANOMALY = replace(
    CLASSES,
    metric="auroc",
    name="AUROC",
    second="balanced_accuracy",
    truth=(*CLASSES.truth, "anomaly"),
    collapse="More than half of those of the training split are called defective",
    collapsed="calls most target images defective",
    worth="alarms raised by most images point to no defect",
    not_learned="raises alarms at defects less often than at good images",
)
MASKS = Scored(
    metric="mean_iou",
    name="mean IoU",
    second="pixel_accuracy",
    occurs="true_share",
    unit="pixel",
    truth=(*_TRUTH_KEYS, "pixels"),
    trust=("alarms", "temperature", "estimate"),
    predictions=(*_PREDICTION_COLUMNS, "shares", "mean_iou"),
    collapse="Nearly all of their pixels get one class",
)
BOXES = Scored(
    metric="ap50",
    name="AP50",
    second="ap",
    occurs="boxes",
    unit="box",
    truth=(*_TRUTH_KEYS, "boxes", "threshold"),
    trust=("alarms", "threshold", "estimate"),
    predictions=(*_PREDICTION_COLUMNS, "counts", "ap50"),
    collapse="Nearly all of their cells get one class",
)


@dataclass(frozen=True)
class Findings:
    """The files of one scenario, as `docs/contracts.md` describes them.

    Attributes:
        simulated: the images come from a generator, not from a camera.
        points: columns `image_id, x, y, tsne_x, tsne_y`: the 2-D maps of features.
        runs: method -> `run.json`, for what `select` compared; the ensemble's says what it is the mean of.
        curves: trained method -> one list of epochs a seed.
    """

    name: str
    scenario: Scenario
    simulated: bool
    facts: dict[str, Any]
    audit: dict[str, Any]
    quarantine: list[dict[str, Any]]
    manifest: pd.DataFrame
    index: pd.DataFrame
    shift: dict[str, Any]
    points: pd.DataFrame
    runs: dict[str, dict[str, Any]]
    curves: dict[str, list[list[dict[str, Any]]]]
    choice: dict[str, Any]
    metrics: dict[str, float]
    truth: dict[str, Any]
    trust: dict[str, Any]
    predictions: pd.DataFrame
    scored: Scored

    @property
    def labelled(self) -> bool:
        """True where target labels exist, so that `truth` holds numbers."""
        return bool(self.truth["available"])

    @property
    def read_labels(self) -> bool:
        """True where the evaluation read labels of the target's test split, be there a score or not."""
        return self.labelled or "anomaly" in self.truth

    @property
    def unscored(self) -> str:
        """Why there is no score on the target's test split, as the beginning of a sentence."""
        if "anomaly" in self.truth:
            found = self.truth["anomaly"]
            seen = f"{found['good']} good and {found['defective']} defective"
            return f"A score needs labelled images of both kinds, and the target's test split has {seen} ones"
        noun = {"image": "labels", "pixel": "masks", "box": "boxes"}[self.scored.unit]
        where = "The target's test split" if self.target_labels else "The target"
        return f"{where} has no {noun}"

    @property
    def target_labels(self) -> int:
        """Labelled target images that the chosen model was trained with."""
        return int(self.runs[self.choice["chosen"]["method"]].get("target_labels", 0))

    @property
    def absent(self) -> list[str]:
        """Classes that the truth of the target's test split does not hold; none without labels."""
        if not self.labelled:
            return []
        rows = self.truth["methods"][self.truth["chosen"]]["per_class"]
        return [name for name, row in rows.items() if not row[self.scored.occurs]]


def read_findings(
    scenario: Scenario,
    *,
    manifest: Path,
    audit: Path,
    quarantine: Path,
    prepared: Path,
    shift: Path,
    trained: Path,
    choice: Path,
    metrics: Path,
    truth: Path,
    trust: Path,
    predictions: Path,
    scored: Scored,
) -> Findings:
    """Reads all files of a scenario, whose task is scored so.

    Raises:
        DataError: a file is missing, broken, or lacks a key or a column.
    """
    chosen = _keyed(choice, _CHOICE_KEYS)
    # A folder of a dropped method may still lie in `trained`; the ensemble has none.
    methods = sorted(name for name in chosen["epochs"] if name != ENSEMBLE)
    available = _keyed(truth, ("available",))
    return Findings(
        name=chosen["scenario"],
        scenario=scenario,
        simulated=is_simulated(scenario),
        facts=_keyed(prepared / "facts.json", ("classes", "domains", "quarantine")),
        audit=read_json(audit),
        quarantine=read_json(quarantine),
        manifest=read_table(manifest, MANIFEST),
        index=read_table(prepared / "index.parquet", INDEX),
        shift=_keyed(shift / "shift.json", _SHIFT_KEYS),
        points=_columns(shift / "map.parquet", ("image_id", "x", "y", "tsne_x", "tsne_y")),
        runs=_runs(trained, methods, chosen),
        curves={method: _curves(trained / method) for method in methods},
        choice=chosen,
        metrics=read_json(metrics),
        truth=_keyed(truth, scored.truth) if available["available"] else available,
        trust=_keyed(trust, scored.trust),
        predictions=_columns(predictions, scored.predictions),
        scored=scored,
    )


def is_simulated(scenario: Scenario) -> bool:
    """Says whether a scenario's raw folder is written by a generator.

    `simulate` writes `data/raw/<pair>`; the docstring of a pair that is made up begins with 'Simulated'. It is
    read from the source text: importing a pair may need packages that the report does not.
    """
    if scenario.raw.name not in plugins.names("data.pairs"):
        return False
    spec = importlib.util.find_spec(f"isthmus.data.pairs.{scenario.raw.name}")
    assert spec is not None and spec.origin is not None
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    return (docstring or "").lower().startswith("simulated")


def _keyed(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    document = read_json(path)
    there = sorted(document) if isinstance(document, dict) else []
    if missing := [key for key in keys if key not in there]:
        raise DataError(
            f"{path}: key '{missing[0]}' is missing. There are: {', '.join(there) or 'none'}."
            " It was written by another version: run 'dvc repro' again"
        )
    assert isinstance(document, dict)
    return document


def _columns(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        frame: pd.DataFrame = pq.read_table(path).to_pandas()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: cannot be read ({error}). Run 'dvc repro' to write it again") from None
    if missing := [column for column in columns if column not in frame.columns]:
        raise DataError(
            f"{path}: column '{missing[0]}' is missing. There are: {', '.join(map(str, frame.columns))}."
            " It was written by another version: run 'dvc repro' again"
        )
    return frame


def extended_epochs(runs: dict[str, dict[str, Any]]) -> str:
    """Returns why there are more epochs than the model's settings name; empty where there are not.

    Args:
        runs: method -> its `run.json`.

    >>> mcc = {"epochs": [63, 125], "config": {"model": {"epochs": 20, "min_steps": 500}}}
    >>> extended_epochs({"mcc": mcc})
    'epochs: 20 in params.yaml became 125, so that training has at least min_steps: 500 steps.'
    >>> extended_epochs({"mcc": mcc, "shot": mcc | {"epochs": [125, 250]}})[33:79]
    '125 (shot: 250, in phases), so that each phase'
    >>> extended_epochs({"mcc": mcc | {"epochs": [10, 20]}})
    ''
    """
    settings = next(iter(runs.values()))["config"]["model"]
    last = {name: run["epochs"][-1] for name, run in runs.items()}
    least = min(last.values())
    if least <= settings["epochs"]:
        return ""
    more = ", ".join(f"{name}: {epoch}" for name, epoch in last.items() if epoch > least and name != ENSEMBLE)
    became = f"{least} ({more}, in phases)" if more else str(least)
    what = "each phase" if more else "training"
    return (
        f"epochs: {settings['epochs']} in params.yaml became {became}, so that {what} has at least"
        f" min_steps: {settings['min_steps']} steps."
    )


def _runs(trained: Path, methods: list[str], choice: dict[str, Any]) -> dict[str, dict[str, Any]]:
    runs = {method: read_json(trained / method / "run.json") for method in methods}
    if not choice["ensemble"]:
        return runs
    of = {method: runs[method] for method in choice["ensemble"]}
    first = next(iter(of.values()))
    return runs | {
        ENSEMBLE: first
        | {
            "method": ENSEMBLE,
            "sees_target": any(run["sees_target"] for run in of.values()),
            "optimises": sorted({name for run in of.values() for name in run["optimises"]}),
            "epochs": [choice["epochs"][ENSEMBLE]],
            "config": first["config"] | {"method": {"mean_of_probabilities": choice["ensemble"]}},
        }
    }


def _curves(folder: Path) -> list[list[dict[str, Any]]]:
    seeds = sorted((folder / "seeds").iterdir(), key=lambda path: int(path.name)) if (folder / "seeds").is_dir() else []
    return [
        [json.loads(line) for line in (seed / "curves.jsonl").read_text(encoding="utf-8").splitlines()]
        for seed in seeds
    ]
