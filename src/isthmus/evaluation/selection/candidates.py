"""Measures every method at its last epoch without target labels, from what `train` wrote."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from isthmus.core.errors import DataError
from isthmus.core.progress import track
from isthmus.evaluation.metrics import (
    Predictions,
    above_guessing,
    accuracy,
    collapsed,
    effective_classes,
    pairwise_agreement,
    softmax,
)
from isthmus.evaluation.selection.choice import Candidate, curve_faults
from isthmus.evaluation.trained import Samples, Trained
from isthmus.evaluation.validators import Trial, Validator


@dataclass(frozen=True)
class Views:
    """The rows that candidates are measured on.

    Attributes:
        source: of the source's validation split.
        labels: int64 `[S]`, of those rows.
        target: of the target's training split.
    """

    source: Predictions
    labels: Predictions
    target: Predictions


def views_of(samples: Samples, sources: list[str], target: str, max_images: int) -> Views:
    """Returns the rows; a larger split is cut by id, which is a hash.

    Raises:
        DataError: one of the splits is empty.
    """
    rows = samples.rows([target], "train")[:max_images]
    known = samples.rows(sources, "val")[:max_images]
    for found, what in ((rows, f"split 'train' of {target}"), (known, f"split 'val' of {', '.join(sources)}")):
        if not len(found):
            raise DataError(
                f"manifest: no prepared image in {what}, so candidates cannot be compared. Add images or change the"
                " split column of the table, then run 'dvc repro'"
            )
    return Views(known, samples.label[known], rows)


def measure(
    trained: Mapping[str, Trained], views: Views, validators: Mapping[str, Validator], significance: float
) -> list[Candidate]:
    """Returns a candidate a method.

    Args:
        trained: methods by name.
        views: the rows.
        validators: scores that are reported.
        significance: [p-value] of the test that a method learned the source.
    """
    names = track(sorted(trained), "select", len(trained), "method")
    return [candidate(trained[name], views, validators, significance) for name in names]


def candidate(run: Trained, views: Views, validators: Mapping[str, Validator], significance: float) -> Candidate:
    """Returns what is known of one method at its last epoch."""
    facts, epoch = run.facts, run.facts.epochs[-1]
    logits = run.all_logits(epoch)
    rows = np.concatenate([views.source, views.target])
    seen = [run.embeddings(seed, epoch) for seed in facts.seeds]
    finite = all(np.isfinite(array[..., rows, :]).all() for array in (logits, *seen))
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
        ]
        scores = {name: float(np.mean([v.score(t) for t in trials])) for name, v in sorted(validators.items())}
    return Candidate(
        method=facts.method,
        epoch=epoch,
        scores=scores,
        source_val_accuracy=right,
        learned=above_guessing(right, views.labels, significance),
        effective_classes=used,
        collapsed=collapsed(predicted[:, views.target], len(facts.classes)),
        seed_disagreement=1.0 - pairwise_agreement(predicted[:, views.target]),
        faults=tuple(dict.fromkeys([*faults, *([] if finite else ["logits or embeddings are not finite"])])),
    )
