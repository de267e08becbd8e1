"""Rows of shards written one by one, by several processes, without ever being mapped: memory stays flat.

A mapped file counts as memory of the process that writes it until the system takes the pages back; a written row does
not. The bytes are those of `numpy.save`.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray


class RowFormat(NamedTuple):
    """What every row of a scenario's shards is. Picklable, so that workers write their own rows."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def row_bytes(self) -> int:
        """Size of one row [byte]."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


def create_shards(folder: Path, index: pd.DataFrame, rows: RowFormat) -> None:
    """Writes shards of zeros, sparse on disk, as long as the index says.

    Args:
        folder: new or empty.
        index: column `shard`, one row an image.
        rows: shape and dtype of one image.
    """
    folder.mkdir(parents=True)
    for name, count in index["shard"].value_counts().sort_index().items():
        with (folder / f"{name}.npy").open("wb") as stream:
            stream.truncate(_write_header(stream, int(count), rows) + int(count) * rows.row_bytes)


def write_row(path: Path, row: int, array: NDArray[Any]) -> None:
    """Writes one row of a shard that `create_shards` made."""
    data = np.ascontiguousarray(array).tobytes()
    file = os.open(path, os.O_RDWR)
    try:
        os.pwrite(file, data, _header_bytes(file) + row * len(data))
    finally:
        os.close(file)


def copy_row(source: Path, row: int, target: Path, target_row: int, rows: RowFormat) -> None:
    """Copies one row from a shard to another."""
    file = os.open(source, os.O_RDONLY)
    try:
        data = os.pread(file, rows.row_bytes, _header_bytes(file) + row * rows.row_bytes)
    finally:
        os.close(file)
    write_row(target, target_row, np.frombuffer(data, rows.dtype))


def synchronise(folder: Path) -> None:
    """Flushes all shards to the disk."""
    for path in sorted(folder.glob("*.npy")):
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def _write_header(stream: Any, count: int, rows: RowFormat) -> int:
    descr = np.lib.format.dtype_to_descr(np.dtype(rows.dtype))
    header = {"descr": descr, "fortran_order": False, "shape": (count, *rows.shape)}
    np.lib.format.write_array_header_1_0(stream, header)
    return int(stream.tell())


def _header_bytes(file: int) -> int:
    return 10 + int.from_bytes(os.pread(file, 2, 8), "little")  # version 1.0: mark, version, length of the rest
