"""A decision that is not the gate's own, or no longer holds, promotes nothing."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.core.errors import StoreError
from isthmus.core.files import read_json, write_json
from isthmus.registry.gate.decision import DECISION, decision_path, read_decision, write_decision
from isthmus.registry.promotion.promotion import ApprovalNeededError, PromotionRefusedError, promote
from isthmus.registry.promotion.verification import judge_again
from isthmus.registry.store.stores import open_store
from tests.registry.versions import MODEL, add_version, aliases, decide

CHANGED = r"version 1: its decision was changed after the gate wrote it. Run 'isthmus gate demo' again"


def path_of(project: Path, version: str = "1") -> Path:
    return decision_path(project, open_store(project).model_of(MODEL, version) or "")


def edit(project: Path, **values: Any) -> None:
    write_json(path_of(project), read_json(path_of(project)) | values)


@pytest.fixture
def refused_by_gate(empty_files: Path) -> Path:
    decide(empty_files, add_version(empty_files, "no"), None)
    return empty_files


@pytest.fixture
def allowed(empty_files: Path) -> Path:
    decide(empty_files, add_version(empty_files), None)
    return empty_files


@pytest.mark.parametrize(
    "values",
    [
        {"verdict": "yes"},
        {"verdict": "yes", "reasons": []},
        {"verdict": "person"},
        {"rules": {}},
        {"expected_champion": "7"},
        {"champion_id": "m-0"},
        {"evidence": {}},
        {"lock_key": "another"},
    ],
)
def test_an_edited_decision_is_refused_whoever_approves(refused_by_gate: Path, values: dict[str, Any]) -> None:
    edit(refused_by_gate, **values)

    for name in (None, "Ada"):
        with pytest.raises(PromotionRefusedError, match=CHANGED):
            promote(refused_by_gate, "demo", name)
    assert aliases(refused_by_gate) == {}


@pytest.mark.parametrize("verdict", ["maybe", "YES", "", None, True])
def test_a_verdict_that_no_gate_gives_is_refused(allowed: Path, verdict: Any) -> None:
    edit(allowed, verdict=verdict)

    with pytest.raises(
        StoreError, match=r"decision.json: not a decision of this version of Isthmus. Run 'isthmus gate"
    ):
        promote(allowed, "demo", "Ada")
    assert aliases(allowed) == {}


@pytest.mark.parametrize("missing", ["verdict", "evidence", "expected_champion", "reasons", "model_id"])
def test_a_decision_that_lacks_something_is_refused(allowed: Path, missing: str) -> None:
    values = read_json(path_of(allowed))
    del values[missing]
    path_of(allowed).write_text(json.dumps(values))

    with pytest.raises(StoreError, match="not a decision of this version of Isthmus"):
        promote(allowed, "demo")


def test_a_decision_that_is_no_json_is_refused(allowed: Path) -> None:
    path_of(allowed).write_text("yes")

    with pytest.raises(StoreError, match="not a decision of this version of Isthmus"):
        promote(allowed, "demo")


def test_the_decision_of_another_model_is_refused_with_what_it_is_about(refused_by_gate: Path) -> None:
    good = add_version(refused_by_gate)
    decide(refused_by_gate, good, None)
    shutil.copy(path_of(refused_by_gate, good), path_of(refused_by_gate))

    with pytest.raises(
        PromotionRefusedError, match=r"version 1: its decision is about another one: version 2, model_id m"
    ):
        promote(refused_by_gate, "demo", "Ada", version="1")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"scenario": "other"}, "scenario other"),
        ({"model": "isthmus-other"}, "model isthmus-other"),
        ({"version": "2"}, "version 2"),
    ],
)
def test_a_decision_that_names_something_else_is_refused(allowed: Path, values: dict[str, str], told: str) -> None:
    edit(allowed, **values)

    with pytest.raises(PromotionRefusedError, match=f"its decision is about another one: {told}. Run"):
        promote(allowed, "demo")


def test_a_decision_that_the_registry_knows_nothing_of_is_refused(allowed: Path) -> None:
    open_store(allowed)._client.delete_model_version_tag(MODEL, "1", DECISION)

    with pytest.raises(PromotionRefusedError, match="its decision is not the gate's: the registry has no hash of it"):
        promote(allowed, "demo")


def test_an_edited_decision_is_refused_though_its_hash_was_put_into_the_registry_too(refused_by_gate: Path) -> None:
    decision = read_decision(refused_by_gate, "demo", "1", path_of(refused_by_gate).parent.name)
    forged = type(decision)(**vars(decision) | {"verdict": "yes"})
    write_decision(refused_by_gate, open_store(refused_by_gate), forged)

    with pytest.raises(
        PromotionRefusedError, match="decision says 'yes', but from the same evidence the rules now decide 'no'"
    ):
        promote(refused_by_gate, "demo")


@pytest.mark.parametrize("name", ["metrics", "truth", "choice"])
def test_evidence_that_was_changed_in_the_registry_is_named(allowed: Path, name: str) -> None:
    (file,) = (allowed / "mlartifacts").rglob(f"{name}.json")
    file.write_text(json.dumps(read_json(file) | {"more": 1}))

    with pytest.raises(PromotionRefusedError, match=f"version 1: evidence was changed after the decision: {name}. Run"):
        promote(allowed, "demo")


def test_evidence_that_is_gone_is_told_with_how_to_get_it_again(allowed: Path) -> None:
    decision = read_decision(allowed, "demo", "1", open_store(allowed).model_of(MODEL, "1") or "")
    evidence = decision.evidence | {"scored": "0" * 64}
    write_decision(allowed, open_store(allowed), replace(decision, evidence=evidence))

    with pytest.raises(
        PromotionRefusedError, match=r"the evidence that its decision names is gone from .* Run 'isthmus score demo'"
    ):
        promote(allowed, "demo")


def test_results_in_the_folder_that_were_changed_after_the_decision_are_named(allowed: Path) -> None:
    (file,) = (allowed / "mlartifacts").rglob("truth.json")
    (allowed / "out").mkdir()
    shutil.copy(file, allowed / "out" / "truth.json")
    out = {"path": "out/truth.json", "md5": _md5(file)}
    (allowed / "dvc.lock").write_text(yaml.safe_dump({"stages": {"evaluate@demo": {"cmd": "", "outs": [out]}}}))
    judge_again(allowed, open_store(allowed), read_decision(allowed, "demo", "1", path_of(allowed).parent.name))
    (allowed / "out" / "truth.json").write_text("{}")

    with pytest.raises(PromotionRefusedError, match="evidence was changed after the decision: out/truth.json"):
        promote(allowed, "demo")

    (allowed / "dvc.lock").write_text((allowed / "dvc.lock").read_text().replace(out["md5"], "of-a-later-run"))
    assert promote(allowed, "demo").champion == "1"  # results of a later run are no concern of this decision


def test_other_rules_than_the_decision_rests_on_are_told(allowed: Path) -> None:
    (allowed / "params.yaml").write_text("gates: {absolute_floor: {min_balanced_accuracy: 0.95}}\n")

    with pytest.raises(
        PromotionRefusedError, match=r"'gates:' in .*params.yaml has other rules than those of the decision"
    ):
        promote(allowed, "demo")


def test_a_champion_of_the_same_number_and_another_model_is_not_the_expected_one(allowed: Path) -> None:
    promote(allowed, "demo")
    second = add_version(allowed)
    decision = decide(allowed, second, "1")
    write_decision(allowed, open_store(allowed), type(decision)(**vars(decision) | {"champion_id": "m-other"}))

    with pytest.raises(
        PromotionRefusedError, match=r"compared it with champion 1, but the champion is now 1 \(m-\w+\)"
    ):
        promote(allowed, "demo")


def test_an_intact_decision_for_a_person_needs_a_name_and_an_intact_yes_none(empty_files: Path) -> None:
    decide(empty_files, add_version(empty_files, "person"), None)

    with pytest.raises(ApprovalNeededError, match="a person must decide"):
        promote(empty_files, "demo", "")
    assert promote(empty_files, "demo", "Ada").approved_by == "Ada"


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()
