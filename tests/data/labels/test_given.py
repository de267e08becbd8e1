"""The file of given labels, the order in which images are drawn, and the parts by purpose."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isthmus.core.errors import DataError
from isthmus.data.labels.given import (
    MEASURE,
    TRAIN,
    Given,
    drawing_order,
    for_purpose,
    pool_of,
    read_given,
    write_given,
)
from tests.raw_folders import scenario

IDS = [f"{n:032x}" for n in range(6)]


def manifest() -> pd.DataFrame:
    splits = ["train", "train", "train", "test", "train", "train"]
    domains = ["line_b", "line_b", "line_b", "line_b", "line_a", "line_b"]
    return pd.DataFrame({"image_id": IDS, "domain": domains, "split": splits})


def given(**changes: str) -> Given:
    values = {"image_id": IDS[0], "label": "crack", "purpose": "measure", "who": "Ann", "date": "2026-01-02"}
    return Given(**{**values, **changes})  # type: ignore[arg-type]


def test_what_is_written_is_read_again_and_in_the_order_of_ids(tmp_path: Path) -> None:
    entries = {
        i: given(image_id=i, who='Ann, "the boss"', purpose=p)
        for i, p in zip(IDS[1::-1], ("train", "measure"), strict=True)
    }

    write_given(tmp_path / "demo.csv", entries)

    assert read_given(tmp_path / "demo.csv") == entries
    assert list(read_given(tmp_path / "demo.csv")) == IDS[:2]


def test_without_a_file_there_are_no_labels(tmp_path: Path) -> None:
    assert read_given(tmp_path / "demo.csv") == {}


def test_a_file_that_only_dvc_has_is_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / "demo.csv.dvc").write_text("outs: []\n")

    with pytest.raises(DataError, match=r"demo.csv: is not here, and DVC has it. Run 'dvc checkout .*demo.csv.dvc'"):
        read_given(tmp_path / "demo.csv")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("image_id,class\n", "columns are image_id, class; expected image_id, class, purpose, who, date"),
        ("", "columns are none; expected"),
        (f"image_id,class,purpose,who,date\n{IDS[0]},crack,test,A,d\n", "line 2: has the purpose 'test'. Allowed"),
        (
            f"image_id,class,purpose,who,date\n{IDS[0]},crack,train,A,d\n{IDS[0]},good,train,A,d\n",
            "line 3: is the second one of its image",
        ),
    ],
)
def test_a_file_that_somebody_edited_is_refused(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "demo.csv").write_text(text)

    with pytest.raises(DataError, match=match):
        read_given(tmp_path / "demo.csv")


def test_the_order_of_the_draw_knows_nothing_but_the_ids_and_stays_when_images_come() -> None:
    order = drawing_order(IDS)

    assert order == drawing_order(reversed(IDS)) != IDS
    assert [i for i in drawing_order([*IDS, "f" * 32]) if i in IDS] == order


def test_each_image_is_among_the_first_drawn_equally_often() -> None:
    """In 4,000 pools of ten images the place of one of them is uniform: chi-squared of 9 degrees under 27.9."""
    rng = np.random.default_rng(0)
    places = np.zeros(10)
    for _ in range(4000):
        pool = [f"{n:032x}" for n in rng.integers(0, 2**62, 10)]
        places[drawing_order(pool).index(min(pool))] += 1

    assert ((places - 400) ** 2 / 400).sum() < 27.9


def test_the_pool_is_the_training_split_of_the_target() -> None:
    assert pool_of(manifest(), "line_b") == [IDS[0], IDS[1], IDS[2], IDS[5]]


def test_each_label_is_in_the_part_of_its_purpose_alone_and_none_of_the_test_split_or_of_a_source() -> None:
    purposes = ["measure", "train", "train", "train", "train", "measure"]
    entries = {i: given(image_id=i, purpose=p) for i, p in zip(IDS, purposes, strict=True)}

    parts = {p: for_purpose(entries, p, manifest(), scenario(), Path("x")) for p in (MEASURE, TRAIN)}

    assert list(parts["measure"]["image_id"]) == [IDS[0], IDS[5]]
    assert list(parts["train"]["image_id"]) == IDS[1:3]
    assert list(parts["train"]["label"]) == [0, 0]


def test_a_label_of_a_class_that_is_gone_is_refused() -> None:
    with pytest.raises(DataError, match="class 'cracks' is none of the scenario's. Did you mean 'crack'"):
        for_purpose({IDS[0]: given(label="cracks")}, "measure", manifest(), scenario(), Path("demo.csv"))
