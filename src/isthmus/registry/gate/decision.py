"""The gate's answer for one version: `decision.json`, bound by hashes to version, evidence and expected champion.

The hash of the whole decision is a tag of the version in the registry, set by the gate alone, and the record of
promotions keeps it. `verification.py` holds a decision against all of that before anything is promoted.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from isthmus.core.errors import DataError, StoreError
from isthmus.core.files import read_json, sha256_bytes, write_json
from isthmus.gates.judge import EXIT, judge, needs_answers
from isthmus.gates.scored import set_md5
from isthmus.registry.gate.evaluation_log import choice_of, refuse
from isthmus.registry.gate.score import check_champion, check_unchanged, current_set, evidence_folder
from isthmus.registry.publish.publish import CHAMPION as CHAMPION
from isthmus.registry.publish.publish import find_published
from isthmus.registry.store.tracking import Store

FOLDER = Path(".isthmus") / "decisions"
MEANING = {"yes": "yes", "no": "no", "person": "a person must decide"}  # of a verdict
DECISION = "isthmus.decision"  # tag of a version: sha256 of the decision that the gate made last


@dataclass(frozen=True)
class Decision:
    """What the gate says of one version, with all it rests on.

    Attributes:
        scenario: its name.
        model: registered name.
        version: the candidate's number.
        model_id: the candidate's id, which binds the decision to this model in this store.
        lock_key: of the lock entries that were judged.
        expected_champion: the champion's number when this was decided, None where there was none.
        champion_id: the champion's id: in a registry that was restored from a copy, numbers come again.
        verdict: `yes`, `no`, or `person`: a person must decide.
        reasons: every finding: rule, verdict, number, threshold, text.
        rules: thresholds of each rule that ran.
        evidence: file -> sha256.
    """

    scenario: str
    model: str
    version: str
    model_id: str
    lock_key: str
    expected_champion: str | None
    champion_id: str | None
    verdict: Literal["yes", "no", "person"]
    reasons: list[dict[str, Any]]
    rules: dict[str, dict[str, Any]]
    evidence: dict[str, str]

    @property
    def exit_status(self) -> int:
        """0 yes, 3 no, 4 a person must decide."""
        return EXIT[self.verdict]

    @property
    def sha256(self) -> str:
        """Hash of all of it: what an approval and the record of a promotion are bound to."""
        return sha256_bytes(json.dumps(asdict(self), sort_keys=True).encode())

    def table(self) -> str:
        """Returns the decision as text for a person: one line a finding, then the verdict."""
        against = (
            f"champion {self.expected_champion}" if self.expected_champion else "no champion yet: a first promotion"
        )
        return "\n".join(
            [findings(self.reasons), f"{self.model} version {self.version} ({against}): {MEANING[self.verdict]}"]
        )


def findings(reasons: list[dict[str, Any]]) -> str:
    """Returns the findings of rules as text, one line a finding below a line of heads."""
    rows = [("rule", "says", "number", "threshold", "")]
    rows += [(r["rule"], r["verdict"], _number(r["number"]), _number(r["threshold"]), r["text"]) for r in reasons]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join("  ".join([*(row[c].ljust(widths[c]) for c in range(4)), row[4]]).rstrip() for row in rows)


def gate(project: Path, scenario: str) -> Decision:
    """Evaluates the published results of a scenario by the rules and writes `decision.json`.

    The rules see files alone; the store is asked only which version these results are, and who is champion.

    Raises:
        StoreError: the results are stale, were not published, or a rule needs scores and there are none of now, or
            others than were written down when the models were asked.
        ConfigError: a rule under `gates:` is wrong.
    """
    lineage, published, store = find_published(project, scenario)
    params, champion = lineage.path("report", "params"), store.aliases(published.model).get(CHAMPION)
    scored: Path | None = None
    if needs_answers(params):
        scored = evidence_folder(lineage.project, published.model_id)
        check_champion(scored, scenario, champion)
        check_unchanged(scored, scenario, store.version_tags(published.model, published.version))
    judgement = judge(
        params,
        metrics=lineage.path("evaluate", "metrics"),
        truth=lineage.path("evaluate", "truth"),
        choice=lineage.path("select", "choice"),
        scored=scored,
        set_md5=set_md5(current_set(lineage)) if scored else "",
    )
    decision = Decision(
        scenario,
        published.model,
        published.version,
        published.model_id,
        published.key,
        champion,
        None if champion is None else store.model_of(published.model, champion),
        judgement.verdict,
        judgement.reasons,
        judgement.rules,
        judgement.evidence,
    )
    write_decision(lineage.project, store, decision)
    if scored and decision.verdict == "no":
        refuse(lineage.project, scenario, choice_of(lineage))
    return decision


def write_decision(project: Path, store: Store, decision: Decision) -> None:
    """Writes a decision, and its hash as a tag of the version that it is about."""
    write_json(decision_path(project, decision.model_id), asdict(decision))
    store.tag_version(decision.model, decision.version, {DECISION: decision.sha256})


def decision_path(project: Path, model_id: str) -> Path:
    """Returns where the decision on a model lies; by its id, since numbers repeat from store to store."""
    return project / FOLDER / model_id / "decision.json"


def read_decision(project: Path, scenario: str, version: str, model_id: str) -> Decision:
    """Reads the decision on a version.

    Raises:
        StoreError: there is none, or the file is not a decision of ours.
    """
    path = decision_path(project, model_id)
    if not path.exists():
        raise StoreError(f"{path}: no decision on version {version}. Run 'isthmus gate {scenario}'")
    try:
        decision = Decision(**read_json(path))
    except (TypeError, DataError):
        decision = None
    if decision is None or decision.verdict not in EXIT:
        raise StoreError(f"{path}: not a decision of this version of Isthmus. Run 'isthmus gate {scenario}' again")
    return decision


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
