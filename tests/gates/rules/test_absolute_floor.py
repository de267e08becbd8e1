from dataclasses import replace

import pytest

from isthmus.gates import Evidence
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
    assert "no labels of target test images" in reason.text


def measured(accuracy: float, low: float, high: float) -> Evidence:
    method = {"right": 0, "accuracy": accuracy, "low": low, "high": high}
    truth = {"available": False, "measured": {"count": 20, "skipped": 0, "pool": 900, "methods": {"coral": method}}}
    return replace(without_labels(), truth=truth)


def test_a_few_labels_refuse_a_model_whose_whole_interval_is_below_the_floor() -> None:
    (found,) = Config(min_balanced_accuracy=0.3).reasons(measured(0.1, 0.03, 0.29))

    assert found.verdict == "refuse"
    assert "measured on 20 random target images 0.100 [0.030, 0.290]: all of it is below the floor 0.300" in found.text


def test_a_few_labels_never_pass_a_model_on_their_own_and_say_what_was_measured() -> None:
    (found,) = Config(min_balanced_accuracy=0.3).reasons(measured(0.85, 0.64, 0.95))

    assert (found.verdict, found.number) == ("person", 0.85)
    assert "0.850 [0.640, 0.950], of all classes together" in found.text
