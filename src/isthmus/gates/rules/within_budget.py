"""Refuses a candidate that is too slow or too large, or much slower than the champion it would replace.

Both are timed one image at a time on one thread, in processes of their own, one after the other on one machine. The
ratio compares the fastest calls: what else runs on the machine only ever adds time.
"""

from typing import ClassVar

from pydantic import Field

from isthmus.gates import Evidence, Reason, Rule

NAME = "within_budget"
_MIB = 2**20


class Config(Rule):
    """Limits that hold for every candidate, and one against the champion."""

    needs_answers: ClassVar[bool] = True
    judges_files: ClassVar[bool] = True

    max_seconds: float = Field(2.0, gt=0, description="[s] median for one image, from file to answer")
    max_times_champion: float = Field(1.5, ge=1, description="fastest call as a multiple of the champion's")
    max_size: float = Field(1000.0, gt=0, description="[MiB] all files of the model")

    def reasons(self, evidence: Evidence) -> list[Reason]:
        """Returns latency, size and, where a champion answered, the ratio."""
        return evidence.silence(NAME) or self._findings(evidence)

    def _findings(self, evidence: Evidence) -> list[Reason]:
        candidate, champion = evidence.answers.candidate, evidence.answers.champion
        seconds, size = candidate.latency["median_s"], candidate.size_bytes / _MIB
        found = [
            _reason(seconds, self.max_seconds, f"{seconds:.3f} s an image, allowed {self.max_seconds:.3f} s"),
            _reason(size, self.max_size, f"{size:.1f} MiB, allowed {self.max_size:.1f} MiB"),
        ]
        if champion is not None and not champion.failure:
            ratio = candidate.latency["fastest_s"] / max(champion.latency["fastest_s"], 1e-9)
            text = f"takes {ratio:.2f} times as long as champion {champion.version}, allowed {self.max_times_champion}"
            found.append(_reason(ratio, self.max_times_champion, text))
        return found


def _reason(number: float, limit: float, text: str) -> Reason:
    return Reason(NAME, "pass" if number <= limit else "refuse", number, limit, text)
