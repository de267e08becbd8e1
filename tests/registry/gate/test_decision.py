import shutil
from pathlib import Path

import pytest
import yaml

from isthmus.core.errors import ConfigError, StoreError
from isthmus.core.files import read_json, sha256_file
from isthmus.registry.gate.decision import DECISION, Decision, decision_path, gate, read_decision
from isthmus.registry.publish.publish import publish
from isthmus.registry.store.stores import open_store
from tests.registry.project_files import set_truth, truth


@pytest.mark.slow
def test_the_gate_binds_its_answer_to_version_evidence_thresholds_and_champion(published):
    project, found = published

    decision = gate(project, "demo")

    assert (decision.verdict, decision.exit_status) == ("yes", 0)
    assert (decision.version, decision.model_id, decision.lock_key) == (found.version, found.model_id, found.key)
    assert decision.expected_champion is None
    assert decision.evidence["truth"] == sha256_file(project / "out/demo/truth.json")
    assert decision.rules["absolute_floor"] == {"min_balanced_accuracy": 0.3, "above_chance": 0.1}
    assert read_decision(project, "demo", found.version, found.model_id) == decision
    assert gate(project, "demo").sha256 == decision.sha256
    assert open_store(project).version_tags(found.model, found.version)[DECISION] == decision.sha256


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "verdict", "status"),
    [
        (truth(0.4, 0.5), "no", 3),
        # the rules have tests of their own
        pytest.param(truth(0.5, 0.6), "no", 3, marks=pytest.mark.soak),
        pytest.param({"available": False}, "person", 4, marks=pytest.mark.soak),
    ],
)
def test_a_low_score_or_negative_transfer_is_a_no_and_missing_labels_need_a_person(
    published, tmp_path, values, verdict, status
):
    copy = Path(shutil.copytree(published[0], tmp_path / "copy", symlinks=True))
    set_truth(copy, values)
    publish(copy, "demo")

    decision = gate(copy, "demo")

    assert (decision.verdict, decision.exit_status) == (verdict, status)


@pytest.mark.slow
def test_the_champion_at_the_time_is_the_one_expected(published, fresh_store, tmp_path, monkeypatch):
    project, found = published
    shutil.copy(fresh_store, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(StoreError, match=r"demo: its results are not in .*Run 'isthmus publish demo'"):
        gate(project, "demo")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    store = open_store(project)
    store.set_alias(found.model, "champion", found.version)

    decision = gate(project, "demo")

    store.delete_alias(found.model, "champion")
    assert (decision.expected_champion, decision.champion_id) == (found.version, found.model_id)


@pytest.mark.slow
def test_a_wrong_rule_is_a_mistake_in_params_yaml_and_no_verdict(published, tmp_path):
    copy = Path(shutil.copytree(published[0], tmp_path / "copy", symlinks=True))
    params = yaml.safe_load((copy / "params.yaml").read_text())
    params["gates"] = {"absolute_flor": {}}
    (copy / "params.yaml").write_text(yaml.safe_dump(params))
    (copy / "mlflow.db").unlink()
    shutil.copy(published[0] / "mlflow.db", copy / "mlflow.db")
    publish(copy, "demo")

    with pytest.raises(
        ConfigError, match=r"params.yaml: gates.absolute_flor: no module .*Did you mean 'absolute_floor'"
    ):
        gate(copy, "demo")


def test_the_table_shows_each_finding_with_number_and_threshold_then_the_verdict():
    floor = {"rule": "absolute_floor", "verdict": "refuse", "number": 0.1, "threshold": 0.3, "text": "too low"}
    other = {"rule": "other", "verdict": "person", "number": None, "threshold": None, "text": "not known"}

    table = Decision("demo", "isthmus-demo", "2", "m-1", "k", "1", "m-0", "no", [floor, other], {}, {}).table()

    assert table.splitlines()[1:] == [
        "absolute_floor  refuse  0.100   0.300      too low",
        "other           person  -       -          not known",
        "isthmus-demo version 2 (champion 1): no",
    ]


def test_a_first_promotion_says_so():
    table = Decision("demo", "isthmus-demo", "1", "m-1", "k", None, None, "person", [], {}, {}).table()

    assert table.splitlines()[-1] == "isthmus-demo version 1 (no champion yet: a first promotion): a person must decide"


def test_a_missing_decision_and_one_that_is_not_ours_are_named(tmp_path):
    with pytest.raises(StoreError, match=r"m-1/decision.json: no decision on version 1. Run 'isthmus gate demo'"):
        read_decision(tmp_path, "demo", "1", "m-1")
    decision_path(tmp_path, "m-1").parent.mkdir(parents=True)
    decision_path(tmp_path, "m-1").write_text('{"verdict": "yes"}')
    with pytest.raises(StoreError, match=r"m-1/decision.json: not a decision of this version"):
        read_decision(tmp_path, "demo", "1", "m-1")
    assert read_json(decision_path(tmp_path, "m-1")) == {"verdict": "yes"}
