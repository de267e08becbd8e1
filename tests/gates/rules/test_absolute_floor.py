import pytest

from isthmus.gates.rules.absolute_floor import Config
from tests.gates.evidence import evidence, without_labels


def test_a_score_on_the_floor_passes_and_keeps_its_numbers():
    mean, shipped = Config(min_balanced_accuracy=0.7).reasons(evidence(mean=0.7))

    assert (mean.verdict, mean.number, mean.threshold) == ("pass", 0.7, 0.7)
    assert (shipped.verdict, shipped.rule) == ("pass", "absolute_floor")


def test_a_score_below_the_floor_is_refused_with_both_numbers():
    mean, _ = Config(min_balanced_accuracy=0.7).reasons(evidence(mean=0.69))

    assert mean.verdict == "refuse"
    assert mean.text == "target balanced accuracy of coral (mean over seeds) 0.690 is below the floor 0.700"


def test_a_good_mean_does_not_carry_a_bad_shipped_seed_through():
    mean, shipped = Config().reasons(evidence(mean=0.7, shipped=0.2))

    assert (mean.verdict, shipped.verdict) == ("pass", "refuse")
    assert "the seed that ships" in shipped.text


@pytest.mark.parametrize(("classes", "floor"), [(2, 0.6), (4, 0.35), (10, 0.3)])
def test_the_floor_is_above_guessing_for_any_number_of_classes(classes, floor):
    assert Config().floor(classes) == pytest.approx(floor)
    assert Config().reasons(evidence(classes=classes, mean=floor - 0.01))[0].verdict == "refuse"


def test_without_target_labels_a_person_must_decide():
    (reason,) = Config().reasons(without_labels())

    assert (reason.verdict, reason.number) == ("person", None)
    assert "no target labels" in reason.text
