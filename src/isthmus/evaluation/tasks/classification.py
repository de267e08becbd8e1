"""One class an image: balanced accuracy, calibration, conformal sets, estimated accuracy."""

from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.core.files import read_json
from isthmus.core.seeds import derive_seed
from isthmus.data.labels.given import GIVEN_LABELS
from isthmus.data.manifest import TARGET_LABELS, read_table
from isthmus.data.scenario import Scenario
from isthmus.evaluation.confidence.alarms import Alarms, raise_alarms
from isthmus.evaluation.confidence.calibrated import judged
from isthmus.evaluation.confidence.measured import measured_on
from isthmus.evaluation.confidence.trust import averaged, build_trust, flat, trust_against_labels
from isthmus.evaluation.guards import TaskGuards, classification
from isthmus.evaluation.metrics import softmax
from isthmus.evaluation.scoring.predict import PREDICTIONS, label_free_numbers, predictions_table
from isthmus.evaluation.scoring.transferability import know_nothing, leep
from isthmus.evaluation.scoring.truth import build_truth
from isthmus.evaluation.selection.choice import SOURCE_ONLY
from isthmus.evaluation.selection.ensemble import open_compared
from isthmus.evaluation.shift.class_shift import class_shift
from isthmus.evaluation.tasks import Evaluated, EvaluationInputs, TaskEvaluation
from isthmus.evaluation.trained import UNKNOWN, Samples, Trained, read_samples


class Compared(NamedTuple):
    """What methods are compared on.

    Attributes:
        inputs: of `evaluate`.
        made: `choice.json`.
        runs: what is compared.
        labels: int64 `[N]`, `UNKNOWN` where there is none.
        groups: `[N]`.
        rows: labelled images of the target's test split.
    """

    inputs: EvaluationInputs
    made: dict[str, Any]
    runs: dict[str, Trained]
    labels: NDArray[np.int64]
    groups: NDArray[Any]
    rows: NDArray[np.int64]


class Evaluation(TaskEvaluation):
    """Of classes of images."""

    guards: ClassVar[TaskGuards] = classification.Guards()

    def scored(self, body: dict[str, Any], compared: Compared) -> dict[str, Any]:
        """Returns the body of `truth.json` as another task of one answer an image has it.

        Args:
            body: of classes.
            compared: what it was made of.
        """
        return body

    def evaluate(self, inputs: EvaluationInputs) -> Evaluated:
        """Joins the labels, and returns truth, trust, predictions and metrics."""
        scenario = inputs.scenario
        made = read_json(inputs.choice)
        samples = read_samples(inputs.manifest, inputs.prepared)
        runs = open_compared(inputs.trained, made, scenario.classes, len(samples.label))
        labels, contradicting = _join_labels(samples, inputs.labels_target, scenario.target)
        chosen = runs[made["chosen"]["method"]]
        seed = derive_seed(inputs.seed, "trust")
        model = judged(chosen, made["chosen"], samples, scenario.source, scenario.target, inputs.options)
        believed = build_trust(model, samples, scenario.source, averaged(made, runs), inputs.options, seed)
        believed["alarms"] = _alarms(
            self.guards, model.logits, samples, scenario, made, read_json(inputs.shift / "shift.json")
        )
        body = _truth(inputs, made, runs, samples, labels, contradicting)
        if body["available"]:
            known = model.target_test[labels[model.target_test] != UNKNOWN]
            body["trust"] = trust_against_labels(model, samples, labels, known, believed, inputs.options, seed)
            body |= _transfer(inputs, made, runs, samples, labels, known)
            body = self.scored(body, Compared(inputs, made, runs, labels, samples.group, known))
        if measured := _measured(inputs, samples, scenario.target, made, runs):
            body["measured"] = measured
        logits = chosen.logits(made["chosen"]["seed"], made["chosen"]["epoch"])
        numbers = label_free_numbers(made, chosen, runs[SOURCE_ONLY], samples, scenario)
        return Evaluated(
            body, believed, predictions_table(samples, logits, labels), PREDICTIONS, numbers | flat(believed)
        )


def _alarms(
    guards: TaskGuards,
    logits: NDArray[np.float32],
    samples: Samples,
    scenario: Scenario,
    made: dict[str, Any],
    shift: dict[str, Any],
) -> Alarms:
    source, target = samples.rows(scenario.source, "val"), samples.rows([scenario.target], "train")
    predicted, significance = logits.argmax(axis=2), made["guards"]["significance"]
    return raise_alarms(
        guards, predicted[:, source], samples.label[source], predicted[:, target], len(scenario.classes), significance,
        shift,
    )  # fmt: skip


def _truth(
    inputs: EvaluationInputs,
    made: dict[str, Any],
    runs: dict[str, Trained],
    samples: Samples,
    labels: NDArray[np.int64],
    contradicting: NDArray[np.bool_],
) -> dict[str, Any]:
    test = samples.rows([inputs.scenario.target], "test")
    known = test[labels[test] != UNKNOWN]
    if not len(known):
        return {"available": False}
    epochs: dict[str, int] = made["epochs"]
    body = build_truth(
        {method: run.all_logits(epochs[method]).argmax(axis=2)[:, known] for method, run in runs.items()},
        epochs,
        labels[known],
        samples.group[known],
        inputs.scenario.classes,
        made["chosen"]["method"],
        inputs.options.bootstrap,
        derive_seed(inputs.seed, "bootstrap"),
    )
    dropped = int(contradicting[test].sum())
    return body | {"labels_contradicting": dropped, "labels_missing": len(test) - len(known) - dropped}


def _transfer(
    inputs: EvaluationInputs,
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
    test, seed = samples.rows(inputs.scenario.source, "test"), derive_seed(inputs.seed, "class_shift")
    shift = {}
    for method, place in places.items():
        seen = runs[method].embeddings(*place)
        classes = inputs.scenario.classes
        shift[method] = class_shift(seen[test], labels[test], seen[known], labels[known], classes, seed)
    carried = {m: leep(softmax(runs[m].logits(*place)[known]), labels[known]) for m, place in places.items()}
    return {"class_shift": shift, "leep": {"know_nothing": know_nothing(labels[known]), "methods": carried}}


def _measured(
    inputs: EvaluationInputs, samples: Samples, target: str, made: dict[str, Any], runs: dict[str, Trained]
) -> dict[str, Any] | None:
    """Returns how each method's seed that ships answers the labelled random images; None where there are none."""
    seed = made["chosen"]["seed"]
    predicted = {m: run.logits(seed, made["epochs"][m]).argmax(axis=1) for m, run in sorted(runs.items())}
    given, learned = (read_table(path, GIVEN_LABELS) for path in (inputs.labels_measure, inputs.labels_train))
    return measured_on(given, learned, samples, target, predicted)


def _join_labels(samples: Samples, labels_target: Path, target: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    table = read_table(labels_target, TARGET_LABELS)
    by_image = table.groupby("image_id")["label"]
    unanimous = by_image.nunique() == 1
    label = by_image.first()[unanimous].reindex(samples.image_id).fillna(UNKNOWN).to_numpy(dtype=np.int64)
    here = samples.domain == target
    contradicting = here & np.isin(samples.image_id, unanimous.index[~unanimous].to_numpy(dtype=object))
    return np.where(here, label, samples.label), contradicting
