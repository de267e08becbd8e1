"""The choice without target labels: guards refuse what failed, and what is left of a fixed list answers together.

**Answer.** The mean of the probabilities of the methods under `select.average` (zscore and mcc), over all seeds, as one
model (deep ensembles: Lakshminarayanan et al., NeurIPS 2017). Where none of them is under `methods`, all adapted
methods are averaged. On 21 real pairs no rule that ranks methods by label-free scores was better (docs/decisions/0030).

**Guards.** A method is refused if
- training failed: a loss or an output is not finite, or the supervised loss is exactly zero over a whole epoch, in any
  seed;
- it collapsed: over 99% of the target images get one class (of cells: see `evaluation/mask_guards.py`);
- it did not learn: on the source's validation split its balanced accuracy is not shown to be better than by chance
  (one-sided permutation test at `significance`), where the split is large enough to show it.
Lost source accuracy, uneven predictions and seeds that disagree refuse nothing: on the same pairs they refused more
methods that gained than methods that lost.

Where every method is refused, the answer is source-only: training on the source alone.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from pydantic import Field

from isthmus.core.config import Config
from isthmus.core.errors import DataError

SOURCE_ONLY = "source_only"
ENSEMBLE = "ensemble"  # no method that is trained: the mean of those that the choice averages
SUPERVISED = "loss_source"  # every method names its loss on labelled source images so


class Guards(Config):
    """Limits that a method must keep."""

    significance: float = Field(
        0.05, gt=0.001, lt=1, description="[p-value] under which a method is better than chance"
    )


class Words(NamedTuple):
    """What a task's guards say of a method that they refuse."""

    collapsed: str = "nearly all of the target is predicted as one class"
    not_learned: str = "source validation images are not shown to be told apart better than by chance"


OF_CLASSES = Words()


class Part(NamedTuple):
    """One trained network of the model that answers."""

    method: str
    seed: int
    epoch: int


@dataclass(frozen=True)
class Candidate:
    """What is known of a method at its last epoch without target labels; numbers are means over seeds.

    Attributes:
        scores: validator -> score, higher is better; None where it is not finite. Reported, not used.
        source_val_accuracy: [share].
        learned: whether balanced accuracy there is shown to be better than by chance, and the p-value.
        effective_classes: exp(H(mean p)) on the target's training split; None where it is not finite.
        collapsed: whether nearly all target images get one class.
        seed_disagreement: [share] of target images.
        faults: what is wrong with curves or outputs, each reason once.
        refused: reasons of the guards.
    """

    method: str
    epoch: int
    scores: Mapping[str, float | None]
    source_val_accuracy: float
    learned: tuple[bool, float]
    effective_classes: float | None
    collapsed: bool
    seed_disagreement: float
    faults: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """What was chosen and why.

    Attributes:
        average: methods whose mean answers; none where source-only does.
        why: one sentence.
        candidates: all methods, refused ones with their reasons.
    """

    average: list[str]
    why: str
    candidates: list[Candidate]


def choose(
    candidates: Sequence[Candidate], average: Sequence[str], labels: int = 0, words: Words = OF_CLASSES
) -> Choice:
    """Returns the choice, the same for any order of the candidates.

    Args:
        candidates: one a method; source-only must be among them and is never refused.
        average: methods whose mean is the answer; source-only can be one of them, and alone is an answer too.
        labels: target images whose labels these methods were trained with.
        words: of the task's guards.

    Raises:
        DataError: there is no candidate of source-only.
    """
    held = [replace(c, refused=tuple(refusals(c, words).values())) for c in sorted(candidates, key=_source_first)]
    if not held or held[0].method != SOURCE_ONLY:
        raise DataError("source_only is not among the candidates: it is the floor. Run 'dvc repro' to train it")
    if list(average) == [SOURCE_ONLY]:
        return Choice([], "select.average names source_only: training on the source alone answers.", held)
    adapted = held[1:]
    named = [c for c in adapted if c.method in average] or adapted
    passed = [c.method for c in named if not c.refused]
    if passed and SOURCE_ONLY in average:
        passed = [SOURCE_ONLY, *passed]
    return Choice(passed, _why(passed, named, labels), held)


def parts(made: Mapping[str, Any], method: str) -> list[Part]:
    """Returns the networks that answer under a name of `choice.json`; their probabilities are averaged.

    >>> parts({"epochs": {"mcc": 20}, "chosen": {"seed": 0}, "ensemble": None}, "mcc")
    [Part(method='mcc', seed=0, epoch=20)]
    """
    of = made["ensemble"] if method == ENSEMBLE else {method: [made["chosen"]["seed"]]}
    return [Part(name, seed, made["epochs"][name]) for name, seeds in of.items() for seed in seeds]


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


def _source_first(candidate: Candidate) -> tuple[bool, str]:
    return candidate.method != SOURCE_ONLY, candidate.method


def refusals(candidate: Candidate, words: Words = OF_CLASSES) -> dict[str, str]:
    """Returns why the guards refuse a candidate: what is wrong -> a sentence; source-only is never refused."""
    if candidate.method == SOURCE_ONLY:
        return {}
    out: dict[str, str] = {}
    if candidate.faults:
        more = f" (and {len(candidate.faults) - 1} more)" if len(candidate.faults) > 1 else ""
        out["training failed"] = candidate.faults[0] + more
    if candidate.collapsed:
        out["collapse"] = words.collapsed
    shown, p_value = candidate.learned
    if not shown:
        out["not learned"] = f"{words.not_learned} (accuracy {candidate.source_val_accuracy:.3f}, p = {p_value:.2g})"
    return out


def _why(passed: Sequence[str], named: Sequence[Candidate], labels: int) -> str:
    if not named:
        return "No adapted method is named under methods: source_only is all there is."
    refused = [c for c in named if c.refused]
    counts = Counter(kind for c in refused for kind in refusals(c))
    listed = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
    if not passed:
        return f"The guards refused every adapted method that would answer ({listed}), so source_only answers."
    left = f"; the guards refused {', '.join(c.method for c in refused)} ({listed})" if refused else ""
    answer = f"The mean of {' and '.join(passed)}" if len(passed) > 1 else f"{passed[0]} answers"
    if labels:
        return f"{answer}, trained with {labels} labelled target images: fixed in advance, no score was used{left}."
    return f"{answer}: fixed in advance, no target label and no score was used{left}."
