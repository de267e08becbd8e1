from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isthmus.data.preprocess.domain_statistics import Moments, sums_of
from isthmus.data.preprocess.row_writer import RowFormat, copy_row, create_shards, write_row


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16"])
def test_written_rows_are_the_bytes_that_numpy_saves(dtype: str, tmp_path: Path) -> None:
    arrays = np.random.default_rng(0).integers(0, 200, (5, 4, 3, 2)).astype(dtype)
    index = pd.DataFrame({"shard": ["a"] * 5})

    create_shards(tmp_path / "new", index, RowFormat((4, 3, 2), dtype))
    for row in (3, 0, 4, 1, 2):
        write_row(tmp_path / "new" / "a.npy", row, arrays[row])

    np.save(tmp_path / "saved.npy", arrays)
    assert (tmp_path / "new" / "a.npy").read_bytes() == (tmp_path / "saved.npy").read_bytes()


def test_a_row_is_copied_to_another_place(tmp_path: Path) -> None:
    rows = RowFormat((2, 2, 1), "uint16")
    for name in ("one", "two"):
        create_shards(tmp_path / name, pd.DataFrame({"shard": ["a"] * 3}), rows)
    write_row(tmp_path / "one" / "a.npy", 2, np.full((2, 2, 1), 7, np.uint16))

    copy_row(tmp_path / "one" / "a.npy", 2, tmp_path / "two" / "a.npy", 1, rows)

    assert np.load(tmp_path / "two" / "a.npy")[:, 0, 0, 0].tolist() == [0, 7, 0]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16"])
def test_moments_are_those_of_all_pixels_and_a_state_restores_them_exactly(dtype: str) -> None:
    images = np.random.default_rng(0).integers(0, 250, (6, 9, 8, 3)).astype(dtype)
    scale = 1.0 if dtype == "float16" else float(np.iinfo(dtype).max)
    rows = RowFormat((9, 8, 3), dtype)
    whole, half, rest = Moments(rows), Moments(rows), Moments(rows)
    for place, image in enumerate(images):
        whole.add(sums_of(image))
        if place < 3:
            half.add(sums_of(image))
    rest.restore(half.state())
    for image in images[3:]:
        rest.add(sums_of(image))

    values = images.astype(np.float64).reshape(-1, 3) / scale
    assert whole.mean() == pytest.approx(values.mean(axis=0), rel=1e-6, abs=1e-7)
    assert whole.std() == pytest.approx(values.std(axis=0), rel=1e-6, abs=1e-7)
    assert rest.state() == whole.state()
