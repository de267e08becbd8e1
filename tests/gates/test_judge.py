from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from isthmus.core import plugins
from isthmus.core.errors import ConfigError, DataError
from isthmus.core.files import sha256_file, write_json
from isthmus.gates import Evidence
from isthmus.gates.judge import Judgement, judge, judge_file, read_rules
from tests.gates.evidence import answers, evidence, scored, without_labels

BOTH = {"absolute_floor": {}, "no_negative_transfer": None}


def test_yes_needs_every_finding_to_pass_and_records_thresholds_and_hashes(tmp_path):
    found = _judge(tmp_path, BOTH, evidence(mean=0.9))

    assert found.verdict == "yes"
    assert len(found.reasons) == 3
    assert found.rules["no_negative_transfer"] == {"margin": 0.02}
    assert found.evidence["truth"] == sha256_file(tmp_path / "truth.json")


def test_one_refusal_is_a_no_whatever_the_others_say(tmp_path):
    assert _judge(tmp_path, BOTH, evidence(mean=0.9, gain=(-0.1, -0.2, -0.05))).verdict == "no"


def test_without_labels_a_person_must_decide_unless_nothing_was_adapted(tmp_path):
    assert _judge(tmp_path, BOTH, without_labels()).verdict == "person"
    fallback = without_labels(method="source_only", fallback=True)
    assert _judge(tmp_path, {"no_negative_transfer": {}}, fallback).verdict == "yes"
    assert _judge(tmp_path, BOTH, fallback).verdict == "person"


def test_a_threshold_in_params_yaml_moves_the_verdict(tmp_path):
    strict = {"absolute_floor": {"min_balanced_accuracy": 0.95}}

    assert _judge(tmp_path, strict, evidence(mean=0.9)).verdict == "no"


def test_all_mistakes_under_gates_are_reported_at_once(tmp_path):
    gates = {"absolut_floor": {}, "no_negative_transfer": {"margn": 0.1}, "absolute_floor": {"above_chance": 2}}
    params = _params(tmp_path, {"gates": gates})

    with pytest.raises(ConfigError) as raised:
        read_rules(params)

    text = str(raised.value)
    assert (
        "gates.absolut_floor: no module 'absolut_floor' in isthmus.gates.rules. Did you mean 'absolute_floor'?" in text
    )
    assert "gates.no_negative_transfer.margn: Extra inputs are not permitted (got 0.1). Did you mean 'margin'?" in text
    assert "gates.absolute_floor.above_chance: Input should be less than or equal to 1 (got 2)" in text


def test_a_gate_without_rules_cannot_say_yes(tmp_path):
    with pytest.raises(ConfigError, match=r"gates: no rule is named.*absolute_floor.*no_negative_transfer"):
        read_rules(_params(tmp_path, {"gates": {}}))


def test_a_missing_section_is_named_with_its_file(tmp_path):
    with pytest.raises(ConfigError, match=r"params.yaml: section 'gates' is missing.*Did you mean 'gate'"):
        read_rules(_params(tmp_path, {"gate": {}}))


def test_missing_evidence_is_an_error_and_not_a_verdict(tmp_path):
    params = _params(tmp_path, {"gates": BOTH})

    with pytest.raises(DataError, match=r"metrics.json: no such file"):
        judge(params, metrics=tmp_path / "metrics.json", truth=tmp_path / "t.json", choice=tmp_path / "c.json")


def test_a_file_is_judged_by_the_rules_of_answers_alone_and_on_the_target_alone(tmp_path):
    params = _params(tmp_path, {"gates": {name: {} for name in plugins.names("gates.rules")}})
    images = scored().images.query("role == 'target'").reset_index(drop=True)
    given = replace(
        scored(), images=images, roles=("target",), candidate=answers(images), champion=answers(images, version="1")
    )  # fmt: skip

    found = judge_file(params, given, {"params": params})

    assert (found.verdict, found.exit_status) == ("yes", 0), found.reasons
    assert set(found.rules) == {
        "not_worse_than_champion", "per_class_floor", "calibration", "within_budget", "same_data",
    }  # fmt: skip
    assert not [reason for reason in found.reasons if "source" in reason["text"]]
    assert found.evidence == {"params": sha256_file(params)}

    found = judge_file(params, replace(given, candidate=answers(images, right=0.7)), {})
    assert (found.verdict, found.exit_status) == ("no", 3)
    assert {r["rule"] for r in found.reasons if r["verdict"] == "refuse"} == {"calibration", "not_worse_than_champion"}


def test_a_file_that_no_named_rule_judges_is_for_a_person_to_decide(tmp_path):
    found = judge_file(_params(tmp_path, {"gates": BOTH}), scored(), {})

    assert (found.verdict, found.exit_status) == ("person", 4)
    assert "params.yaml judges it" in found.reasons[0]["text"]


def _judge(folder: Path, gates: dict[str, Any], given: Evidence) -> Judgement:
    params = _params(folder, {"gates": gates})
    files = {"metrics": given.metrics, "truth": given.truth, "choice": given.choice}
    for name, values in files.items():
        write_json(folder / f"{name}.json", values)
    return judge(params, **{name: folder / f"{name}.json" for name in files})


def _params(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path
