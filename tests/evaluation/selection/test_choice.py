"""The choice refuses what it must, ranks as worked out by hand, and does not depend on order."""

import random
from dataclasses import replace

import pytest

from isthmus.core.errors import DataError
from isthmus.evaluation.selection.choice import (
    HALF_STEP,
    Candidate,
    Choice,
    Guards,
    Leave,
    choose,
    curve_faults,
    half_step,
    parts,
    within_guards,
)

GUARDS = Guards(source_floor=0.05, min_effective_classes=0.5, max_seed_disagreement=0.5)


def candidate(method: str, epoch: int = 1, **changes: object) -> Candidate:
    plain = Candidate(
        method=method,
        epoch=epoch,
        optimises=frozenset(),
        scores={"a": 0.5, "b": 0.5},
        source_val_accuracy=0.95,
        effective_classes=3.5,
        predicted_classes=3.5,
        seed_disagreement=0.1,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def entry(choice: Choice, method: str, epoch: int = 1) -> dict:
    return next(c for c in choice.candidates if (c["method"], c["epoch"]) == (method, epoch))


def test_the_highest_mean_rank_is_chosen_and_is_as_worked_out_by_hand() -> None:
    given = [
        candidate("source_only", scores={"a": 1.0, "b": 9.0}),  # places 1 of 3 and 2 of 3: (0 + 0.5) / 2
        candidate("coral", scores={"a": 2.0, "b": 10.0}),  # places 2 and 3: (0.5 + 1) / 2
        candidate("dann", scores={"a": 900.0, "b": 8.0}),  # places 3 and 1: a huge value is one rank, no more
    ]

    choice = choose(given, GUARDS, 4)

    assert (choice.method, choice.epoch, choice.fallback) == ("coral", 1, False)
    assert [entry(choice, m)["rank"] for m in ("source_only", "coral", "dann")] == [0.25, 0.75, 0.5]
    assert choice.why == (
        "coral, epoch 1, has the highest mean rank over 2 validators, 0.75 (source_only: 0.25); 2 of 2 adapted"
        " candidates passed the guards."
    )


def test_what_a_method_optimises_does_not_score_it() -> None:
    given = [
        candidate("source_only", scores={"a": 0.2, "b": 0.9}),
        candidate("mcc", scores={"a": 99.0, "b": 0.1}, optimises=frozenset({"a"})),
        candidate("coral", scores={"a": 0.3, "b": 0.8}),
    ]

    choice = choose(given, GUARDS, 4)

    assert entry(choice, "mcc")["scored_by"] == ["b"]
    assert entry(choice, "mcc")["rank"] == 0.0
    assert entry(choice, "coral")["rank"] == 0.75  # best of the two that `a` ranks, middle of three under `b`
    assert choice.method == "coral"


def test_a_method_that_optimises_every_validator_is_out() -> None:
    given = [candidate("source_only"), candidate("greedy", optimises=frozenset({"a", "b"}))]

    choice = choose(given, GUARDS, 4)

    assert choice.fallback
    assert entry(choice, "greedy")["out"] == [
        "no validator may score it: the method optimises them all, or no score is finite"
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"source_val_accuracy": 0.89},
            "source validation accuracy 0.890 is more than 0.050 below source_only's 0.950",
        ),
        ({"effective_classes": 1.9}, "1.90 effective classes on the target, under 2.00 of 4"),
        ({"predicted_classes": 1.01}, "over 99% of the target images are predicted as one class"),
        ({"seed_disagreement": 0.51}, "seeds disagree on 0.510 of the target images, over 0.500"),
        ({"faults": ("loss_total is not a number in epoch 1",)}, "loss_total is not a number in epoch 1"),
        ({"faults": ("one", "two", "three")}, "one (and 2 more)"),
    ],
)
def test_a_candidate_with_the_best_scores_is_out_for(changes: dict, reason: str) -> None:
    given = [candidate("source_only"), candidate("bad", scores={"a": 9.0, "b": 9.0}, **changes)]

    choice = choose(given, GUARDS, 4)

    assert entry(choice, "bad")["out"] == [reason]
    assert entry(choice, "bad")["rank"] is None
    assert (choice.method, choice.fallback) == ("source_only", True)


