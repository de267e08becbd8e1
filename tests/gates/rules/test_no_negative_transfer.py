import pytest

from isthmus.gates.rules.no_negative_transfer import Config
from tests.gates.evidence import evidence, without_labels


def test_a_gain_passes_and_keeps_its_numbers():
    (reason,) = Config(margin=0.02).reasons(evidence(gain=(0.1, 0.05, 0.15)))

    assert (reason.verdict, reason.number, reason.threshold) == ("pass", 0.1, -0.02)


def test_an_interval_wholly_below_zero_is_refused_however_small_the_loss():
    (reason,) = Config(margin=0.02).reasons(evidence(gain=(-0.01, -0.015, -0.005)))

    assert reason.verdict == "refuse"
    assert reason.text == "coral minus source_only is -0.010 [-0.015, -0.005]: the whole interval lies below zero"


def test_a_mean_below_the_margin_is_refused_however_wide_the_interval():
    (reason,) = Config(margin=0.02).reasons(evidence(gain=(-0.03, -0.2, 0.14)))

    assert reason.verdict == "refuse"
    assert "the mean is below -0.020" in reason.text


def test_a_loss_within_the_margin_that_may_be_none_passes():
    assert Config(margin=0.02).reasons(evidence(gain=(-0.01, -0.1, 0.08)))[0].verdict == "pass"


def test_a_fallback_to_source_only_passes_and_says_that_nothing_was_adapted():
    for given in (without_labels(method="source_only", fallback=True), evidence(method="source_only")):
        (reason,) = Config().reasons(given)

        assert reason.verdict == "pass"
        assert "nothing was adapted" in reason.text


def test_without_target_labels_a_person_must_decide():
    (reason,) = Config().reasons(without_labels())

    assert (reason.verdict, reason.number) == ("person", None)


@pytest.mark.parametrize(
    ("groups", "verdict", "seen"),
    [(1, "person", "of one group (patient"), (5, "person", "of 5 groups (patients"), (6, "pass", "not worse by more")],
)
def test_labels_of_fewer_than_six_groups_leave_a_gain_to_a_person(groups: int, verdict: str, seen: str):
    given = evidence(gain=(0.1, 0.05, 0.15))
    given.truth["groups"] = groups

    (reason,) = Config().reasons(given)

    assert reason.verdict == verdict
    assert seen in reason.text


def test_a_loss_is_refused_however_few_the_groups():
    given = evidence(gain=(-0.1, -0.15, -0.05))
    given.truth["groups"] = 1

    assert Config().reasons(given)[0].verdict == "refuse"
