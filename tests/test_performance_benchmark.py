"""What docs/performance.md says follows from what was measured."""

from pathlib import Path

import yaml

from benchmarks.demo import rows_of
from benchmarks.embed import accuracies, accuracy_text
from benchmarks.overheads import chain, graph
from isthmus.core.files import write_json


def results(folder: Path, accuracy: dict[str, float]) -> Path:
    for pair, value in accuracy.items():
        write_json(folder / pair / "result.json", {"accuracy": {"chosen": {"test": value}}})
    return folder


def test_a_change_of_accuracy_over_the_bound_is_shown_as_not_reached(tmp_path: Path) -> None:
    exact = results(tmp_path / "float32", {"steel": 56.0, "blood": 70.0})
    rounded = results(tmp_path / "bfloat16", {"steel": 55.7, "blood": 70.1})

    text = accuracy_text(exact, rounded)

    assert accuracies(exact, rounded) == [("blood", 70.0, 70.1), ("steel", 56.0, 55.7)]
    assert "steel [%] | 56.0 in float32, 55.7 in bfloat16 | at most 0.2 points | -0.30 | not reached |" in text
    assert "blood [%] | 70.0 in float32, 70.1 in bfloat16 | at most 0.2 points | +0.10 | reached |" in text


def test_the_bare_chain_has_as_many_stages_as_a_scenario_of_the_graph(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "bare").mkdir()

    count = graph(tmp_path / "one")
    chain(tmp_path / "bare", count)

    params = yaml.safe_load((tmp_path / "one" / "params.yaml").read_text())
    assert list(params["scenarios"]) == ["s0"]
    assert len(yaml.safe_load((tmp_path / "bare" / "dvc.yaml").read_text())["stages"]) == count


def test_the_compute_of_a_scenario_is_what_its_stages_take_after_their_start() -> None:
    stages = {"shift@s": (2.0, 1.0), "train@s-mmd": (8.0, 2.0), "report@s": (0.0, 1.0)}

    rows = rows_of(first=130.0, again=11.0, repro=14.0, logging=0.06, stages=stages)

    assert [(row.ratio, row.reached) for row in rows] == [
        ("1.08", False),
        ("0.92", True),
        ("1.40", True),
        ("0.8%", True),
    ]
    assert "3 stages" in rows[2].what
    assert "compute of 1 trainings" in rows[3].what
    assert rows[3].measured == "0.1 s, the trainings 8 s"
