"""The fit of the estimated accuracy: finds a planted line, and judges each scenario without itself."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.estimate_fit import fit, held_out, report, scenario_of
from isthmus.evaluation.estimate import log_odds


def planted(offsets: dict[str, float]) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"methods": rng.uniform(0.3, 0.9, 600), "doc": rng.uniform(0.3, 0.9, 600)})
    rows["pair"] = np.resize([f"{name}_{kind}" for name in offsets for kind in ("tone", "optics_reverse")], 600)
    odds = 0.7 * log_odds(rows["methods"].to_numpy()) + 0.2 * log_odds(rows["doc"].to_numpy()) - 0.3
    rows["accuracy"] = 1 / (1 + np.exp(-odds - rows["pair"].map(scenario_of).map(offsets).to_numpy()))
    return rows.assign(chosen=True)


def test_a_planted_line_is_found_but_for_the_penalty() -> None:
    line = fit(planted({f"plant{number}": 0.0 for number in range(50)}))

    # A pair weighs as much as one observation: 100 of them against a penalty of 1.
    assert line.coef_ == pytest.approx([0.7, 0.2], abs=0.05)


def test_a_scenario_is_told_by_the_others_alone() -> None:
    rows = planted({"steel": 0.0, "blood": 0.0, "scenes": 1.5})
    miss = log_odds(rows["accuracy"].to_numpy()) - held_out(rows)
    far = (rows["pair"].map(scenario_of) == "scenes").to_numpy()

    assert miss[far].mean() == pytest.approx(1.5, abs=0.2)
    assert "4 pairs, 600 models" in report(planted({"steel": 0.0, "blood": 0.0}))
