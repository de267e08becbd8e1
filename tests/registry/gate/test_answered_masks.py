"""Masks of a registered model against the true ones, also of a champion whose classes were others."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from isthmus.core.files import sha256_file
from isthmus.gates.scored import read_answers
from isthmus.registry.gate.answered_masks import AnsweredMasks
from isthmus.registry.model.mask_text import as_text
from tests.dense_folders import dense

TRUTH = np.array([[0, 0, 1, 1], [0, 0, 2, 255]], np.uint8)
OURS = ["ground", "spot", "scratch"]


def counted(folder: Path, answered: np.ndarray, theirs: list[str]) -> np.ndarray:
    """Returns pixels by true and answered class, as the gate reads them."""
    Image.fromarray(TRUTH).save(folder / "mask.png")
    rows = pd.DataFrame(
        [{"image_id": "a", "part": "", "label": 0, "mask": "mask.png", "mask_sha256": sha256_file(folder / "mask.png")}]
    )
    pd.DataFrame({"image_id": ["a"], "sha256": ["x"], "mask": [as_text(answered)]}).to_parquet(
        folder / "champion.parquet"
    )
    AnsweredMasks(folder, rows, dense(annotations={}).annotation_config(), OURS).count(
        folder / "champion.parquet", theirs
    )
    facts = {
        "model_id": "m", "version": "1", "failure": "", "bundled": True, "classes": theirs, "inputs": {}, "outputs": {},
        "size_bytes": 1, "latency": {},
    }  # fmt: skip
    (folder / "champion.json").write_text(pd.Series(facts).to_json())
    counts = read_answers(folder, "champion").counts
    assert counts is not None
    return counts[0]


@pytest.mark.parametrize(
    ("theirs", "answered", "expected"),
    [
        (OURS, [[0, 1, 1, 1], [0, 0, 2, 2]], [[3, 1, 0], [0, 2, 0], [0, 0, 1]]),
        (["spot", "ground", "scratch"], [[1, 0, 0, 0], [1, 1, 2, 2]], [[3, 1, 0], [0, 2, 0], [0, 0, 1]]),
        (["ground", "spot"], [[0, 1, 1, 1], [0, 0, 1, 1]], [[3, 1, 0], [0, 2, 0], [0, 1, 0]]),
        (["ground", "spot", "scratch", "hole"], [[0, 3, 3, 1], [0, 0, 2, 2]], [[3, 1, 0], [1, 1, 0], [0, 0, 1]]),
    ],
    ids=["the same", "another order", "one fewer", "one that is gone"],
)
def test_classes_of_the_model_are_matched_by_name_and_an_unknown_one_is_wrong(
    theirs: list[str], answered: list[list[int]], expected: list[list[int]], tmp_path: Path
) -> None:
    assert counted(tmp_path, np.array(answered, np.uint8), theirs).tolist() == expected
