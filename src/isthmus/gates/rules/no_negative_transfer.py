"""Refuses an adapted model that is worse on the target than the same network trained on the source alone.

Negative transfer (Pan and Yang, IEEE TKDE 2010, "A survey on transfer learning", section 2.4): adaptation can
hurt. The difference is paired, image by image, and its interval comes from resampling groups in `evaluate`.
"""

from typing import Any

from pydantic import Field

from isthmus.evaluation.scoring.comparison import FEW_GROUPS
from isthmus.gates import Evidence, Reason, Rule, Verdict

NAME = "no_negative_transfer"
_FLOOR_METHOD = "source_only"


class Config(Rule):
    """Two ways to fail: the whole interval lies below zero, or the mean does by more than the margin.

    Images of under six groups cannot show that adaptation lost nothing: a person decides.
    """

    margin: float = Field(0.02, ge=0, le=1, description="[share] of balanced accuracy that the mean may lose")

    def reasons(self, evidence: Evidence) -> list[Reason]:
        """Returns one finding: the chosen method minus source-only, in balanced accuracy on the target."""
        chosen = evidence.choice["chosen"]
        if chosen["fallback"] or chosen["method"] == _FLOOR_METHOD:
            text = f"{chosen['method']} was chosen: nothing was adapted, so adaptation lost nothing"
            return [Reason(NAME, "pass", 0.0, -self.margin, text)]
        if not evidence.truth["available"]:
            text = f"{evidence.unscored}: whether {chosen['method']} beats source_only is not known"
            return [Reason(NAME, "person", None, -self.margin, text)]
        gain = evidence.truth["methods"][chosen["method"]]["minus_source_only"]
        groups = evidence.truth.get("groups", FEW_GROUPS)  # results of earlier versions do not count them
        return [self._compare(chosen["method"], gain, groups)]

    def _compare(self, method: str, gain: dict[str, Any], groups: int) -> Reason:
        seen = f"{method} minus source_only is {gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
        verdict: Verdict = "refuse"
        if gain["high"] < 0:
            text = f"{seen}: the whole interval lies below zero"
        elif gain["mean"] < -self.margin:
            text = f"{seen}: the mean is below -{self.margin:.3f}"
        elif groups < FEW_GROUPS:
            what = "one group (patient, lot, scene)" if groups == 1 else f"{groups} groups (patients, lots, scenes)"
            verdict, text = (
                "person",
                f"{seen}, but the labelled target test images are of {what}: {FEW_GROUPS} are needed",
            )
        else:
            verdict, text = "pass", f"{seen}: not worse by more than {self.margin:.3f}"
        return Reason(NAME, verdict, gain["mean"], -self.margin, text)
