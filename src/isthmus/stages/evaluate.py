"""Evaluates the chosen model. The only stage that opens the target's labels, after `select` has chosen.

What is measured is the task's own (`evaluation/tasks/`). Writes
- `metrics.json`: flat numbers that need no target label: scores of the chosen candidate and of source-only on the
  source's splits (means over seeds), confidence and disagreement of seeds on the target's test split, counts, the
  chosen epoch;
- `truth.json`: every method at its epoch against the target's labels, with paired intervals and the regret, or
  `{"available": false}`; of classes: target images whose labels contradict each other are dropped and counted;
  `measured`, where a person labelled images drawn at random: their accuracy with its interval, of the chosen model and
  of source-only;
- `trust.json`: uncertainty and calibration of the chosen model without target labels: temperatures, alarms, and of
  classes: calibration on source test, conformal sets, weights for the target, estimated target accuracy or why there is
  none; its flat numbers are in `metrics.json`, the same measured with labels in `truth.json`;
- `predictions.parquet`: every prepared image, the chosen candidate, the seed that ships.
"""

from pathlib import Path
from typing import Any, ClassVar

from isthmus.core import plugins
from isthmus.core.config import Config
from isthmus.core.errors import DataError
from isthmus.core.files import read_json, write_json
from isthmus.data.manifest import write_table
from isthmus.data.scenario import Scenario
from isthmus.evaluation.confidence.calibrated import TrustConfig
from isthmus.evaluation.selection.choice import ENSEMBLE
from isthmus.evaluation.tasks import Evaluated, EvaluationInputs
from isthmus.stages._cli import stage


class Params(Config):
    """Sections of `params.yaml` that this stage reads; of `methods` only the names matter."""

    SECTIONS: ClassVar[dict[str, str]] = {"scenario": "scenarios.{scenario}"}

    scenario: Scenario
    methods: dict[str, Any]
    evaluate: TrustConfig
    seed: int


def run(
    params: Params,
    *,
    manifest: Path,
    prepared: Path,
    labels_target: Path,
    labels_measure: Path,
    labels_train: Path,
    masks_target: Path,
    trained: Path,
    choice: Path,
    shift: Path,
    truth: Path,
    trust: Path,
    predictions: Path,
    metrics: Path,
) -> None:
    """Reads the choice, joins the labels, writes trust, truth, predictions and, last, metrics."""
    made = read_json(choice)
    among = [name for name in made["epochs"] if name != ENSEMBLE] + made.get("left_out", [])
    if set(among) != set(params.methods):
        raise DataError(
            f"{choice}: was made among {', '.join(among)}; params.yaml: methods names"
            f" {', '.join(sorted(params.methods))}. Run 'dvc repro' to choose again"
        )
    inputs = EvaluationInputs(
        params.scenario, sorted(params.methods), params.evaluate, params.seed, manifest, prepared, labels_target,
        labels_measure, labels_train, masks_target, trained, choice, shift,
    )  # fmt: skip
    done: Evaluated = plugins.load("evaluation.tasks", params.scenario.task).Evaluation().evaluate(inputs)
    write_json(trust, done.trust)
    write_json(truth, done.truth)
    write_table(predictions, done.predictions, done.schema)
    write_json(metrics, done.metrics)


if __name__ == "__main__":
    stage(run)
