"""Refuses a candidate that could not be made again: data or code that lie on one machine alone.

Which remotes count is the project's own setting: DVC's default remote for the data, `lineage.git_remote` in
`params.yaml` for the snapshot. Where none is set there is nothing to hold it against; the finding says "local only".
"""

from typing import Any, ClassVar

from pydantic import Field

from isthmus.gates import Evidence, Reason, Rule

NAME = "retrievable"
_NEXT = {
    "data": "Run 'dvc push' and 'dvc push data/raw/NAME.dvc'",
    "snapshot": "Run 'git push {remote} refs/isthmus/*:refs/isthmus/*'",
}
_UNSET = {"data": "DVC has no default remote", "snapshot": "lineage.git_remote in params.yaml names no git remote"}


class Config(Rule):
    """What counts as retrievable."""

    needs_answers: ClassVar[bool] = True

    local_only: bool = Field(True, description="accept a project without a DVC remote or a git remote")

    def reasons(self, evidence: Evidence) -> list[Reason]:
        """Returns one finding for the data and one for the snapshot of the code."""
        return [self._finding(what, evidence.answers.origin[what]) for what in ("data", "snapshot")]

    def _finding(self, what: str, origin: dict[str, Any]) -> Reason:
        if not origin["place"]:
            verdict = "pass" if self.local_only else "refuse"
            text = f"{what}: local only, {_UNSET[what]}"
            return Reason(NAME, "pass" if verdict == "pass" else "refuse", None, None, text)
        if origin["found"]:
            return Reason(NAME, "pass", 0.0, 0.0, f"{what}: all of it is in the remote '{origin['place']}'")
        missing: list[str] = origin["missing"]
        step = _NEXT[what].format(remote=origin["place"])
        text = f"{what}: not in the remote '{origin['place']}': {', '.join(missing[:3])}. {step}, score again"
        return Reason(NAME, "refuse", float(len(missing)), 0.0, text)
