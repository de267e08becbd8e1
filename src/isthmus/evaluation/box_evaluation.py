"""What boxes are worth. A row of logits is a cell of an image's grid; boxes are of the prepared images."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from isthmus.core.files import read_json
from isthmus.core.progress import track
from isthmus.core.seeds import derive_seed
from isthmus.data.scenario import Scenario
from isthmus.evaluation.boxes import TrueBoxes, counted, predicted_boxes
from isthmus.evaluation.cells import alarms
from isthmus.evaluation.mask_guards import MaskGuards
from isthmus.evaluation.metrics import softmax
from isthmus.evaluation.scoring.box_truth import best_threshold, build_box_truth, image_scores
from isthmus.evaluation.scoring.boxes import Matches, ap50, average_precisions, match_boxes
from isthmus.evaluation.scoring.predict import BOX_PREDICTIONS, common_numbers, source_numbers
from isthmus.evaluation.selection.ensemble import open_compared
from isthmus.evaluation.tasks import Evaluated, EvaluationInputs, TaskEvaluation
from isthmus.evaluation.trained import Samples, Trained, read_samples


class BoxEvaluation(TaskEvaluation):
    """Of boxes; rows are cells."""

    def evaluate(self, inputs: EvaluationInputs) -> Evaluated:
        """Compares the boxes of every method with those of the target's test split."""
        scenario, made = inputs.scenario, read_json(inputs.choice)
        samples = read_samples(inputs.manifest, inputs.prepared)
        runs = open_compared(inputs.trained, made, scenario.classes, len(samples.label))
        boxes, source = TrueBoxes(inputs.prepared, inputs.masks_target), TrueBoxes(inputs.prepared)
        chosen, shipped = runs[made["chosen"]["method"]], made["chosen"]["seed"]
        classes = len(scenario.classes)
        held = np.concatenate([samples.rows(scenario.source, split) for split in ("val", "cal")])
        threshold = best_threshold(_matches(chosen, shipped, made["chosen"]["epoch"], held, source, classes))
        guards = MaskGuards()
        cells = guards.rows(samples, runs, inputs.prepared)
        trust = {
            "alarms": alarms(guards, chosen, made, cells, scenario, read_json(inputs.shift / "shift.json")),
            "threshold": threshold,
            "estimate": {"available": False, "why": f"accuracy without labels is not estimated for {scenario.task}"},
        }
        test = samples.rows([scenario.target], "test")
        known = test[boxes.known(test)]
        truth: dict[str, Any] = {"available": False}
        if len(known):
            truth = _truth(inputs, made, runs, samples, known, boxes, threshold)
            truth["boxes_missing"] = len(test) - len(known)
        table = _predictions(chosen, made, samples, boxes, threshold, classes)
        numbers = _numbers(made, runs, samples, scenario, source, table)
        return Evaluated(truth, trust, table, BOX_PREDICTIONS, numbers)


def _matches(run: Trained, seed: int, epoch: int, rows: NDArray[np.int64], truth: TrueBoxes, classes: int) -> Matches:
    return match_boxes(predicted_boxes(run, seed, epoch, rows, truth.side), truth.take(rows), classes)


def _truth(
    inputs: EvaluationInputs,
    made: dict[str, Any],
    runs: dict[str, Trained],
    samples: Samples,
    rows: NDArray[np.int64],
    boxes: TrueBoxes,
    threshold: float,
) -> dict[str, Any]:
    classes = len(inputs.scenario.classes)
    found = {
        method: [_matches(run, seed, made["epochs"][method], rows, boxes, classes) for seed in run.facts.seeds]
        for method, run in track(sorted(runs.items()), "evaluate", len(runs), "method")
    }
    return build_box_truth(
        found, made["epochs"], samples.group[rows], inputs.scenario.classes, made["chosen"]["method"], threshold,
        inputs.options.bootstrap, derive_seed(inputs.seed, "bootstrap"),
    )  # fmt: skip


def _predictions(
    chosen: Trained, made: dict[str, Any], samples: Samples, boxes: TrueBoxes, threshold: float, classes: int
) -> pd.DataFrame:
    seed, epoch = made["chosen"]["seed"], made["chosen"]["epoch"]
    rows = np.arange(len(samples.image_id))
    found = predicted_boxes(chosen, seed, epoch, rows, boxes.side)
    sure = softmax(chosen.logits(seed, epoch)).max(axis=1).reshape(len(rows), -1).mean(axis=1)
    score = np.full(len(rows), np.nan, np.float32)
    known = np.flatnonzero(boxes.known(rows))
    if len(known):
        score[known] = image_scores(match_boxes([found[n] for n in known], boxes.take(known), classes), threshold)
    return pd.DataFrame(
        {
            "image_id": samples.image_id, "domain": samples.domain, "split": samples.split,
            "confidence": sure.astype(np.float32), "counts": [counted(one, threshold, classes) for one in found],
            "ap50": pd.array(score, dtype="Float32"),
        }
    )  # fmt: skip


def _numbers(
    made: dict[str, Any],
    runs: dict[str, Trained],
    samples: Samples,
    scenario: Scenario,
    source: TrueBoxes,
    table: pd.DataFrame,
) -> dict[str, float]:
    """Returns the flat body of `metrics.json`; scores are means over seeds."""

    def score(run: Trained, epoch: int, rows: NDArray[np.int64]) -> float | None:
        found = [_matches(run, seed, epoch, rows, source, len(scenario.classes)) for seed in run.facts.seeds]
        if not found[0].true_boxes.any():
            return None
        return float(np.mean([float(ap50(average_precisions(one, np.ones((1, len(rows)))))[0]) for one in found]))

    numbers = common_numbers(made, samples, scenario)
    numbers |= source_numbers(made, runs, samples, scenario, "ap50", score)
    test = samples.rows([scenario.target], "test")
    if len(test):
        here = table.iloc[test]
        numbers["target_mean_confidence"] = float(here["confidence"].mean())
        counts = np.array(here["counts"].to_list()).reshape(len(test), -1).mean(axis=0)
        numbers |= {f"target_boxes.{name}": float(n) for name, n in zip(scenario.classes[1:], counts, strict=True)}
    return numbers
