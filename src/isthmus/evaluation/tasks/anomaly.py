"""Good or defective: how well defects rank above good images, and how often good ones raise an alarm."""

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest

from isthmus.core.seeds import derive_seed
from isthmus.data.masks import IGNORED, Mask
from isthmus.evaluation.guards import TaskGuards, anomaly
from isthmus.evaluation.masks import TrueMasks
from isthmus.evaluation.metrics import Reals, group_weights
from isthmus.evaluation.scoring.anomaly import aupro, auroc, pixel_auroc, resampled_auroc
from isthmus.evaluation.scoring.comparison import best_method, difference, differences, float_or_none, summary
from isthmus.evaluation.tasks import classification
from isthmus.evaluation.trained import Trained
from isthmus.models.upsampling import upsampled


class Evaluation(classification.Evaluation):
    """Of good and defective images."""

    guards: ClassVar[TaskGuards] = anomaly.Guards()

    def scored(self, body: dict[str, Any], compared: classification.Compared) -> dict[str, Any]:
        """Returns the body with methods compared by AUROC, and `anomaly`: the promised rate and what became of it.

        Without both good and defective test images no method is compared (`available` false); arguments as of the base.
        """
        inputs, made, runs, labels, groups, rows = compared
        defective = labels[rows] == 1
        masks = TrueMasks(inputs.prepared, inputs.masks_target)
        seen = np.flatnonzero(~defective | masks.scored(rows))
        truth = masks.take(rows[seen])
        truth[~defective[seen]] = 0
        weights = group_weights(groups[rows], inputs.options.bootstrap, derive_seed(inputs.seed, "bootstrap"))
        scores = {m: run.logits(run.facts.seeds[0], made["epochs"][m])[rows, 1] for m, run in runs.items()}
        found = {
            "false_alarms": next(iter(runs.values())).facts.false_alarms,
            "good": int((~defective).sum()),
            "defective": int(defective.sum()),
            "with_mask": int(defective[seen].sum()),
            "methods": {
                m: _alarms(scores[m], defective, groups[rows]) | _pixels(run, made["epochs"][m], rows[seen], truth)
                for m, run in runs.items()
            },
        }
        if not found["good"] or not found["defective"]:
            return {"available": False, "anomaly": found}
        drawn = {m: _filled(resampled_auroc(own, defective, weights)) for m, own in scores.items()}
        means = {m: auroc(own, defective) for m, own in scores.items()}
        chosen = body["chosen"]
        oracle = best_method(means, chosen)
        methods = {
            m: row | {"auroc": summary([means[m]], drawn[m])} | differences(m, chosen, oracle, means, drawn)
            for m, row in body["methods"].items()
        }
        return body | {
            "metric": "auroc",
            "methods": methods,
            "oracle": {"method": oracle, "epoch": made["epochs"][oracle]},
            "regret": difference(oracle, chosen, means, drawn),
            "anomaly": found,
        }


def _alarms(scores: NDArray[np.float32], defective: NDArray[np.bool_], groups: NDArray[Any]) -> dict[str, Any]:
    """Returns the share of good and of defective images that raise an alarm; None where there is none of them.

    The interval is Wilson's with as many draws as there are groups: where no image of a few alarms, resamples of them
    would say that none ever does.
    """
    found: dict[str, Any] = {}
    for name, here in (("false_alarm_rate", ~defective), ("found", defective)):
        if not here.any():
            found[name] = None
            continue
        share, count = float((scores[here] > 0).mean()), len(np.unique(groups[here]))
        low, high = binomtest(round(share * count), count).proportion_ci(method="wilson")
        found[name] = {"mean": share, "low": min(float(low), share), "high": max(float(high), share)}
    return found


def _filled(values: Reals) -> Reals:
    """Returns resamples, those that lack good or defective images at the mean of the others."""
    known = np.isfinite(values)
    return np.where(known, values, values[known].mean() if known.any() else 0.0)


def _pixels(run: Trained, epoch: int, rows: NDArray[np.int64], truth: Mask) -> dict[str, float | None]:
    """Returns the scores of pixels, of the images whose mask is known; None where none of them has a defect."""
    if not ((truth != 0) & (truth != IGNORED)).any():
        return {"pixel_auroc": None, "aupro": None}
    cells = torch.from_numpy(run.maps(run.facts.seeds[0], epoch)[rows])
    side = round(cells.shape[1] ** 0.5)
    maps = upsampled(cells.reshape(-1, 1), (side, side), truth.shape[1])[:, 0].numpy()
    return {"pixel_auroc": float_or_none(pixel_auroc(maps, truth)), "aupro": float_or_none(aupro(maps, truth))}
