"""Evaluates the chosen model. The only stage that opens the target's labels, after `select` has chosen.

Writes
- `metrics.json`: flat numbers that need no target label: accuracy and balanced accuracy of the chosen candidate and
  of source-only on the source's splits (means over seeds), effective classes, confidence and disagreement of seeds on
  the target's test split, counts, the chosen epoch;
- `truth.json`: every method at its epoch against the target's labels, with paired intervals and the regret, or
  `{"available": false}`; target images whose labels contradict each other are dropped and counted; `measured`, where a
  person labelled images drawn at random: their accuracy with its interval, of the chosen model and of source-only;
- `trust.json`: uncertainty and calibration of the chosen model without target labels: temperatures, calibration on
  source test, conformal sets, weights for the target, estimated target accuracy or why there is none; its flat numbers
  are in `metrics.json`, the same measured with labels in `truth.json`;
- `predictions.parquet` (`PREDICTIONS`): every prepared image, the chosen candidate, the seed that ships.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from isthmus.core.config import Config
from isthmus.core.errors import DataError
from isthmus.core.files import read_json, write_json
from isthmus.core.seeds import derive_seed
from isthmus.data.labels.given import GIVEN_LABELS
from isthmus.data.manifest import TARGET_LABELS, read_table, write_table
from isthmus.data.scenario import Scenario
from isthmus.evaluation.confidence.alarms import Alarms, raise_alarms
from isthmus.evaluation.confidence.calibrated import TrustConfig, judged
from isthmus.evaluation.confidence.measured import measured_on
from isthmus.evaluation.confidence.trust import averaged, build_trust, flat, trust_against_labels
from isthmus.evaluation.metrics import softmax
from isthmus.evaluation.scoring.predict import PREDICTIONS, label_free_numbers, predictions_table
from isthmus.evaluation.scoring.transferability import know_nothing, leep
from isthmus.evaluation.scoring.truth import build_truth
from isthmus.evaluation.selection.choice import ENSEMBLE, SOURCE_ONLY
from isthmus.evaluation.selection.ensemble import open_compared
from isthmus.evaluation.shift.class_shift import class_shift
from isthmus.evaluation.trained import UNKNOWN, Samples, Trained, read_samples
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
    trained: Path,
    choice: Path,
    shift: Path,
    truth: Path,
    trust: Path,
    predictions: Path,
    metrics: Path,
) -> None:
    """Reads the choice, joins the labels, writes trust, truth, predictions and, last, metrics."""
    scenario = params.scenario
    made = read_json(choice)
    among = [name for name in made["epochs"] if name != ENSEMBLE]
    if set(among) != set(params.methods):
        raise DataError(
            f"{choice}: was made among {', '.join(among)}; params.yaml: methods names"
            f" {', '.join(sorted(params.methods))}. Run 'dvc repro' to choose again"
        )
    samples = read_samples(manifest, prepared)
    runs = open_compared(trained, made, scenario.classes, len(samples.label))
    labels, contradicting = _join_labels(samples, labels_target, scenario.target)
    chosen = runs[made["chosen"]["method"]]
    seed = derive_seed(params.seed, "trust")
    model = judged(chosen, made["chosen"], samples, scenario.source, scenario.target, params.evaluate)
    believed = build_trust(model, samples, scenario.source, averaged(made, runs), params.evaluate, seed)
    believed["alarms"] = _alarms(model.logits, samples, scenario, made, read_json(shift / "shift.json"))
    write_json(trust, believed)
    body = _truth(params, made, runs, samples, labels, contradicting)
    if body["available"]:
        known = model.target_test[labels[model.target_test] != UNKNOWN]
        body["trust"] = trust_against_labels(model, samples, labels, known, believed, params.evaluate, seed)
        body |= _transfer(params, made, runs, samples, labels, known)
    if measured := _measured(labels_measure, samples, scenario.target, made, runs):
        body["measured"] = measured
    write_json(truth, body)
    logits = chosen.logits(made["chosen"]["seed"], made["chosen"]["epoch"])
    write_table(predictions, predictions_table(samples, logits, labels), PREDICTIONS)
    numbers = label_free_numbers(made, chosen, runs[SOURCE_ONLY], samples, scenario)
    write_json(metrics, numbers | flat(believed))


def _alarms(
    logits: NDArray[np.float32], samples: Samples, scenario: Scenario, made: dict[str, Any], shift: dict[str, Any]
) -> Alarms:
    source, target = samples.rows(scenario.source, "val"), samples.rows([scenario.target], "train")
    predicted, classes = logits.argmax(axis=2), len(scenario.classes)
    return raise_alarms(
        predicted[:, source], samples.label[source], predicted[:, target], classes, made["guards"], shift
    )


def _truth(
    params: Params,
    made: dict[str, Any],
    runs: dict[str, Trained],
    samples: Samples,
    labels: NDArray[np.int64],
    contradicting: NDArray[np.bool_],
) -> dict[str, Any]:
    test = samples.rows([params.scenario.target], "test")
    known = test[labels[test] != UNKNOWN]
    if not len(known):
        return {"available": False}
    epochs: dict[str, int] = made["epochs"]
    body = build_truth(
        {method: run.all_logits(epochs[method]).argmax(axis=2)[:, known] for method, run in runs.items()},
        epochs,
        labels[known],
        samples.group[known],
        params.scenario.classes,
        made["chosen"]["method"],
        params.evaluate.bootstrap,
        derive_seed(params.seed, "bootstrap"),
    )
    dropped = int(contradicting[test].sum())
    return body | {"labels_contradicting": dropped, "labels_missing": len(test) - len(known) - dropped}


def _transfer(
    params: Params,
    made: dict[str, Any],
    runs: dict[str, Trained],
    samples: Samples,
    labels: NDArray[np.int64],
    known: NDArray[np.int64],
) -> dict[str, Any]:
    """Returns how far the classes lie apart, and how well source heads carry to the target's labels (LEEP).

    Of source-only and of the chosen method, the seed that ships; the space after the bottleneck, test splits.
    """
    shown = sorted({SOURCE_ONLY, made["chosen"]["method"]})
    places = {method: (made["chosen"]["seed"], made["epochs"][method]) for method in shown}
    test, seed = samples.rows(params.scenario.source, "test"), derive_seed(params.seed, "class_shift")
    shift = {}
    for method, place in places.items():
        seen = runs[method].embeddings(*place)
        classes = params.scenario.classes
        shift[method] = class_shift(seen[test], labels[test], seen[known], labels[known], classes, seed)
    carried = {m: leep(softmax(runs[m].logits(*place)[known]), labels[known]) for m, place in places.items()}
    return {"class_shift": shift, "leep": {"know_nothing": know_nothing(labels[known]), "methods": carried}}


def _measured(
    labels_measure: Path, samples: Samples, target: str, made: dict[str, Any], runs: dict[str, Trained]
) -> dict[str, Any] | None:
    """Returns how the seed that ships answers the labelled random images; None where there are none."""
    methods = sorted({SOURCE_ONLY, made["chosen"]["method"]})
    predicted = {m: runs[m].logits(made["chosen"]["seed"], made["epochs"][m]).argmax(axis=1) for m in methods}
    return measured_on(read_table(labels_measure, GIVEN_LABELS), samples, target, predicted)


def _join_labels(samples: Samples, labels_target: Path, target: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    table = read_table(labels_target, TARGET_LABELS)
    by_image = table.groupby("image_id")["label"]
    unanimous = by_image.nunique() == 1
    label = by_image.first()[unanimous].reindex(samples.image_id).fillna(UNKNOWN).to_numpy(dtype=np.int64)
    here = samples.domain == target
    contradicting = here & np.isin(samples.image_id, unanimous.index[~unanimous].to_numpy(dtype=object))
    return np.where(here, label, samples.label), contradicting


if __name__ == "__main__":
    stage(run)
