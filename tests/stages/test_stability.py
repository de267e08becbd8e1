"""Adding images moves no other: DESIGN's rule of splits and shards, by real runs of `ingest` and `prepare`."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from isthmus.core.files import sha256_file
from isthmus.data.manifest import INDEX, read_table
from isthmus.data.preprocess import prepare as preparing
from isthmus.data.shards import plan_shards
from tests.raw_folders import CLASSES, pixels, write_raw
from tests.stages.test_ingest import manifest
from tests.stages.test_prepare import arrays, go

SHARD = 4 * 20 * 20 * 3  # [byte]: four images, so that a domain has many shards


def index(out: Path) -> pd.DataFrame:
    return read_table(out / "prepared" / "index.parquet", INDEX)


def test_a_hundred_added_images_change_only_the_shards_that_hold_them_and_move_no_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "plan_shards", partial(plan_shards, limit=SHARD))
    monkeypatch.setattr("isthmus.data.workers._WORTH_A_POOL", 10_000)
    raw = write_raw(tmp_path / "raw", each=40)
    before = go(raw, tmp_path / "before")
    rng = np.random.default_rng(77)
    for number in range(100):
        Image.fromarray(pixels(rng)).save(raw / "line_a" / CLASSES[number % 2] / f"late-{number:03d}.png")

    after = go(raw, tmp_path / "after")

    older, newer = manifest(before).set_index("image_id"), manifest(after).set_index("image_id")
    added = newer.index.difference(older.index)
    assert len(added) == 100
    pd.testing.assert_frame_equal(newer.loc[older.index], older)  # split and group among the columns
    old, new = index(before), index(after)
    touched = set(new.loc[new["image_id"].isin(added), "shard"])
    whole = [name for name in set(old["shard"]) if name in set(new["shard"]) - touched]
    assert len(whole) > 20
    assert all(name in whole for name in set(old.loc[old["domain"] == "line_b", "shard"]))
    for name in whole:
        shards = (out / "prepared" / "shards" / f"{name}.npy" for out in (before, after))
        assert len({sha256_file(path) for path in shards}) == 1
    assert set(old["image_id"]) <= set(new["image_id"])
    here, there = arrays(before), arrays(after)
    assert all(here[name].tobytes() == there[name].tobytes() for name in here)
