"""What masks are worth: the part that segmentation and change share.

A row of logits is a cell of an image's grid; scores are of pixels, at the size of the prepared images.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from isthmus.core.errors import DataError
from isthmus.core.files import read_json
from isthmus.core.progress import track
from isthmus.core.seeds import derive_seed
from isthmus.data.scenario import Scenario
from isthmus.evaluation.calibration import fit_temperature
from isthmus.evaluation.cells import alarms, known, some
from isthmus.evaluation.mask_guards import MaskGuards
from isthmus.evaluation.masks import TrueMasks, predicted_masks, predicted_pixels
from isthmus.evaluation.metrics import pairwise_agreement
from isthmus.evaluation.scoring.mask_truth import build_mask_truth
from isthmus.evaluation.scoring.masks import boundary_scores, class_iou, confusions, mean_defined, mean_iou
from isthmus.evaluation.scoring.predict import MASK_PREDICTIONS, common_numbers, source_numbers
from isthmus.evaluation.selection.ensemble import open_compared
from isthmus.evaluation.tasks import Evaluated, EvaluationInputs, TaskEvaluation
from isthmus.evaluation.trained import Samples, Trained, grid_of, read_samples


class MaskEvaluation(TaskEvaluation):
    """Of masks; rows are cells."""

    def evaluate(self, inputs: EvaluationInputs) -> Evaluated:
        """Compares the masks of every method with those of the target's test split.

        Raises:
            DataError: that split has no prepared image.
        """
        scenario, made = inputs.scenario, read_json(inputs.choice)
        samples = read_samples(inputs.manifest, inputs.prepared)
        test = samples.rows([scenario.target], "test")
        if not len(test):  # `prepare` may have refused them all
            raise DataError(
                f"manifest: no prepared image in split 'test' of {scenario.target}, so no mask can be"
                " evaluated. Add images or change the split column of the table, then run 'dvc repro'"
            )
        runs = open_compared(inputs.trained, made, scenario.classes, len(samples.label))
        masks = TrueMasks(inputs.prepared, inputs.masks_target)
        chosen = runs[made["chosen"]["method"]]
        guards = MaskGuards()
        cells = guards.rows(samples, runs, inputs.prepared)
        trust = _trust(guards, chosen, made, cells, scenario, read_json(inputs.shift / "shift.json"))
        scored = test[masks.scored(test)]
        truth: dict[str, Any] = {"available": False}
        if len(scored):
            truth = _truth(inputs, made, runs, samples, scored, masks)
            truth["masks_missing"] = len(test) - len(scored)
        table = _predictions(chosen, made, samples, masks, len(scenario.classes))
        shares = np.stack(table.iloc[test]["shares"].to_list()).mean(axis=0)
        trust["target_shares"] = {n: float(share) for n, share in zip(scenario.classes, shares, strict=True)}
        numbers = _numbers(made, runs, samples, scenario, masks, table)
        return Evaluated(truth, trust, table, MASK_PREDICTIONS, numbers)


def _truth(
    inputs: EvaluationInputs,
    made: dict[str, Any],
    runs: dict[str, Trained],
    samples: Samples,
    rows: NDArray[np.int64],
    masks: TrueMasks,
) -> dict[str, Any]:
    """Returns the body of `truth.json`; boundaries are those of the first seed, the others' cost minutes."""
    truth, classes = masks.take(rows), len(inputs.scenario.classes)
    counts, boundaries = {}, {}
    for method, run in track(sorted(runs.items()), "evaluate", len(runs), "method"):
        found = _masks(run, made["epochs"][method], rows, masks.side)
        counts[method] = np.stack([confusions(seed, truth, classes) for seed in found])
        boundaries[method] = boundary_scores(found[0], truth, classes)[None]
    return build_mask_truth(
        counts, boundaries, made["epochs"], samples.group[rows], inputs.scenario.classes, made["chosen"]["method"],
        inputs.options.bootstrap, derive_seed(inputs.seed, "bootstrap"), inputs.scenario.task,
    )  # fmt: skip


def _masks(run: Trained, epoch: int, rows: NDArray[np.int64], side: int) -> NDArray[np.uint8]:
    """Returns predicted masks, uint8 `[R, n, H, W]`, one plane a seed."""
    return np.stack([predicted_masks(run.logits(seed, epoch), rows, grid_of(run), side) for seed in run.facts.seeds])


def _trust(
    guards: MaskGuards,
    chosen: Trained,
    made: dict[str, Any],
    cells: Samples,
    scenario: Scenario,
    shift: dict[str, Any],
) -> dict[str, Any]:
    """Returns what is known without target labels: alarms, and the temperature of the cells' probabilities."""
    cal = some(known(cells, scenario.source, "cal"))
    logits = chosen.logits(made["chosen"]["seed"], made["chosen"]["epoch"])
    return {
        "alarms": alarms(guards, chosen, made, cells, scenario, shift),
        "temperature": fit_temperature(logits[cal], cells.label[cal]),
        "estimate": {"available": False, "why": f"accuracy without labels is not estimated for {scenario.task}"},
    }


def _predictions(
    chosen: Trained, made: dict[str, Any], samples: Samples, masks: TrueMasks, classes: int
) -> pd.DataFrame:
    logits, grid = chosen.logits(made["chosen"]["seed"], made["chosen"]["epoch"]), grid_of(chosen)
    rows = np.arange(len(samples.image_id))
    confidence, shares = np.zeros(len(rows), np.float32), np.zeros((len(rows), classes), np.float32)
    score = np.full(len(rows), np.nan, np.float32)
    for places, pixels in predicted_pixels(logits, rows, grid, masks.side):
        answer = pixels.argmax(axis=1).astype(np.uint8)
        confidence[places] = pixels.max(axis=1).mean(axis=(1, 2))
        shares[places] = np.stack([(answer == k).mean(axis=(1, 2)) for k in range(classes)], axis=1)
        score[places] = mean_defined(class_iou(confusions(answer, masks.take(places), classes)))
    return pd.DataFrame(
        {
            "image_id": samples.image_id, "domain": samples.domain, "split": samples.split, "confidence": confidence,
            "shares": list(shares), "mean_iou": pd.array(score, dtype="Float32"),
        }
    )  # fmt: skip


def _numbers(
    made: dict[str, Any],
    runs: dict[str, Trained],
    samples: Samples,
    scenario: Scenario,
    masks: TrueMasks,
    table: pd.DataFrame,
) -> dict[str, float]:
    """Returns the flat body of `metrics.json`; scores are means over seeds."""

    def score(run: Trained, epoch: int, rows: NDArray[np.int64]) -> float | None:
        truth, found = masks.take(rows), _masks(run, epoch, rows, masks.side)
        counts = [confusions(seed, truth, len(scenario.classes)).sum(axis=0) for seed in found]
        return float(np.mean([float(mean_iou(one)) for one in counts])) if counts[0].any() else None

    numbers = common_numbers(made, samples, scenario)
    numbers |= source_numbers(made, runs, samples, scenario, "mean_iou", score)
    chosen = runs[made["chosen"]["method"]]
    test = samples.rows([scenario.target], "test")
    if len(test):
        here = table.iloc[test]
        numbers["target_mean_confidence"] = float(here["confidence"].mean())
        if len(chosen.facts.seeds) > 1:
            found = _masks(chosen, made["chosen"]["epoch"], test, masks.side)
            numbers["target_seed_disagreement"] = 1.0 - pairwise_agreement(found.reshape(len(found), -1))
    return numbers
