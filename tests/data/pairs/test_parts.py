import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from isthmus.data.pairs import parts
from isthmus.data.pairs.parts import Config


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "SPLITS", {"line_a": {"train": 2, "test": 6}, "line_b": {"train": 20, "test": 2}})
        Config().build().write(made, 0)
    return made


def test_only_defective_parts_have_a_mask_and_it_lies_on_their_own_grid(folder: Path) -> None:
    rows = list(csv.DictReader((folder / "images.csv").read_text().splitlines()))

    assert Counter((r["domain"], r["split"], r["label"] == "good") for r in rows) == {
        ("line_a", "train", True): 2, ("line_a", "test", True): 3, ("line_a", "test", False): 3,
        ("line_b", "train", True): 19, ("line_b", "train", False): 1, ("line_b", "test", True): 1,
        ("line_b", "test", False): 1,
    }  # fmt: skip
    for row in rows:
        assert np.asarray(Image.open(folder / row["path"])).shape == (200, 200)
        assert bool(row["mask"]) == (row["label"] != "good")
        if row["mask"]:
            mask = np.asarray(Image.open(folder / row["mask"]))
            assert set(np.unique(mask)) == {0, 255} and 0.001 < (mask > 0).mean() < 0.5


def test_no_lot_is_in_two_splits() -> None:
    lots: dict[tuple[str, int], set[str]] = {}
    for part in parts._jobs():
        lots.setdefault((part.line, part.lot), set()).add(part.split)

    assert all(len(splits) == 1 for splits in lots.values())
