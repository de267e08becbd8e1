"""The choice: guards refuse what failed, and a fixed average answers."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from isthmus.core.errors import DataError
from isthmus.evaluation.guards import anomaly
from isthmus.evaluation.metrics import above_chance, collapsed
from isthmus.evaluation.selection.choice import Candidate, choose, curve_faults, parts


def candidate(method: str, **changes: object) -> Candidate:
    sound = Candidate(
        method=method,
        epoch=4,
        scores={},
        source_val_accuracy=0.9,
        learned=(True, 0.001),
        effective_classes=3.9,
        collapsed=False,
        seed_disagreement=0.1,
    )
    return replace(sound, **changes)  # type: ignore[arg-type]


POOL = [candidate(name) for name in ("source_only", "dann", "mcc", "shot")]


def test_the_named_methods_answer_together_whatever_their_order() -> None:
    choice = choose(POOL, ["mcc", "shot"])

    assert choice == choose(POOL[::-1], ["shot", "mcc"])
    assert choice.average == ["mcc", "shot"]
    assert choice.why == "The mean of mcc and shot: fixed in advance, no target label and no score was used."
    assert [c.method for c in choice.candidates] == ["source_only", "dann", "mcc", "shot"]
    assert choose(POOL, ["mcc", "shot"], 12).why == (
        "The mean of mcc and shot, trained with 12 labelled target images: fixed in advance, no score was used."
    )


def test_scores_and_lost_source_accuracy_change_nothing() -> None:
    worse = [replace(c, source_val_accuracy=0.5, scores={"snd": -9.0}, seed_disagreement=0.9) for c in POOL]

    assert choose(worse, ["mcc", "shot"]).average == ["mcc", "shot"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"faults": ("loss_source is zero over epoch 1", "x")}, "loss_source is zero over epoch 1 (and 1 more)"),
        ({"collapsed": True}, "nearly all of the target is predicted as one class"),
        (
            {"learned": (False, 0.4), "source_val_accuracy": 0.3},
            "source validation images are not shown to be told apart better than by chance (accuracy 0.300, p = 0.4)",
        ),
    ],
)
def test_each_guard_refuses_with_its_reason_and_the_rest_answer(change: dict, reason: str) -> None:
    given = [c if c.method != "mcc" else replace(c, **change) for c in POOL]

    choice = choose(given, ["mcc", "shot"])

    assert choice.average == ["shot"]
    assert next(c for c in choice.candidates if c.method == "mcc").refused == (reason,)
    assert "; the guards refused mcc (" in choice.why


def test_the_guards_of_defects_say_what_they_look_at() -> None:
    given = [replace(c, collapsed=True, learned=(False, 0.01), source_val_accuracy=0.5) for c in POOL]

    choice = choose(given, ["mcc"], words=anomaly.Guards.words)

    assert choice.candidates[1].refused == (
        "more than half of the target's training images are called defective",
        "defects of the source's validation split raise alarms less often than its good images (accuracy 0.500,"
        " p = 0.01)",
    )


def test_source_only_is_never_refused_and_answers_where_all_others_are() -> None:
    given = [replace(c, collapsed=True) for c in POOL]

    choice = choose(given, ["mcc", "shot"])

    assert choice.average == [] and choice.candidates[0].refused == ()
    assert choice.why.startswith("The guards refused every adapted method that would answer (collapse 2)")


def test_source_only_is_averaged_with_the_others_where_it_is_named_and_one_of_them_is_left() -> None:
    choice = choose(POOL, ["mcc", "source_only"])

    assert choice.average == ["source_only", "mcc"]
    assert choice.why.startswith("The mean of source_only and mcc: fixed in advance")
    assert choose([replace(c, collapsed=True) for c in POOL], ["mcc", "source_only"]).average == []


def test_all_adapted_methods_are_averaged_where_none_of_the_named_is_trained() -> None:
    choice = choose(POOL[:2], ["mcc", "shot"])

    assert choice.average == ["dann"]
    assert choice.why == "dann answers: fixed in advance, no target label and no score was used."


def test_without_adapted_methods_source_only_is_all_there_is() -> None:
    choice = choose(POOL[:1], ["mcc"])

    assert (choice.average, choice.why) == (
        [],
        "No adapted method is named under methods: source_only is all there is.",
    )


def test_without_source_only_there_is_no_choice() -> None:
    with pytest.raises(DataError, match="source_only is not among the candidates"):
        choose(POOL[1:], ["mcc"])


def test_curves_without_faults_have_none_and_later_epochs_do_not_count() -> None:
    lines = [{"epoch": 1, "loss_source": 1.0}, {"epoch": 2, "loss_source": None}]

    assert curve_faults(lines, 1) == []
    assert curve_faults(lines, 2) == ["loss_source is not a number in epoch 2"]


def test_the_networks_of_an_ensemble_are_named_one_by_one() -> None:
    made = {"epochs": {"mcc": 5, "shot": 6}, "ensemble": {"mcc": [0, 1], "shot": [0]}, "chosen": {"seed": 0}}

    assert parts(made, "ensemble") == [("mcc", 0, 5), ("mcc", 1, 5), ("shot", 0, 6)]
    assert parts(made, "shot") == [("shot", 0, 6)]


def test_collapse_is_one_class_for_over_99_percent_and_not_for_less() -> None:
    rows = np.zeros((1, 1000), dtype=np.int64)
    rows[0, :5] = 1
    assert collapsed(rows, 4)
    rows[0, :20] = 1
    assert not collapsed(rows, 4)


@pytest.mark.parametrize(
    ("right", "count", "shown"),
    [(15, 20, True), (13, 20, False), (4, 4, True), (0, 4, True), (500, 1000, False), (540, 1000, True)],
)
def test_guessing_is_tested_and_a_tiny_split_refuses_nothing(right: int, count: int, shown: bool) -> None:
    labels = np.arange(count) % 2
    predicted = labels.copy()
    predicted[right:] = 1 - labels[right:]

    found, p_value = above_chance(predicted[None], labels, 0.05)

    assert found is shown and above_chance(predicted[None], labels, 0.05)[1] == p_value
    exact = binomtest(right, count, 0.5, alternative="greater").pvalue  # near it where classes are even
    assert p_value == pytest.approx(exact, abs=0.12)


def test_a_rare_class_that_is_found_is_learned_though_naming_the_frequent_one_is_right_more_often() -> None:
    labels = np.repeat([0, 1], [90, 10])
    found = np.concatenate([np.repeat([0, 1], [72, 18]), np.repeat([0, 1], [2, 8])])  # 80 of 100 right

    assert above_chance(found[None], labels, 0.05)[0]
    assert above_chance(np.zeros((3, 100), dtype=np.int64), labels, 0.05) == (False, 1.0)
