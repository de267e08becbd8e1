"""Tells which methods are best on other pairs, and what preferring them is worth: whence `select.prefer`.

`python -m benchmarks.preferred --params out/pseudo/params.yaml --pool out/pool steel_tone=out/pseudo/steel_tone --real
steel=out/steel`, after `benchmarks.pool` with the same pairs. All by labels of the target's TRAINING split. For each
scenario the methods are ordered by what they gained on the pairs of all other scenarios: balanced accuracy over the
median of the methods that passed the guards, clipped so that no pair decides alone; a method that a guard held back has
gained nothing there. Pairs after `--real` have a real target; together they weigh as much as all others. Then the
first 0, 1, 2, 3 and 5 of that order are preferred, and the rule chooses as the stage does: with the test before
source-only is left, with half a step where it is not passed, and without the test. Prints, for real pairs and for the
others: regret to the best epoch of any candidate [points]; pairs more than a point below source-only; the lowest."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.choice import NEGATIVE, every_accuracy, labelled, measured, open_pool
from benchmarks.estimate_fit import scenario_of
from benchmarks.pool import inputs_of, params_for, params_of
from isthmus.core.config import read_yaml
from isthmus.core.files import read_json
from isthmus.evaluation.selection.candidates import with_half_step
from isthmus.evaluation.selection.choice import HALF_STEP, SOURCE_ONLY, Candidate, Leave, choose, half_step
from isthmus.evaluation.trained import read_samples
from isthmus.stages import select

MOST = 0.15  # [share] that a method can gain or lose on one pair
PREFERRED = (0, 1, 2, 3, 5)
HOW = ("test", "half step", "no test")


@dataclass(frozen=True)
class Pair:
    """What is known of one pair.

    Attributes:
        half: preferred methods -> accuracy of the half step, and all candidates with it.
        accuracy: of (method, epoch), balanced, on the target's training split; mean over seeds.
        gains: of methods that passed the guards, at the epoch that each stands with.
    """

    name: str
    real: bool
    given: select.Params
    candidates: list[Candidate]
    leave: Leave | None
    half: Callable[[list[str]], tuple[dict[tuple[str, int], float], list[Candidate]]]
    accuracy: dict[tuple[str, int], float]
    gains: dict[str, float]


def pair_of(params: Path, rule: Path | None, text: str, pool: Path, real: bool) -> Pair:
    """Measures the pool of one pair."""
    name, _, folder = text.partition("=")
    inputs = inputs_of(name, Path(folder), pool / name, read_yaml(params)["seed"])
    own = params_for(params, name, pool / name, [SOURCE_ONLY], rule)
    samples = read_samples(inputs / "manifest.parquet", inputs / "prepared")
    facts = read_json(pool / name / "train" / SOURCE_ONLY / "run.json")
    runs = open_pool(pool / name / "train", None, facts["classes"], len(samples.label))
    given = params_of(select.Params, own, scenario=name)
    views, candidates, leave = measured(given, inputs, runs, samples)
    labels, rows = labelled(inputs, samples, facts["domains"][-1], "train")
    accuracy = every_accuracy(runs, labels, rows)
    made = choose(candidates, given.select, len(facts["classes"]))
    passed = {c["method"]: accuracy[c["method"], c["epoch"]] for c in made.candidates if not c["out"]}

    def half(prefer: list[str]) -> tuple[dict[tuple[str, int], float], list[Candidate]]:
        of = half_step(candidates, given.select, len(facts["classes"]), prefer)
        with_it, also = with_half_step(runs, candidates, views, of)
        return every_accuracy({m: run for m, run in with_it.items() if m == HALF_STEP}, labels, rows), also

    middle = float(np.median(list(passed.values())))
    gains = {method: float(np.clip(value - middle, -MOST, MOST)) for method, value in passed.items()}
    return Pair(name, real, given, candidates, leave, half, accuracy, gains)


def order(pairs: list[Pair]) -> list[str]:
    """Returns the adapted methods, the best on these pairs first; real ones together weigh as much as all others."""
    means = []
    for real in {pair.real for pair in pairs}:
        part = [pair.gains for pair in pairs if pair.real == real]
        means.append(pd.DataFrame(part).fillna(0.0).mean())
    gained = pd.DataFrame(means).fillna(0.0).mean().drop(SOURCE_ONLY)
    return [str(name) for name in gained.sort_values(ascending=False, kind="stable").index]


def worth(pairs: list[Pair], orders: dict[str, list[str]], count: int, how: str) -> str:
    """Returns regret and falls below source-only where the first `count` of each scenario's order are preferred.

    Args:
        pairs: all.
        orders: scenario -> methods.
        count: how many of them are preferred.
        how: one of `HOW`.
    """
    lines = []
    for real in (True, False):
        regrets, gains = [], []
        for pair in (p for p in pairs if p.real == real):
            prefer = orders[scenario_of(pair.name)][:count]
            extra, candidates = pair.half(prefer) if how == "half step" else ({}, pair.candidates)
            leave = None if how == "no test" else pair.leave
            made = choose(candidates, pair.given.select, len(pair.given.scenario.classes), leave, prefer)
            chosen = (pair.accuracy | extra)[made.method, made.epoch]
            regrets.append(max(pair.accuracy.values()) - chosen)
            gains.append(chosen - pair.accuracy[SOURCE_ONLY, made.best_epoch[SOURCE_ONLY]])
        below = sum(gain < -NEGATIVE for gain in gains)
        if gains:
            lines.append(f" {100 * np.mean(regrets):.1f} | {below} of {len(gains)} | {100 * min(gains):.1f} |")
    return f"| {count}, {how} |" + "".join(lines)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preferred", description=__doc__)
    parser.add_argument("--params", type=Path, required=True)
    parser.add_argument("--rule", type=Path, help="params.yaml whose `select` is used; default: --params")
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--real", nargs="+", default=[], metavar="PAIR=FOLDER", help="pairs with a real target")
    parser.add_argument("pairs", nargs="*", metavar="PAIR=FOLDER")
    given = parser.parse_args()
    asked = [(text, True) for text in given.real] + [(text, False) for text in given.pairs]
    pairs = [pair_of(given.params, given.rule, text, given.pool, real) for text, real in asked]
    scenarios = sorted({scenario_of(pair.name) for pair in pairs})
    orders = {name: order([p for p in pairs if scenario_of(p.name) != name]) for name in scenarios}
    for name, methods in orders.items():
        print(f"without {name}: {', '.join(methods[:5])}")
    print(f"of all: {', '.join(order(pairs)[:5])}")
    for how in HOW:
        for count in PREFERRED:
            print(worth(pairs, orders, count, how))


if __name__ == "__main__":
    main()
