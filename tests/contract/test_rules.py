"""What holds for every gate, present and future."""

import json

import pytest
from pydantic import ValidationError

from isthmus.core import plugins
from isthmus.gates import Rule
from isthmus.gates.judge import FOLDER
from tests.gates.evidence import bad_scored, evidence, without_labels

NAMES = plugins.names(FOLDER)
CASES = {
    "good": evidence(mean=0.9),
    "bad": evidence(mean=0.1, gain=(-0.4, -0.5, -0.3), kept=0.5, asked=bad_scored()),
    "fallback": evidence(method="source_only", fallback=True),
    "unlabelled": without_labels(),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_is_a_frozen_config_with_defaults_and_a_described_threshold(name):
    rule = plugins.load(FOLDER, name).Config()

    assert isinstance(rule, Rule)
    assert all(field.description for field in type(rule).model_fields.values())
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        type(rule)(no_such_threshold=1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_a_rule_always_finds_something_bears_its_own_name_and_gives_json(name, case):
    reasons = plugins.load(FOLDER, name).Config().reasons(CASES[case])

    assert reasons
    for reason in reasons:
        assert reason.rule == name
        assert reason.text
        assert "must decide" not in reason.text  # that follows from the verdict, and the gate says it
        assert reason.verdict in ("pass", "refuse", "person")
        assert json.loads(json.dumps(reason.as_json(), allow_nan=False)) == reason.as_json()


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_says_the_same_of_the_same_evidence(name):
    rule = plugins.load(FOLDER, name).Config()

    assert [rule.reasons(case) for case in CASES.values()] == [rule.reasons(case) for case in CASES.values()]


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_passes_what_is_good_and_has_said_no_to_what_is_bad(name):
    rule = plugins.load(FOLDER, name).Config()

    assert {reason.verdict for reason in rule.reasons(CASES["good"])} == {"pass"}
    assert "refuse" in {reason.verdict for reason in rule.reasons(CASES["bad"])}
