"""Whether a decision is the gate's own and still holds: looked at before a promotion, and refused for any doubt.

A decision is a file that anybody can edit. So it is held against four things: what it must name; its hash, which the
gate left in the registry; the evidence, whose files must have the hashes that it names; and the rules themselves, which
are run again on that evidence.
"""

import tempfile
from pathlib import Path
from typing import Any

from isthmus.core.errors import IsthmusError, StoreError
from isthmus.core.files import md5_file, read_json, sha256_file
from isthmus.gates.judge import judge, read_rules
from isthmus.registry.gate.decision import DECISION, Decision, read_decision
from isthmus.registry.gate.score import evidence_folder
from isthmus.registry.lineage.lineage import read_lock
from isthmus.registry.store.tracking import Store
from isthmus.registry.trace.trace import Version, fetched

_RESULTS = {"metrics": "evaluate", "truth": "evaluate", "choice": "select"}  # evidence -> the stage that writes it


class PromotionRefusedError(IsthmusError):
    """The gate is closed for this version. Exit status 3."""

    exit_status = 3


def intact_decision(project: Path, store: Store, scenario: str, model: str, version: str) -> Decision:
    """Returns the gate's decision on a version, unchanged since the gate made it.

    Raises:
        StoreError: there is no such version, or no decision on it.
        PromotionRefusedError: the file is about something else, or is not what the gate wrote.
    """
    model_id = store.model_of(model, version)
    if model_id is None:
        raise StoreError(f"{model}: no version {version} in {store.place}. Run 'isthmus publish {scenario}'")
    decision = read_decision(project, scenario, version, model_id)
    what, again = f"{model} version {version}", f"Run 'isthmus gate {scenario}' again"
    wanted = {"scenario": scenario, "model": model, "version": version, "model_id": model_id}
    other = [f"{key} {getattr(decision, key)}" for key, value in wanted.items() if getattr(decision, key) != value]
    if other:
        raise PromotionRefusedError(f"{what}: its decision is about another one: {', '.join(other)}. {again}")
    recorded = store.version_tags(model, version).get(DECISION)
    if recorded != decision.sha256:
        why = "was changed after the gate wrote it" if recorded else "is not the gate's: the registry has no hash of it"
        raise PromotionRefusedError(f"{what}: its decision {why}. {again}")
    return decision


def judge_again(project: Path, store: Store, decision: Decision) -> None:
    """Runs the rules again on the evidence that a decision names, which must lead to the same findings.

    Metrics, truth and choice come from the version's run: what lies in the working tree may be of a later one.

    Raises:
        PromotionRefusedError: evidence or rules were changed or are gone, or the findings are others.
        DataError: evidence is broken.
    """
    what = f"{decision.model} version {decision.version}"
    again = f"Run 'isthmus score {decision.scenario}' and 'isthmus gate {decision.scenario}' again"
    params = project / "params.yaml"
    if {name: rule.model_dump(mode="json") for name, rule in read_rules(params).items()} != decision.rules:
        raise PromotionRefusedError(f"{what}: 'gates:' in {params} has other rules than those of the decision. {again}")
    run = store.run_of(decision.model, decision.version) or ""
    version = Version(decision.model, decision.version, decision.model_id, run)
    scored = evidence_folder(project, decision.model_id) if "scored" in decision.evidence else None
    if scored and not (scored / "evidence.json").is_file():
        raise PromotionRefusedError(f"{what}: the evidence that its decision names is gone from {scored}. {again}")
    facts = read_json(scored / "evidence.json") if scored else {"set_md5": ""}
    with tempfile.TemporaryDirectory() as folder:
        files = {name: fetched(store, version, f"{name}.json", Path(folder)) for name in _RESULTS}
        named = files | ({"scored": scored / "evidence.json"} if scored else {})
        now = {name: sha256_file(path) for name, path in named.items()}
        changed = [name for name in sorted(now | decision.evidence) if now.get(name) != decision.evidence.get(name)]
        if changed := changed + _edited(project, decision.scenario, files):
            raise PromotionRefusedError(
                f"{what}: evidence was changed after the decision: {', '.join(changed)}. {again}"
            )
        found = judge(params, **files, scored=scored, set_md5=facts["set_md5"])
    if _findings(found.verdict, found.reasons) != _findings(decision.verdict, decision.reasons):
        raise PromotionRefusedError(
            f"{what}: the decision says '{decision.verdict}', but from the same evidence the rules now decide"
            f" '{found.verdict}'. {again}"
        )


def _findings(verdict: str, reasons: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [("", verdict), *((reason["rule"], reason["verdict"]) for reason in reasons)]


def _edited(project: Path, scenario: str, files: dict[str, Path]) -> list[str]:
    """Returns files of the working tree that dvc.lock has as this evidence, and that are something else now."""
    if not (project / "dvc.lock").exists():
        return []
    lock, edited = read_lock(project), []
    evidence = {md5_file(path): sha256_file(path) for path in files.values()}
    for stage in sorted(set(_RESULTS.values())):
        for out in lock.get(f"{stage}@{scenario}", {}).get("outs", []):
            here = project / out["path"]
            if out.get("md5") in evidence and here.is_file() and sha256_file(here) != evidence[out["md5"]]:
                edited.append(out["path"])
    return edited