@pytest.mark.parametrize(
    "changes",
    [
        {"source_val_accuracy": 0.91},
        {"effective_classes": 2.01},
        {"seed_disagreement": 0.49},
        {"predicted_classes": 1.1},
    ],
)
def test_a_candidate_just_inside_a_guard_stays(changes: dict) -> None:
    choice = choose([candidate("source_only"), candidate("fine", **changes)], GUARDS, 4)

    assert entry(choice, "fine")["out"] == []


def test_with_two_classes_half_of_them_is_one_and_a_collapse_is_still_caught() -> None:
    given = [candidate("source_only"), candidate("bad", effective_classes=1.0, predicted_classes=1.0)]

    assert choose(given, GUARDS, 2).fallback


def test_source_only_is_never_out() -> None:
    poor = {"effective_classes": 1.0, "predicted_classes": 1.0, "seed_disagreement": 0.9, "faults": ("a loss is zero",)}

    choice = choose([candidate("source_only", **poor), candidate("source_only", 2, **poor)], GUARDS, 4)

    assert (choice.method, choice.epoch) == ("source_only", 2)
    assert entry(choice, "source_only", 2)["out"] == []


def test_source_only_stands_where_plain_training_ends_whatever_its_scores() -> None:
    given = [
        candidate("source_only", 1, scores={"a": 9.0, "b": 9.0}),
        candidate("source_only", 2, scores={"a": 0.1, "b": 0.1}),
        candidate("coral", scores={"a": 0.2, "b": 0.2}),
    ]

    choice = choose(given, GUARDS, 4)

    assert (choice.method, choice.best_epoch) == ("coral", {"coral": 1, "source_only": 2})
    assert [(c["method"], c["epoch"]) for c in choice.candidates] == [("source_only", 2), ("coral", 1)]


@pytest.mark.parametrize("changes", [{"source_val_accuracy": 0.3}, {"faults": ("loss_source is not a number",)}])
def test_source_only_stands_before_its_last_epoch_where_that_failed(changes: dict) -> None:
    given = [candidate("source_only", 1), candidate("source_only", 2), candidate("source_only", 3, **changes)]

    assert choose(given, GUARDS, 4).best_epoch == {"source_only": 2}


def test_a_diverged_last_epoch_of_source_only_does_not_lower_the_floor() -> None:
    given = [candidate("source_only", 1), candidate("source_only", 2, source_val_accuracy=0.3)]

    choice = choose([*given, candidate("bad", source_val_accuracy=0.6)], GUARDS, 4)

    assert choice.fallback


def test_the_fallback_says_how_many_candidates_each_guard_refused() -> None:
    given = [
        candidate("source_only", 5),
        candidate("dann", effective_classes=1.0),
        candidate("mcc", effective_classes=1.0, source_val_accuracy=0.1),
    ]

    choice = choose(given, GUARDS, 4)

    assert choice.why == (
        "None of the 2 adapted candidates passed the guards (collapse 2, source accuracy 1), so nothing is adapted:"
        " source_only, epoch 5."
    )


def test_without_adapted_methods_source_only_is_the_fallback() -> None:
    choice = choose([candidate("source_only")], GUARDS, 4)

    assert choice.fallback
    assert choice.why == "No adapted method is named under methods: source_only, epoch 1, is all there is."


def test_source_only_can_win_without_being_a_fallback() -> None:
    given = [candidate("source_only", scores={"a": 1.0, "b": 1.0}), candidate("coral", scores={"a": 0.0, "b": 0.0})]

    choice = choose(given, GUARDS, 4)

    assert (choice.method, choice.fallback) == ("source_only", False)
    assert "none looks better" in choice.why


