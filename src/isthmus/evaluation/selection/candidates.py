"""Measures every candidate (method, epoch) without target labels, from what `train` wrote."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import DataError
from isthmus.core.progress import track
from isthmus.evaluation.metrics import accuracy, effective_classes, pairwise_agreement
from isthmus.evaluation.selection.choice import (
    HALF_STEP,
    Candidate,
    Guards,
    curve_faults,
    standing,
    within_guards,
)
from isthmus.evaluation.selection.consensus import nearest, principal, vote
from isthmus.evaluation.selection.half_step import Averaged
from isthmus.evaluation.shift.distances import standardise
from isthmus.evaluation.trained import Samples, Trained
from isthmus.evaluation.validators import Trial, Validator, softmax

Rows = NDArray[np.int64]
Reals = NDArray[np.float64]
Features = Callable[[Rows], NDArray[Any]]
SHARED_DIMENSIONS = 100  # principal directions of both domains in which a classifier goes back to the source


@dataclass(frozen=True)
class Views:
    """The rows on which candidates are judged, and what is the same for all of them.

    Attributes:
        source: rows of the source's validation split.
        labels: int64 `[S]`, of those rows.
        target: rows of the target's training split.
        source_frozen: float64 `[S, D]`, see `validators.Trial`.
        target_frozen: float64 `[T, D]`.
        neighbours: int64 `[T, k]`.
    """

    source: Rows
    labels: Rows
    target: Rows
    source_frozen: Reals
    target_frozen: Reals
    neighbours: Rows


def measure(
    trained: Mapping[str, Trained], views: Views, validators: Mapping[str, Validator], guards: Guards
) -> list[Candidate]:
    """Returns all candidates: scores on the source's validation split and the target's training split.

    First what the guards look at, then the consensus of those that pass, all epochs of them, then the scores, which may
    ask for it; an epoch with which no method stands has none.

    Args:
        trained: methods by name.
        views: the rows, from `views_of`.
        validators: by name.
        guards: who has a voice in the consensus.
    """
    pairs = [(name, epoch) for name in sorted(trained) for epoch in trained[name].facts.epochs]
    plain = [_facts(trained[name], epoch, views) for name, epoch in pairs]
    stand = standing(plain, guards)
    classes = len(next(iter(trained.values())).facts.classes)
    votes: dict[str, list[Reals]] = {}
    for candidate in within_guards(plain, guards, classes) or plain:
        logits = trained[candidate.method].all_logits(candidate.epoch)[:, views.target]
        if np.isfinite(logits).all():
            votes.setdefault(candidate.method, []).append(softmax(logits).mean(axis=0))
    everyone = _voted(votes, views)
    others = {name: _voted({m: v for m, v in votes.items() if m != name} or votes, views) for name in trained}
    scores = {
        candidate.method: _scores(
            trained[candidate.method], candidate.epoch, views, everyone, others[candidate.method], validators
        )
        for candidate in track(stand.values(), "select", len(stand), "candidate")
    }
    return [replace(c, scores=scores[c.method]) if c is stand[c.method] else c for c in plain]


def with_half_step(
    trained: Mapping[str, Trained], candidates: Sequence[Candidate], views: Views, of: Mapping[str, tuple[int, float]]
) -> tuple[dict[str, Trained], list[Candidate]]:
    """Returns both with the half step added; as they were where it is made of nothing.

    Args:
        trained: methods by name.
        candidates: what `measure` returned for them.
        views: the same.
        of: what `half_step` returned for them.
    """
    if not of:
        return dict(trained), list(candidates)
    run = Averaged(HALF_STEP, trained, of)
    return {**trained, HALF_STEP: run}, [*candidates, _facts(run, run.facts.epochs[0], views)]


def trials(
    trained: Trained, epoch: int, views: Views, consensus: Rows | None = None, others: Rows | None = None
) -> list[Trial]:
    """Returns what may be known of one candidate, one trial a seed; without a consensus nobody has voted."""
    logits = trained.all_logits(epoch)
    nobody = np.zeros(len(views.target), dtype=np.int64)
    found = []
    for number, seed in enumerate(trained.facts.seeds):
        embedded = trained.embeddings(seed, epoch)
        found.append(
            Trial(
                source_logits=logits[number, views.source],
                source_labels=views.labels,
                source_features=embedded[views.source],
                target_logits=logits[number, views.target],
                target_features=embedded[views.target],
                seeds_target_logits=logits[:, views.target],
                source_frozen=views.source_frozen,
                target_frozen=views.target_frozen,
                neighbours=views.neighbours,
                consensus=nobody if consensus is None else consensus,
                others_consensus=nobody if others is None else others,
            )
        )
    return found


def views_of(samples: Samples, sources: Sequence[str], target: str, features: Features, max_images: int) -> Views:
    """Returns the rows that candidates are judged on.

    Args:
        samples: facts of the images.
        sources: domains.
        target: domain.
        features: frozen features of rows.
        max_images: rows a split; a larger one is cut by id.

    Raises:
        DataError: one of the splits is empty.
    """
    target_rows = _first(samples.rows([target], "train"), f"split 'train' of {target}", max_images)
    source_rows = _first(samples.rows(sources, "val"), f"split 'val' of {', '.join(sources)}", max_images)
    target_frozen = np.asarray(features(target_rows), dtype=np.float64)
    target_frozen = standardise(target_frozen, target_frozen)
    source_frozen = np.zeros((len(source_rows), target_frozen.shape[1]))
    source_train = []
    for domain in sources:
        train = _first(samples.rows([domain], "train"), f"split 'train' of {domain}", max_images)
        own = np.asarray(features(train), dtype=np.float64)
        here = samples.domain[source_rows] == domain
        source_frozen[here] = standardise(np.asarray(features(source_rows[here]), dtype=np.float64), own)
        source_train.append(standardise(own, own))
    shared = principal(np.concatenate([*source_train, target_frozen]), SHARED_DIMENSIONS)
    labels = samples.label[source_rows]
    near = nearest(target_frozen)
    return Views(source_rows, labels, target_rows, source_frozen @ shared, target_frozen @ shared, near)


def _first(rows: Rows, what: str, limit: int) -> Rows:
    # Rows stand in the order of image_id, a hash: the first ones are a random but fixed part.
    if not len(rows):
        raise DataError(
            f"manifest: no prepared image in {what}, so candidates cannot be compared. Add images or change the"
            " split column of the table, then run 'dvc repro'"
        )
    return rows[:limit]


def _facts(trained: Trained, epoch: int, views: Views) -> Candidate:
    facts = trained.facts
    logits = trained.all_logits(epoch)
    finite = _finite(trained, epoch, views)
    predicted = logits.argmax(axis=2)
    faults = [fault for seed in facts.seeds for fault in curve_faults(trained.curves(seed), epoch)]
    used = [effective_classes(softmax(row[views.target])) for row in logits] if finite else None
    return Candidate(
        method=facts.method,
        epoch=epoch,
        optimises=frozenset(facts.optimises),
        scores={},
        source_val_accuracy=float(np.mean([accuracy(row[views.source], views.labels) for row in predicted])),
        effective_classes=float(np.mean(used)) if used is not None else None,
        predicted_classes=float(
            np.mean([effective_classes(np.eye(len(facts.classes))[row[views.target]]) for row in predicted])
        ),
        seed_disagreement=1.0 - pairwise_agreement(predicted[:, views.target]),
        faults=tuple(dict.fromkeys([*faults, *([] if finite else ["logits or embeddings are not finite"])])),
    )


def _voted(votes: Mapping[str, Sequence[Reals]], views: Views) -> Rows:
    return vote(votes, views.neighbours) if votes else np.zeros(len(views.target), dtype=np.int64)


def _scores(
    trained: Trained, epoch: int, views: Views, consensus: Rows, others: Rows, validators: Mapping[str, Validator]
) -> dict[str, float | None]:
    if not _finite(trained, epoch, views):
        return dict.fromkeys(sorted(validators))
    seen = trials(trained, epoch, views, consensus, others)
    return {
        name: float(np.mean([validator.score(trial) for trial in seen]))
        for name, validator in sorted(validators.items())
    }


def _finite(trained: Trained, epoch: int, views: Views) -> bool:
    rows = np.concatenate([views.source, views.target])
    arrays = [trained.all_logits(epoch), *(trained.embeddings(seed, epoch) for seed in trained.facts.seeds)]
    return all(np.isfinite(array[..., rows, :]).all() for array in arrays)
