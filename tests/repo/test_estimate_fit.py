"""The fit of the estimated accuracy: finds a planted line, and judges each scenario without itself."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.estimate_fit import fit, held_out, lines_without, report, scenario_of
from isthmus.evaluation.confidence.estimate import log_odds


def planted(offsets: dict[str, float]) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"methods": rng.uniform(0.3, 0.9, 600), "doc": rng.uniform(0.3, 0.9, 600)})
    rows["second"] = rng.uniform(0.3, 0.9, 600)
    rows["pair"] = np.resize([f"{name}_{kind}" for name in offsets for kind in ("tone", "optics_reverse")], 600)
    odds = 0.7 * log_odds(rows["methods"].to_numpy()) + 0.2 * log_odds(rows["doc"].to_numpy()) - 0.3
    rows["accuracy"] = 1 / (1 + np.exp(-odds - rows["pair"].map(scenario_of).map(offsets).to_numpy()))
    return rows.assign(chosen=True, real=False)


def test_a_planted_line_is_found_but_for_the_penalty() -> None:
    line = fit(planted({f"plant{number}": 0.0 for number in range(50)}))

    # A pair weighs as much as one observation: 100 of them against a penalty of 1.
    assert line.coef_ == pytest.approx([0.7, 0.2, 0.0], abs=0.05)


def test_a_scenario_is_told_by_the_others_alone() -> None:
    rows = planted({"steel": 0.0, "blood": 0.0, "scenes": 1.5})
    miss = log_odds(rows["accuracy"].to_numpy()) - held_out(rows)
    far = (rows["pair"].map(scenario_of) == "scenes").to_numpy()

    assert miss[far].mean() == pytest.approx(1.5, abs=0.2)
    assert "4 pairs, 600 models" in report(planted({"steel": 0.0, "blood": 0.0}))


def test_real_pairs_weigh_as_much_as_all_others_together() -> None:
    many = planted({f"plant{number}": 0.0 for number in range(49)})
    few = planted({"camera": -2.0})
    rows = pd.concat([many, few.assign(real=True)], ignore_index=True)

    intercept = fit(rows).intercept_

    assert intercept == pytest.approx(-0.3 - 1.0, abs=0.15)  # half way, though they are 2 pairs of 100
    assert fit(rows.assign(real=False)).intercept_ == pytest.approx(-0.3 - 2 / 50, abs=0.15)


def test_a_line_without_a_scenario_has_seen_nothing_of_it() -> None:
    rows = planted({"steel": 0.0, "blood": 0.0, "scenes": 0.0})
    marked = rows.assign(real=rows["pair"].str.contains("steel"))
    here = marked["pair"].str.contains("blood")

    before = lines_without(marked)
    changed = lines_without(marked.assign(accuracy=marked["accuracy"].where(~here, 0.5)))

    assert before["blood"] == changed["blood"]
    assert before["steel"] != changed["steel"]


def test_digits_are_one_scenario_in_all_directions() -> None:
    assert {scenario_of(name) for name in ("mnist_usps", "usps_mnist_tone", "digits_reverse")} == {"digits"}
