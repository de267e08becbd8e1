"""Boxes of a registered model against the true ones, also of a champion whose classes were others."""

import json
from pathlib import Path

import pandas as pd
import pytest

from isthmus.registry.gate.answered_boxes import AnsweredBoxes

TEXTS = [json.dumps([[1, 0, 0, 10, 10], [2, 20, 20, 30, 30]])]  # class, left, top, right, bottom
OURS = ["ground", "cell", "crystal"]


@pytest.mark.parametrize(
    ("theirs", "last", "classes", "right"),
    [
        (OURS, "crystal", [1, 2], [True, True]),
        (["ground", "crystal", "cell"], "crystal", [1, 2], [True, True]),
        (["ground", "crystal", "cell"], "cell", [1, 1], [True, False]),
        (["ground", "cell", "fibre"], "fibre", [1], [True]),
    ],
)
def test_classes_of_the_model_are_matched_by_name_and_boxes_of_an_unknown_one_are_left_out(
    theirs: list[str], last: str, classes: list[int], right: list[bool], tmp_path: Path
) -> None:
    answered = [
        {"box": [0.0, 0.0, 10.0, 10.0], "label": "cell", "score": 0.9},
        {"box": [20.0, 20.0, 30.0, 30.0], "label": last, "score": 0.8},
    ]
    path = tmp_path / "champion.parquet"
    rows = {"image_id": ["a"], "sha256": ["x"], "threshold": [0.5], "boxes": [json.dumps(answered)]}
    pd.DataFrame(rows).to_parquet(path)

    AnsweredBoxes(TEXTS, OURS).count(path, theirs)

    row = pd.read_parquet(path).iloc[0]
    assert row["classes"].tolist() == classes
    assert row["right"].tolist() == right
    assert row["true_boxes"].tolist() == [0, 1, 1]