def test_ties_go_to_source_only_then_to_the_name() -> None:
    adapted = [candidate("dann"), candidate("coral")]
    worse = candidate("source_only", scores={"a": 0.1, "b": 0.1})

    assert choose([*adapted, candidate("source_only", 3)], GUARDS, 4).method == "source_only"
    assert choose([*adapted, worse], GUARDS, 4).method == "coral"


def test_each_method_stands_at_its_last_epoch_whatever_an_earlier_one_scores() -> None:
    given = [
        candidate("source_only", 1),
        candidate("coral", 1, scores={"a": 3.0, "b": 3.0}),
        candidate("coral", 2, scores={"a": 2.0, "b": 2.0}),
        candidate("mcc", 1, scores={"a": 9.0, "b": 9.0}),
        candidate("mcc", 4, scores={"a": 9.0, "b": 9.0}, effective_classes=1.0),
    ]

    choice = choose(given, GUARDS, 4)

    assert choice.best_epoch == {"coral": 2, "mcc": 4, "source_only": 1}
    assert (choice.method, choice.epoch) == ("coral", 2)
    assert len(choice.candidates) == 3


def preferred_and_others() -> list[Candidate]:
    return [
        candidate("source_only", scores={"a": 0.1, "b": 0.1}),
        candidate("coral", scores={"a": 0.9, "b": 0.9}),
        candidate("mcc", scores={"a": 0.3, "b": 0.3}),
        candidate("shot", scores={"a": 0.2, "b": 0.2}),
    ]


def test_a_preferred_method_is_chosen_before_one_that_ranks_higher() -> None:
    choice = choose(preferred_and_others(), GUARDS, 4, prefer=["shot", "mcc"])

    assert choice.method == "mcc"
    assert [entry(choice, m)["rank"] for m in ("coral", "mcc")] == [1.0, 0.666666667]
    assert choice.why == (
        "mcc, epoch 1, has the highest mean rank of the preferred (mcc, shot) over 2 validators, 0.67"
        " (source_only: 0.00); 3 of 3 adapted candidates passed the guards."
    )


def test_source_only_competes_with_the_preferred_where_nothing_is_tested() -> None:
    given = [
        replace(c, scores={"a": 0.5, "b": 0.5}) if c.method == "source_only" else c for c in preferred_and_others()
    ]

    untested = choose(given, GUARDS, 4, prefer=["mcc"])
    shown = choose(given, GUARDS, 4, Leave(0.1, lambda one, floor: 0.01), ["mcc"])
    not_shown = choose(given, GUARDS, 4, Leave(0.1, lambda one, floor: 0.5), ["mcc"])

    assert (untested.method, untested.fallback) == ("source_only", False)
    assert untested.why.endswith(
        "0.67; 3 of 3 adapted candidates passed the guards, none of the preferred (mcc) looks better."
    )
    assert (shown.method, not_shown.method) == ("mcc", "source_only")


@pytest.mark.parametrize("prefer", [["mcc", "shot"], ["afn"]])
def test_where_no_preferred_method_passed_the_others_compete(prefer: list[str]) -> None:
    given = [replace(c, effective_classes=1.0) if c.method in ("mcc", "shot") else c for c in preferred_and_others()]

    assert choose(given, GUARDS, 4, prefer=prefer).method == "coral"


def not_shown(one: Candidate, floor: Candidate) -> float:
    return 0.5


def test_half_a_step_is_taken_where_the_first_is_not_shown_to_be_better() -> None:
    given = [*preferred_and_others(), candidate(HALF_STEP, scores={})]

    taken = choose(given, GUARDS, 4, Leave(0.1, not_shown), ["mcc", "shot"])
    left = choose(given, GUARDS, 4, Leave(0.1, lambda one, floor: 0.01), ["mcc", "shot"])

    assert (taken.method, taken.fallback, left.method) == (HALF_STEP, False, "mcc")
    assert taken.leave == {"ranked_first": {"method": "mcc", "epoch": 1}, "p_value": 0.5, "level": 0.1}
    assert taken.why.endswith(
        "p = 0.500, not under 0.1: half a step is taken, the mean of source_only and of mcc and shot."
    )


