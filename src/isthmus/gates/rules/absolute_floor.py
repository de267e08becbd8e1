"""Refuses a model whose score on labelled target images is below a minimum: balanced accuracy, mean IoU, or AP50.

Balanced accuracy is the mean recall over classes (Brodersen et al., ICPR 2010, "The balanced accuracy and its posterior
distribution"); guessing gives 1 / K for K classes, whatever the classes' shares. Mean IoU of guessing is at most that,
and AP50 of boxes near zero.
"""

from typing import Any

from pydantic import Field

from isthmus.gates import Evidence, Reason, Rule, Verdict

NAME = "absolute_floor"


class Config(Rule):
    """The floor is the higher of a fixed number and a distance above guessing: 0.3 alone would pass a coin toss."""

    min_balanced_accuracy: float = Field(0.3, ge=0, le=1, description="[share] on the target test split")
    above_chance: float = Field(0.1, ge=0, le=1, description="[share] above 1 / number of classes")

    def reasons(self, evidence: Evidence) -> list[Reason]:
        """Returns one finding for the mean over seeds and one for the seed that ships."""
        chosen = evidence.choice["chosen"]["method"]
        chance = evidence.truth["available"] and evidence.metric != "ap50"
        floor = self.floor(len(evidence.truth["classes"])) if chance else self.min_balanced_accuracy
        if not evidence.truth["available"] and "measured" in evidence.truth:
            return [self._measured(chosen, evidence.truth["measured"])]
        if not evidence.truth["available"]:
            text = f"{evidence.unscored}: whether {chosen} reaches the floor is not known"
            return [Reason(NAME, "person", None, floor, text)]
        score = evidence.truth["methods"][chosen][evidence.metric]
        # The first seed ships; a good mean must not carry a bad shipped model through.
        numbers = {"mean over seeds": score["mean"], "the seed that ships": score["per_seed"][0]}
        of = f"target {evidence.metric_name} of {chosen}"
        return [self._reason(f"{of} ({what})", number, floor) for what, number in numbers.items()]

    def _measured(self, chosen: str, measured: dict[str, Any]) -> Reason:
        """Returns the finding from few labels of random images, on which only the plain accuracy is known.

        It is no balanced accuracy: a model that gives one class alone may reach the floor by it. So it can refuse, and
        never pass on its own.
        """
        score, floor = measured["methods"][chosen], self.min_balanced_accuracy
        seen = (
            f"accuracy of {chosen} measured on {measured['count']} random target images {score['accuracy']:.3f}"
            f" [{score['low']:.3f}, {score['high']:.3f}]"
        )
        if score["high"] < floor:
            return Reason(NAME, "refuse", score["accuracy"], floor, f"{seen}: all of it is below the floor {floor:.3f}")
        text = f"{seen}, of all classes together; the floor {floor:.3f} is of balanced accuracy"
        return Reason(NAME, "person", score["accuracy"], floor, text)

    def floor(self, classes: int) -> float:
        """Returns the balanced accuracy that must be reached.

        >>> Config(min_balanced_accuracy=0.3, above_chance=0.1).floor(2)
        0.6
        """
        return max(self.min_balanced_accuracy, min(1.0, 1 / classes + self.above_chance))

    def _reason(self, what: str, number: float, floor: float) -> Reason:
        verdict: Verdict = "pass" if number >= floor else "refuse"
        relation = "reaches" if verdict == "pass" else "is below"
        text = f"{what} {number:.3f} {relation} the floor {floor:.3f}"
        return Reason(NAME, verdict, number, floor, text)
