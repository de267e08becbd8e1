"""The order of methods by what they gained on other pairs, and what preferring the first of them is worth."""

from pathlib import Path

from benchmarks.pool import params_of
from benchmarks.preferred import Pair, order, worth
from isthmus.evaluation.selection.choice import HALF_STEP, Candidate, Leave
from isthmus.stages import select

ROOT = Path(__file__).parents[2]
SCORES = {"source_only": 0.0, "dann": 0.9, "mcc": 0.5, "shot": 0.4}


def pair(name: str, real: bool, **accuracy: float) -> Pair:
    candidates = [
        Candidate(method, 1, frozenset(), {"a": SCORES[method]}, 0.9, 4.0, 4.0, 0.0)
        for method in ("source_only", *accuracy)
    ]
    every = {"source_only": 0.5, **accuracy}
    given = params_of(select.Params, ROOT / "params.yaml", scenario="industrial")
    gains = {method: value - 0.5 for method, value in every.items()}
    leave = Leave(0.1, lambda one, floor: 0.5)

    def half(prefer: list[str]) -> tuple[dict[tuple[str, int], float], list[Candidate]]:
        part = Candidate(HALF_STEP, 1, frozenset(), {}, 0.9, 4.0, 4.0, 0.0)
        return {(HALF_STEP, 1): (0.5 + every[prefer[0]]) / 2}, [*candidates, part]

    return Pair(name, real, given, candidates, leave, half, {(m, 1): value for m, value in every.items()}, gains)


def test_real_pairs_weigh_as_much_as_all_others_and_a_method_held_back_gained_nothing() -> None:
    others = [pair(f"{name}_tone", False, dann=0.6, mcc=0.5) for name in ("steel", "blood", "scenes")]
    real = pair("steel", True, dann=0.45, mcc=0.59)

    assert order(others) == ["dann", "mcc"]
    assert order([*others, real])[0] == "mcc"  # 0 and .09 against .1 and -.05: three others weigh as much as one
    assert order([pair("steel", True, dann=0.4), pair("blood", True, dann=0.4, shot=0.55)]) == ["shot", "dann"]


def test_the_first_of_the_scenarios_own_order_are_preferred() -> None:
    pairs = [pair("steel", True, dann=0.4, mcc=0.7), pair("blood_tone", False, dann=0.8, mcc=0.6)]
    orders = {"steel": ["mcc", "dann"], "blood": ["mcc", "dann"]}

    assert worth(pairs, orders, 0, "no test") == "| 0, no test | 30.0 | 1 of 1 | -10.0 | 0.0 | 0 of 1 | 30.0 |"
    assert worth(pairs, orders, 1, "no test") == "| 1, no test | 0.0 | 0 of 1 | 20.0 | 20.0 | 0 of 1 | 10.0 |"


def test_where_no_advantage_is_shown_source_only_is_kept_or_half_a_step_taken() -> None:
    pairs = [pair("steel", True, dann=0.4, mcc=0.7), pair("blood_tone", False, dann=0.8, mcc=0.6)]
    orders = {"steel": ["mcc", "dann"], "blood": ["mcc", "dann"]}

    assert worth(pairs, orders, 1, "test") == "| 1, test | 20.0 | 0 of 1 | 0.0 | 30.0 | 0 of 1 | 0.0 |"
    assert worth(pairs, orders, 1, "half step") == "| 1, half step | 10.0 | 0 of 1 | 10.0 | 25.0 | 0 of 1 | 5.0 |"


def test_what_is_shipped_prefers_methods_that_are_shipped() -> None:
    given = params_of(select.Params, ROOT / "params.yaml", scenario="industrial")

    assert given.select.prefer
    assert set(given.select.prefer) <= set(given.methods)