def test_the_half_step_has_no_rank_and_changes_no_other() -> None:
    plain = choose(preferred_and_others(), GUARDS, 4, Leave(0.1, not_shown), ["mcc"])
    choice = choose([*preferred_and_others(), candidate(HALF_STEP)], GUARDS, 4, Leave(0.1, not_shown), ["mcc"])

    assert choice.candidates[:-1] == plain.candidates
    assert (choice.candidates[-1]["method"], choice.candidates[-1]["rank"]) == (HALF_STEP, None)
    assert choice.best_epoch == plain.best_epoch | {HALF_STEP: 1}


def test_a_half_step_that_a_guard_holds_back_is_not_taken() -> None:
    given = [*preferred_and_others(), candidate(HALF_STEP, scores={}, effective_classes=1.0)]

    choice = choose(given, GUARDS, 4, Leave(0.1, not_shown), ["mcc"])

    assert choice.method == "source_only"
    assert entry(choice, HALF_STEP)["out"] == ["1.00 effective classes on the target, under 2.00 of 4"]


def test_the_half_step_is_half_of_source_only_and_half_of_the_preferred_that_passed() -> None:
    one_out = [replace(c, effective_classes=1.0) if c.method == "shot" else c for c in preferred_and_others()]
    of = half_step(preferred_and_others(), GUARDS, 4, ["shot", "mcc"])
    made = {
        "half_step": {method: share for method, (_, share) in of.items()},
        "best_epoch": {"source_only": 4, "coral": 5, "mcc": 5, "shot": 6},
    }

    assert of == {"source_only": (1, 0.5), "mcc": (1, 0.25), "shot": (1, 0.25)}
    assert half_step(one_out, GUARDS, 4, ["shot", "mcc"]) == {"source_only": (1, 0.5), "mcc": (1, 0.5)}
    assert half_step(preferred_and_others(), GUARDS, 4, ["afn"]) == {}
    assert parts(made, HALF_STEP) == {"source_only": (4, 0.5), "mcc": (5, 0.25), "shot": (6, 0.25)}
    assert parts(made, "coral") == {"coral": (5, 1.0)}


def test_a_preferred_method_that_no_validator_may_score_is_no_part_of_the_half_step() -> None:
    given = [replace(c, optimises=frozenset("ab")) if c.method == "mcc" else c for c in preferred_and_others()]

    assert half_step(given, GUARDS, 4, ["mcc", "shot"]) == {"source_only": (1, 0.5), "shot": (1, 0.5)}
    assert half_step(given, GUARDS, 4, ["mcc"]) == {}


def test_the_order_of_the_candidates_changes_nothing() -> None:
    rng = random.Random(0)
    given = [
        candidate(m, e, scores={"a": rng.choice([0.1, 0.2]), "b": rng.random()})
        for m in ("source_only", "coral", "dann", "mmd")
        for e in (1, 2, 3)
    ]
    first = choose(given, GUARDS, 4)

    for _ in range(5):
        rng.shuffle(given)
        assert choose(given, GUARDS, 4) == first


def test_a_candidate_whose_scores_are_not_finite_is_ranked_nowhere() -> None:
    given = [candidate("source_only"), candidate("bad", scores={"a": None, "b": None}, effective_classes=None)]

    choice = choose(given, GUARDS, 4)

    assert choice.fallback
    assert entry(choice, "bad")["scored_by"] == []


def test_source_only_without_finite_scores_is_still_there_to_fall_back_to() -> None:
    choice = choose([candidate("source_only", scores={"a": None, "b": None})], GUARDS, 4)

    assert choice.method == "source_only"


def test_without_source_only_there_is_no_choice() -> None:
    with pytest.raises(DataError, match="no epoch of source_only among the candidates"):
        choose([candidate("coral")], GUARDS, 4)


