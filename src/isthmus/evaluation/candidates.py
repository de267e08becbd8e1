"""Measures every candidate (method, epoch) without target labels, from what `train` wrote."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import DataError
from isthmus.core.progress import track
from isthmus.evaluation.choice import Candidate, curve_faults
from isthmus.evaluation.metrics import accuracy, effective_classes, pairwise_agreement
from isthmus.evaluation.trained import Samples, Trained
from isthmus.evaluation.validators import Trial, Validator, softmax

Rows = NDArray[np.int64]


def measure(
    trained: Mapping[str, Trained],
    samples: Samples,
    sources: Sequence[str],
    target: str,
    validators: Mapping[str, Validator],
) -> list[Candidate]:
    """Returns all candidates: scores on the source's validation split and the target's training split.

    Raises:
        DataError: one of the two splits is empty.
    """
    source_rows, target_rows = samples.rows(sources, "val"), samples.rows([target], "train")
    for what, rows in (
        (f"split 'val' of {', '.join(sources)}", source_rows),
        (f"split 'train' of {target}", target_rows),
    ):
        if not len(rows):
            raise DataError(
                f"manifest: no prepared image in {what}, so candidates cannot be compared. Add images or change the"
                " split column of the table, then run 'dvc repro'"
            )
    pairs = [(name, epoch) for name in sorted(trained) for epoch in trained[name].facts.epochs]
    return [
        _measure(trained[name], epoch, source_rows, samples.label[source_rows], target_rows, validators)
        for name, epoch in track(pairs, "select", len(pairs), "candidate")
    ]


def _measure(
    trained: Trained, epoch: int, source: Rows, labels: Rows, target: Rows, validators: Mapping[str, Validator]
) -> Candidate:
    facts = trained.facts
    logits = trained.all_logits(epoch)
    trials = []
    for number, seed in enumerate(facts.seeds):
        features = trained.embeddings(seed, epoch)
        trials.append(
            Trial(
                source_logits=logits[number, source],
                source_labels=labels,
                source_features=features[source],
                target_logits=logits[number, target],
                target_features=features[target],
                seeds_target_logits=logits[:, target],
            )
        )
    finite = all(_finite(trial) for trial in trials)
    predicted = logits.argmax(axis=2)
    faults = [fault for seed in facts.seeds for fault in curve_faults(trained.curves(seed), epoch)]
    return Candidate(
        method=facts.method,
        epoch=epoch,
        optimises=frozenset(facts.optimises),
        scores={
            name: float(np.mean([validator.score(trial) for trial in trials])) if finite else None
            for name, validator in sorted(validators.items())
        },
        source_val_accuracy=float(np.mean([accuracy(row[source], labels) for row in predicted])),
        effective_classes=float(np.mean([effective_classes(softmax(t.target_logits)) for t in trials]))
        if finite
        else None,
        predicted_classes=float(
            np.mean([effective_classes(np.eye(len(facts.classes))[row[target]]) for row in predicted])
        ),
        seed_disagreement=1.0 - pairwise_agreement(predicted[:, target]),
        faults=tuple(dict.fromkeys([*faults, *([] if finite else ["logits or embeddings are not finite"])])),
    )


def _finite(trial: Trial) -> bool:
    arrays = (trial.source_logits, trial.target_logits, trial.source_features, trial.target_features)
    return all(np.isfinite(array).all() for array in arrays)
