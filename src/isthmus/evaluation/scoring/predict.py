"""What the chosen candidate answers: a row for each image, and the numbers that need no label of the target."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from isthmus.core.accuracy import balanced_accuracy
from isthmus.data.scenario import Scenario
from isthmus.evaluation.metrics import accuracy, effective_classes, pairwise_agreement, softmax
from isthmus.evaluation.selection.choice import SOURCE_ONLY
from isthmus.evaluation.trained import UNKNOWN, Samples, Trained

PREDICTIONS = pa.schema(
    [
        ("image_id", pa.string()),
        ("domain", pa.string()),
        ("split", pa.string()),
        ("predicted", pa.int32()),  # index into classes
        ("confidence", pa.float32()),  # highest probability, not calibrated
        ("label", pa.int32()),  # null where it is not known
        ("correct", pa.bool_()),  # null where the label is
    ]
)

MASK_PREDICTIONS = pa.schema(
    [
        ("image_id", pa.string()),
        ("domain", pa.string()),
        ("split", pa.string()),
        ("confidence", pa.float32()),  # mean over pixels of the highest probability, not calibrated
        ("shares", pa.list_(pa.float32())),  # of the classes among the predicted pixels
        ("mean_iou", pa.float32()),  # of this image; null where no pixel of its mask is known
    ]
)


BOX_PREDICTIONS = pa.schema(
    [
        ("image_id", pa.string()),
        ("domain", pa.string()),
        ("split", pa.string()),
        ("confidence", pa.float32()),  # mean over cells of the highest probability, not calibrated
        ("counts", pa.list_(pa.int32())),  # boxes of each class but the first that reach `threshold` of trust.json
        ("ap50", pa.float32()),  # of this image (`scoring/box_truth.py: image_scores`); null where boxes are not known
    ]
)


def predictions_table(samples: Samples, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> pd.DataFrame:
    """Returns a row for each image with the columns of `PREDICTIONS`.

    Args:
        samples: facts of the images.
        logits: float32 `[N, K]` of one seed.
        labels: int64 `[N]`, `UNKNOWN` where there is none.
    """
    predicted, known = logits.argmax(axis=1), labels != UNKNOWN
    return pd.DataFrame(
        {
            "image_id": samples.image_id,
            "domain": samples.domain,
            "split": samples.split,
            "predicted": predicted.astype(np.int32),
            "confidence": softmax(logits).max(axis=1).astype(np.float32),
            "label": pd.arrays.IntegerArray(labels.astype(np.int32), ~known),
            "correct": pd.arrays.BooleanArray(predicted == labels, ~known),
        }
    )


def label_free_numbers(
    made: dict[str, Any], chosen: Trained, floor: Trained, samples: Samples, scenario: Scenario
) -> dict[str, float]:
    """Returns the flat body of `metrics.json`; scores are means over seeds, an empty split has none.

    Args:
        made: the content of `choice.json`.
        chosen: the chosen method.
        floor: source-only.
        samples: facts of the images.
        scenario: says which domains are the source.
    """
    epoch, numbers = made["chosen"]["epoch"], common_numbers(made, samples, scenario)
    logits = chosen.all_logits(epoch)
    for prefix, planes in (
        ("source", logits),
        ("source_only_source", floor.all_logits(made["epochs"][SOURCE_ONLY])),
    ):
        for split in ("val", "test"):
            rows = samples.rows(scenario.source, split)
            if len(rows):
                labels, predicted = samples.label[rows], planes.argmax(axis=2)[:, rows]
                numbers[f"{prefix}_{split}_accuracy"] = float(np.mean([accuracy(p, labels) for p in predicted]))
                numbers[f"{prefix}_{split}_balanced_accuracy"] = float(
                    np.mean([balanced_accuracy(p, labels) for p in predicted])
                )
    test = samples.rows([scenario.target], "test")
    if len(test):
        probabilities = softmax(logits[:, test])
        numbers["target_effective_classes"] = float(np.mean([effective_classes(p) for p in probabilities]))
        numbers["target_mean_confidence"] = float(probabilities.max(axis=2).mean())
        if len(logits) > 1:
            numbers["target_seed_disagreement"] = 1.0 - pairwise_agreement(logits[:, test].argmax(axis=2))
    return numbers


def common_numbers(made: dict[str, Any], samples: Samples, scenario: Scenario) -> dict[str, float]:
    """Returns the part of `metrics.json` that all tasks have: the choice, and counts of images."""
    numbers: dict[str, float] = {
        "chosen_epoch": made["chosen"]["epoch"],
        "chosen_is_fallback": int(made["chosen"]["fallback"]),
        "candidate_count": len(made["candidates"]),
        "candidate_out_count": sum(1 for candidate in made["candidates"] if candidate["refused"]),
    }
    for role, domains, splits in (
        ("source", scenario.source, ("train", "val", "cal", "test")),
        ("target", [scenario.target], ("train", "test")),
    ):
        for split in splits:
            numbers[f"{role}_{split}_count"] = len(samples.rows(domains, split))
    return numbers


def source_numbers(
    made: dict[str, Any],
    runs: Mapping[str, Trained],
    samples: Samples,
    scenario: Scenario,
    name: str,
    score: Callable[[Trained, int, NDArray[np.int64]], float | None],
) -> dict[str, float]:
    """Returns a task's score of the chosen method and of source-only on the source's splits; none where it is None.

    Args:
        made: the content of `choice.json`.
        runs: what was compared.
        samples: facts of the images.
        scenario: says which domains are the source.
        name: of the score.
        score: takes a method, an epoch and images.
    """
    numbers = {}
    for prefix, method in (("source", made["chosen"]["method"]), ("source_only_source", SOURCE_ONLY)):
        for split in ("val", "test"):
            rows = samples.rows(scenario.source, split)
            value = score(runs[method], made["epochs"][method], rows) if len(rows) else None
            if value is not None:
                numbers[f"{prefix}_{split}_{name}"] = value
    return numbers