def test_a_loss_that_is_null_or_infinite_is_a_fault_up_to_that_epoch_only() -> None:
    curves = [
        {"epoch": 1, "loss_total": 0.5, "loss_mmd": 0.1, "learning_rate": 0.0},
        {"epoch": 2, "loss_total": None, "loss_mmd": 0.1, "learning_rate": 0.0},
        {"epoch": 3, "loss_total": float("inf"), "loss_mmd": 0.1, "learning_rate": 0.0},
    ]

    assert curve_faults(curves, 1) == []
    assert curve_faults(curves, 2) == ["loss_total is not a number in epoch 2"]
    assert curve_faults(curves, 3)[-1] == "loss_total is not a number in epoch 3"


def test_only_the_supervised_loss_may_not_be_zero() -> None:
    waiting = [{"epoch": 1, "loss_source": 0.4, "loss_consistency": 0.0, "loss_total": 0.4}]
    untrained = [{"epoch": 1, "loss_source": 0.0, "loss_consistency": 0.1, "loss_total": 0.1}]

    assert curve_faults(waiting, 1) == []
    assert curve_faults(untrained, 1) == ["loss_source is zero over epoch 1"]


@pytest.mark.parametrize(("used", "out"), [(1.19, True), (1.21, False)])
def test_with_two_classes_the_effective_classes_still_refuse(used: float, out: bool) -> None:
    given = [candidate("source_only"), candidate("bad", effective_classes=used, predicted_classes=1.9)]

    choice = choose(given, GUARDS, 2)

    assert (entry(choice, "bad")["out"] == ["1.19 effective classes on the target, under 1.20 of 2"]) is out


def test_a_voice_in_the_consensus_has_who_passes_the_guards_whatever_its_scores() -> None:
    given = [candidate("source_only", scores={}), candidate("fine", scores={}), candidate("bad", effective_classes=1.0)]

    assert [c.method for c in within_guards(given, GUARDS, 4)] == ["source_only", "fine"]


def ranked_over_the_floor() -> list[Candidate]:
    return [
        candidate("source_only", scores={"a": 0.1, "b": 0.1}),
        candidate("source_only", 2, scores={"a": 0.2, "b": 0.2}),
        candidate("coral", scores={"a": 0.9, "b": 0.9}),
    ]


def test_source_only_is_left_where_the_advantage_is_shown_against_its_last_epoch() -> None:
    asked = []

    def p_value(one: Candidate, floor: Candidate) -> float:
        asked.append((one.method, one.epoch, floor.method, floor.epoch))
        return 0.049

    choice = choose(ranked_over_the_floor(), GUARDS, 4, Leave(0.05, p_value))

    assert (choice.method, asked) == ("coral", [("coral", 1, "source_only", 2)])
    assert choice.leave == {"ranked_first": {"method": "coral", "epoch": 1}, "p_value": 0.049, "level": 0.05}
    assert choice.why.endswith("its advantage over source_only has p = 0.049, under 0.05.")


def test_the_choice_stays_at_source_only_where_the_advantage_is_not_shown() -> None:
    choice = choose(ranked_over_the_floor(), GUARDS, 4, Leave(0.05, lambda one, floor: 0.05))

    assert (choice.method, choice.epoch, choice.fallback) == ("source_only", 2, False)
    assert choice.best_epoch == {"coral": 1, "source_only": 2}
    assert choice.why.startswith("coral, epoch 1, has the highest mean rank")
    assert choice.why.endswith("p = 0.050, not under 0.05: the choice stays at source_only, epoch 2.")


def test_nothing_is_tested_where_source_only_ranks_first() -> None:
    def refuse(one: Candidate, floor: Candidate) -> float:
        raise AssertionError("there is no advantage to test")

    given = [candidate("source_only", scores={"a": 0.9, "b": 0.9}), candidate("coral", scores={"a": 0.1, "b": 0.1})]

    assert choose(given, GUARDS, 4, Leave(0.05, refuse)).leave is None
