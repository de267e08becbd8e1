"""Chooses a method without target labels: guards first, then mean rank among those preferred. Pure; knows no file.

**Candidates.** Each method stands at its last epoch: which of its epochs is best cannot be told by any score here, and
on 53 development pairs the epoch by rank was half a point worse. source-only stands at its last, or the last before it
failed (no fault, source accuracy within `source_floor` of its best).

**Guards.** A candidate is out if, as a mean over seeds,
- its source validation accuracy is more than `source_floor` below the best kept epoch of source-only (the best, not
  the last: one diverged last epoch must not lower the floor for all the others);
- exp(H(mean p)) on the target is under `min_effective_classes` * K (with two classes a share of 0.5 would be one class
  and refuse nothing, so the limit is at least 1 + 0.4 of the share), or nearly all hard predictions are one class
  (a model that always says the majority class with modest confidence has a healthy mean p);
- its seeds disagree on more than `max_seed_disagreement` of the target images;
or if in any seed, up to that epoch, a loss is not a number, or the supervised one exactly zero over a whole epoch (the
unsupervised loss of FixMatch is zero until the first prediction is confident enough), or if an output or a score is not
finite. source-only is never out: it is what a user has without this tool, which is where plain training ends.

**Rank.** Each validator ranks the candidates that passed and that it may score: all but those of methods that
optimise it. A rank is normalised to [0, 1], 1 the best, ties sharing their mean, so that validators count alike
whatever their unit; a candidate's rank is the mean over the validators that score it.

**Prefer.** Where methods are preferred and one of them passed, the highest rank of those is first; the others keep
their voice in the scores. Scores tell good from bad and hardly good from better: ranking thirty candidates loses more
than ranking the two methods that are best on other pairs (docs/log.md). source-only competes only if nothing is tested.

**Leave.** Where a level is given, an adapted candidate that comes first is chosen only if its advantage over
source-only is shown (`advantage.py`); else the choice stays at source-only, or goes half a step.

**Half step.** The mean of logits, half source-only's, half those of the preferred methods that passed: where they are
wrong, little is lost, and where they are right, much is gained (Wortsman et al., "Robust fine-tuning of zero-shot
models", CVPR 2022, average weights for the same reason; these networks do not start from one point). It is a candidate
without a rank: it is held to the guards, and chosen only where nothing was shown.

Why a plain mean of ranks: each score alone has a blind side. Entropy and agreement of seeds both favour a model that
is partly collapsed, for it is confident and stable; reverse validation favours whatever copies the backbone's geometry;
the other methods can be wrong together. How the shipped validators, test and preference were settled:
docs/log.md, docs/decisions/0005.
Ranks, not values: one over-confident outlier cannot buy the choice. Weighting validators by their correlations was
left out: where three are right, it favours the one that is wrong.
What this cannot see: a candidate that is confident, even, near the source and stable, with classes swapped.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from isthmus.core.config import Config
from isthmus.core.errors import DataError

SOURCE_ONLY = "source_only"
HALF_STEP = "half_step"  # no method that is trained: the mean of source-only and of the preferred that passed
_STAYS = 0.5  # of the half step that is source-only's
ONE_CLASS = 1.05  # effective classes of the hard predictions: under it, over 99% of the images are of one class
_LEAST_USED = 0.4  # of `min_effective_classes`, above one class: share 0.5 refuses under 1.2 effective classes
SUPERVISED = "loss_source"  # every method names its loss on labelled source images so
_DIGITS = 9  # ranks nearer than this are ties, whatever the order of summation


class Guards(Config):
    """Limits that a candidate must keep to be considered."""

    source_floor: float = Field(
        0.05, ge=0, le=1, description="[share] source validation accuracy may fall this far below source-only's"
    )
    min_effective_classes: float = Field(
        0.5, ge=0, le=1, description="[share of classes] exp of the entropy of the mean prediction on the target"
    )
    max_seed_disagreement: float = Field(
        0.5, ge=0, le=1, description="[share] of target images on which seeds disagree"
    )


@dataclass(frozen=True)
class Candidate:
    """What is known of one method at one epoch without target labels; numbers are means over seeds.

    Attributes:
        optimises: validators that the method's losses optimise; they do not score it.
        scores: by validator, higher is better; None where it is not finite.
        source_val_accuracy: [share].
        effective_classes: exp(H(mean p)) on the target's training split; None where it is not finite.
        predicted_classes: the same of the hard predictions.
        seed_disagreement: [share].
        faults: what is wrong with curves or outputs, each reason once.
    """

    method: str
    epoch: int
    optimises: frozenset[str]
    scores: Mapping[str, float | None]
    source_val_accuracy: float
    effective_classes: float | None
    predicted_classes: float
    seed_disagreement: float
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Leave:
    """What must be shown before source-only is left.

    Attributes:
        level: p-value that must be fallen below.
        p_value: of (candidate, source-only's last epoch): how likely the candidate's advantage is chance.
    """

    level: float
    p_value: Callable[[Candidate, Candidate], float]


@dataclass(frozen=True)
class Choice:
    """What was chosen and why; `candidates` holds every candidate with its rank or its reasons to be out.

    Attributes:
        leave: `ranked_first` (method, epoch), `p_value` and `level`, where an adapted candidate ranked first.
    """

    method: str
    epoch: int
    fallback: bool
    why: str
    best_epoch: dict[str, int]
    candidates: list[dict[str, Any]]
    leave: dict[str, Any] | None = None


def choose(
    candidates: Sequence[Candidate],
    guards: Guards,
    classes: int,
    leave: Leave | None = None,
    prefer: Sequence[str] = (),
) -> Choice:
    """Returns the choice, the same for any order of the candidates.

    Args:
        candidates: of all methods and epochs; source-only's must be among them. Those that do not stand are dropped.
            The half step's, if there is one, is chosen where the test is not passed.
        guards: limits.
        classes: K.
        leave: test that the first must pass against source-only; None: it is taken as it is.
        prefer: methods that are chosen before any other that passed.

    Raises:
        DataError: there is no candidate of source-only.
    """
    stand = standing(candidates, guards)
    half = stand.get(HALF_STEP)
    highest = _highest(candidates)
    ordered, reasons = _judged(stand, highest, guards, classes)
    floor = ordered[0]
    inside = [c for c, out in zip(ordered, reasons, strict=True) if not out]
    ranks = _ranks(inside)
    preferred = [c for c in inside if c.method in prefer]
    names = [c.method for c in preferred]
    rivals = preferred if leave is not None else [floor, *preferred]  # the test, if there is one, stands for the floor
    # Ties go to source_only, then by name: the order in which candidates stand here.
    first = max(rivals if preferred else inside, key=lambda c: ranks[c.method])
    tested: dict[str, Any] | None = None
    if leave is not None and first is not floor:
        ranked = {"method": first.method, "epoch": first.epoch}
        tested = {"ranked_first": ranked, "p_value": leave.p_value(first, floor), "level": leave.level}
    held = {} if half is None else _reasons(half, highest, guards, classes)
    stays = floor if half is None or held else half
    chosen = stays if tested and tested["p_value"] >= tested["level"] else first
    adapted = [r for c, r in zip(ordered, reasons, strict=True) if c.method != SOURCE_ONLY]
    return Choice(
        method=chosen.method,
        epoch=chosen.epoch,
        fallback=all(adapted),
        why=_why(first, ranks, adapted, names) + _left(tested, chosen, names),
        best_epoch={method: stand[method].epoch for method in sorted(stand)},
        candidates=[
            {
                "method": c.method,
                "epoch": c.epoch,
                "scores": dict(c.scores),
                "scored_by": _scored_by(c),
                "rank": ranks.get(c.method),
                "source_val_accuracy": c.source_val_accuracy,
                "effective_classes": c.effective_classes,
                "seed_disagreement": c.seed_disagreement,
                "out": list(out.values()),
            }
            for c, out in [*zip(ordered, reasons, strict=True), *([] if half is None else [(half, held)])]
        ],
        leave=tested,
    )


def standing(candidates: Sequence[Candidate], guards: Guards) -> dict[str, Candidate]:
    """Returns method -> the candidate that it stands with.

    Raises:
        DataError: there is no candidate of source-only.
    """
    last = {c.method: c for c in sorted(candidates, key=lambda c: c.epoch)}
    plain = sorted((c for c in candidates if c.method == SOURCE_ONLY), key=lambda c: c.epoch)
    if not plain:
        raise DataError("no epoch of source_only among the candidates: it is the floor. Run 'dvc repro' to train it")
    highest = max(c.source_val_accuracy for c in plain)
    sound = [c for c in plain if not c.faults and c.source_val_accuracy >= highest - guards.source_floor]
    return last | {SOURCE_ONLY: (sound or plain)[-1]}


def half_step(
    candidates: Sequence[Candidate], guards: Guards, classes: int, prefer: Sequence[str]
) -> dict[str, tuple[int, float]]:
    """Returns method -> (epoch, share of the half step's logits); empty where no preferred method passed."""
    ordered, reasons = _judged(standing(candidates, guards), _highest(candidates), guards, classes)
    preferred = [c for c, out in zip(ordered, reasons, strict=True) if not out and c.method in prefer]
    if not preferred:
        return {}
    share = (1 - _STAYS) / len(preferred)
    of = {SOURCE_ONLY: (ordered[0].epoch, _STAYS)} | {c.method: (c.epoch, share) for c in preferred}
    return dict(sorted(of.items()))  # as in the file: sums of floats depend on their order


def parts(made: Mapping[str, Any], method: str) -> dict[str, tuple[int, float]]:
    """Returns trained method -> (epoch, share of the logits) of what answers under a name of `choice.json`.

    >>> parts({"best_epoch": {"mcc": 20}}, "mcc")
    {'mcc': (20, 1.0)}
    """
    shares = made["half_step"] if method == HALF_STEP else {method: 1.0}
    return {name: (made["best_epoch"][name], share) for name, share in shares.items()}


def within_guards(candidates: Sequence[Candidate], guards: Guards, classes: int) -> list[Candidate]:
    """Returns the candidates that no guard refuses, whatever their scores: those that have a voice in the consensus."""
    highest = _highest(candidates)
    return [c for c in candidates if not _reasons(c, highest, guards, classes)]


def curve_faults(curves: Sequence[Mapping[str, Any]], epoch: int) -> list[str]:
    """Returns what is wrong with the losses of one seed up to an epoch.

    >>> curve_faults([{"epoch": 1, "loss_source": 0.0, "loss_mmd": 0.0}], 1)
    ['loss_source is zero over epoch 1']
    """
    faults = []
    for line in curves:
        for name, value in sorted(line.items()):
            if not name.startswith("loss_") or line["epoch"] > epoch:
                continue
            if value is None or not math.isfinite(value):
                faults.append(f"{name} is not a number in epoch {line['epoch']}")
            elif value == 0 and name == SUPERVISED:
                faults.append(f"{name} is zero over epoch {line['epoch']}")
    return faults


def _judged(
    stand: Mapping[str, Candidate], highest: float, guards: Guards, classes: int
) -> tuple[list[Candidate], list[dict[str, str]]]:
    """Returns the trained candidates that methods stand with, source-only's first, and what holds each back."""
    trained = [c for method, c in stand.items() if method != HALF_STEP]
    ordered = sorted(trained, key=lambda c: (c.method != SOURCE_ONLY, c.method))
    return ordered, [_reasons(c, highest, guards, classes) | _unscored(c) for c in ordered]


def _highest(candidates: Sequence[Candidate]) -> float:
    return max((c.source_val_accuracy for c in candidates if c.method == SOURCE_ONLY), default=0.0)


def _scored_by(candidate: Candidate) -> list[str]:
    return [v for v, s in sorted(candidate.scores.items()) if s is not None and v not in candidate.optimises]


def _reasons(candidate: Candidate, floor: float, guards: Guards, classes: int) -> dict[str, str]:
    if candidate.method == SOURCE_ONLY:
        return {}
    out: dict[str, str] = {}
    if candidate.source_val_accuracy < floor - guards.source_floor:
        out["source accuracy"] = (
            f"source validation accuracy {candidate.source_val_accuracy:.3f} is more than {guards.source_floor:.3f}"
            f" below source_only's {floor:.3f}"
        )
    share, used = guards.min_effective_classes, candidate.effective_classes
    least = max(share * classes, 1.0 + _LEAST_USED * share)
    if used is not None and used < least:
        out["collapse"] = f"{used:.2f} effective classes on the target, under {least:.2f} of {classes}"
    elif candidate.predicted_classes < ONE_CLASS:
        out["collapse"] = "over 99% of the target images are predicted as one class"
    if candidate.seed_disagreement > guards.max_seed_disagreement:
        out["seeds disagree"] = (
            f"seeds disagree on {candidate.seed_disagreement:.3f} of the target images, over"
            f" {guards.max_seed_disagreement:.3f}"
        )
    if candidate.faults:
        more = f" (and {len(candidate.faults) - 1} more)" if len(candidate.faults) > 1 else ""
        out["training failed"] = candidate.faults[0] + more
    return out


def _unscored(candidate: Candidate) -> dict[str, str]:
    if candidate.method == SOURCE_ONLY or _scored_by(candidate):
        return {}
    return {"no validator": "no validator may score it: the method optimises them all, or no score is finite"}


def _ranks(candidates: Sequence[Candidate]) -> dict[str, float]:
    from scipy.stats import rankdata  # 0.5 s of start-up that those who read constants of this file do without

    gathered: dict[str, list[float]] = {c.method: [] for c in candidates}
    for validator in sorted({v for c in candidates for v in c.scores}):
        judged = [c for c in candidates if validator in _scored_by(c)]
        places = rankdata([c.scores[validator] for c in judged])
        for candidate, place in zip(judged, places, strict=True):
            share = (place - 1) / (len(judged) - 1) if len(judged) > 1 else 0.5
            gathered[candidate.method].append(float(share))
    return {key: round(float(np.mean(shares)), _DIGITS) if shares else 0.0 for key, shares in gathered.items()}


def _why(
    first: Candidate, ranks: Mapping[str, float], adapted: Sequence[Mapping[str, str]], preferred: Sequence[str]
) -> str:
    inside = sum(1 for out in adapted if not out)
    if not adapted:
        return f"No adapted method is named under methods: source_only, epoch {first.epoch}, is all there is."
    if not inside:
        counts = Counter(kind for out in adapted for kind in out)
        listed = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
        return (
            f"None of the {len(adapted)} adapted candidates passed the guards ({listed}), so nothing is adapted:"
            f" source_only, epoch {first.epoch}."
        )
    rank = ranks[first.method]
    among = f" of the preferred ({', '.join(preferred)})" if preferred else ""
    passed = f"{inside} of {len(adapted)} adapted candidates passed the guards"
    if first.method == SOURCE_ONLY:
        head = f"source_only, epoch {first.epoch}, has the highest mean rank, {rank:.2f}"
        return f"{head}; {passed}, none{among} looks better."
    return (
        f"{first.method}, epoch {first.epoch}, has the highest mean rank{among} over {len(_scored_by(first))}"
        f" validators, {rank:.2f} (source_only: {ranks[SOURCE_ONLY]:.2f}); {passed}."
    )


def _left(tested: Mapping[str, Any] | None, chosen: Candidate, preferred: Sequence[str]) -> str:
    if tested is None:
        return ""
    text = f" Carried back to the source, its advantage over source_only has p = {tested['p_value']:.3f}"
    if chosen.method == SOURCE_ONLY:
        return f"{text}, not under {tested['level']:g}: the choice stays at source_only, epoch {chosen.epoch}."
    if chosen.method == HALF_STEP:
        return (
            f"{text}, not under {tested['level']:g}: half a step is taken, the mean of source_only and of"
            f" {' and '.join(preferred)}."
        )
    return f"{text}, under {tested['level']:g}."
