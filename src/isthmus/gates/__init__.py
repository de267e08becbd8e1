"""Rules that a candidate must pass before promotion. One module a rule; a rule named under `gates:` runs."""

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from isthmus.core.config import Config
from isthmus.core.errors import DataError
from isthmus.gates.scored import NO_LABELS, TARGET, Scored

Verdict = Literal["pass", "refuse", "person"]


@dataclass(frozen=True)
class Reason:
    """One finding of one rule, with its number and its threshold.

    Attributes:
        rule: name of the rule's module.
        verdict: `pass`; `refuse`: the gate says no (exit 3); `person`: a person must decide (exit 4).
        number: the measured value, None where there is none.
        threshold: what it was held against.
        text: one sentence a person can act on; not what follows from the verdict, which the gate says.
    """

    rule: str
    verdict: Verdict
    number: float | None
    threshold: float | None
    text: str

    def as_json(self) -> dict[str, Any]:
        """Returns the reason as JSON types, which have no NaN: a score that is not defined is no number."""
        defined = self.number is not None and not math.isnan(self.number)
        return asdict(self) | {"number": self.number if defined else None}


@dataclass(frozen=True)
class Evidence:
    """What the stages of one scenario measured, read from their files.

    Attributes:
        metrics: `metrics.json`: source and label-free numbers.
        truth: `truth.json`: what needed target labels; its `available` says whether there were any.
        choice: `choice.json`.
        scored: what the registered models themselves answered; None where no model was asked.
    """

    metrics: dict[str, float]
    truth: dict[str, Any]
    choice: dict[str, Any]
    scored: Scored | None = None

    @property
    def answers(self) -> Scored:
        """Returns what the models answered.

        Raises:
            DataError: no model was asked.
        """
        if self.scored is None:
            raise DataError("a rule under gates: needs the models' own predictions. Run 'isthmus score' first")
        return self.scored

    @property
    def metric(self) -> str:
        """Returns the key of the score that methods are compared by in `truth.json`."""
        return str(self.truth.get("metric", self.scored.metric if self.scored else "balanced_accuracy"))

    @property
    def metric_name(self) -> str:
        """Returns that score's name for people."""
        return name_of(self.metric)

    @property
    def unscored(self) -> str:
        """Returns why methods have no score on the target, where they have none, as a reason begins."""
        if found := self.truth.get("anomaly"):
            seen = f"{found['good']} good and {found['defective']} defective"
            return f"{seen} target test images have labels, and a score needs both kinds"
        return NO_LABELS[TARGET]

    def silence(self, rule: str) -> list[Reason]:
        """Returns a refusal where the candidate gave no answer that a rule could look at, else nothing."""
        if self.answers.candidate.failure:
            return [Reason(rule, "refuse", None, None, "not measured: the candidate did not answer (see loads_alone)")]
        return []


def name_of(metric: str) -> str:
    """Returns the name of a score for people.

    >>> name_of("ap50"), name_of("balanced_accuracy")
    ('AP50', 'balanced accuracy')
    """
    return {"mean_iou": "mean IoU", "ap50": "AP50", "auroc": "AUROC"}.get(metric, metric.replace("_", " "))


class Rule(Config, ABC):
    """A final class `Config(Rule)` stands in each module of `gates/rules/`; its fields are the thresholds."""

    needs_answers: ClassVar[bool] = False  # True: it reads what `isthmus score` wrote
    judges_files: ClassVar[bool] = False  # True: it reads answers alone, so that it judges an exported file too

    @abstractmethod
    def reasons(self, evidence: Evidence) -> list[Reason]:
        """Returns what this rule finds; pure. A passed rule returns its numbers too."""
