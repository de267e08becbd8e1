"""Measures every method at its last epoch without target labels, from what `train` wrote."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from isthmus.core.errors import DataError
from isthmus.core.progress import track
from isthmus.evaluation.guards import TaskGuards
from isthmus.evaluation.metrics import Predictions, accuracy, effective_classes, pairwise_agreement, softmax
from isthmus.evaluation.selection.choice import Candidate, curve_faults
from isthmus.evaluation.trained import UNKNOWN, Samples, Trained
from isthmus.evaluation.validators import Trial, Validator


@dataclass(frozen=True)
class Views:
    """The rows of logits that candidates are measured on: images, or cells of their grids.

    Attributes:
        source: of the source's validation split.
        labels: int64 `[S]`, of those rows.
        target: of the target's training split.
    """

    source: Predictions
    labels: Predictions
    target: Predictions


def views_of(samples: Samples, sources: list[str], target: str, max_rows: int) -> Views:
    """Returns the rows whose label may be known; of a larger split evenly spaced ones, in the order of ids.

    Raises:
        DataError: one of the splits is empty.
    """
    rows = _spaced(samples.rows([target], "train"), max_rows)
    known = samples.rows(sources, "val")
    known = _spaced(known[samples.label[known] != UNKNOWN], max_rows)
    for found, what in ((rows, f"split 'train' of {target}"), (known, f"split 'val' of {', '.join(sources)}")):
        if not len(found):
            raise DataError(
                f"manifest: no prepared image in {what}, so candidates cannot be compared. Add images or change the"
                " split column of the table, then run 'dvc repro'"
            )
    return Views(known, samples.label[known], rows)


def measure(
    trained: Mapping[str, Trained], views: Views, validators: Mapping[str, Validator], guards: TaskGuards, limit: float
) -> list[Candidate]:
    """Returns a candidate a method.

    Args:
        trained: methods by name.
        views: the rows.
        validators: scores that are reported.
        guards: of the task.
        limit: [p-value] of the test that a method learned the source.
    """
    names = track(sorted(trained), "select", len(trained), "method")
    return [candidate(trained[name], views, validators, guards, limit) for name in names]


def candidate(
    run: Trained, views: Views, validators: Mapping[str, Validator], guards: TaskGuards, limit: float
) -> Candidate:
    """Returns what is known of one method at its last epoch; arguments as of `measure`."""
    facts, epoch = run.facts, run.facts.epochs[-1]
    logits = run.all_logits(epoch)
    rows = np.concatenate([views.source, views.target])
    images = np.unique(rows // facts.cells)
    seen = [run.embeddings(seed, epoch) for seed in facts.seeds]
    finite = bool(np.isfinite(logits[:, rows]).all()) and all(np.isfinite(own[images]).all() for own in seen)
    faults = [fault for seed in facts.seeds for fault in curve_faults(run.curves(seed), epoch)]
    predicted = logits.argmax(axis=2)
    right = float(np.mean([accuracy(row[views.source], views.labels) for row in predicted]))
    scores: dict[str, float | None] = dict.fromkeys(sorted(validators))
    used = None
    if finite:
        used = float(np.mean([effective_classes(softmax(row[views.target])) for row in logits]))
        trials = [
            Trial(plane[views.source], views.labels, own[views.source], plane[views.target], own[views.target])
            for plane, own in zip(logits, seen, strict=True)
            if validators
        ]
        scores = {name: float(np.mean([v.score(t) for t in trials])) for name, v in sorted(validators.items())}
    return Candidate(
        method=facts.method,
        epoch=epoch,
        scores=scores,
        source_val_accuracy=right,
        learned=guards.learned(predicted[:, views.source], views.labels, limit),
        effective_classes=used,
        collapsed=guards.collapsed(predicted[:, views.target], views.labels, len(facts.classes)),
        seed_disagreement=1.0 - pairwise_agreement(predicted[:, views.target]),
        faults=tuple(dict.fromkeys([*faults, *([] if finite else ["logits or embeddings are not finite"])])),
    )


def _spaced(rows: Predictions, most: int) -> Predictions:
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
