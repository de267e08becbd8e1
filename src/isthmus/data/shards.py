"""Arrays of a scenario on disk: memory-mapped `.npy` shards in the order of `image_id`.

A shard holds the images of one domain whose id begins with one bit prefix. A shard that would exceed the limit
is halved by one more bit, so that an inserted image touches only its own shard.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from isthmus.core.errors import DataError

MAX_SHARD_BYTES = 256 * 2**20


def plan_shards(
    domains: Sequence[str], manifest: pd.DataFrame, image_bytes: int, limit: int = MAX_SHARD_BYTES
) -> pd.DataFrame:
    """Assigns each image a shard and a row.

    Args:
        domains: the order gives each domain its number, which names its shards.
        manifest: columns `image_id`, `domain`.
        image_bytes: size of one prepared image [byte].
        limit: size of a shard [byte].

    Returns:
        Columns `image_id, domain, shard, row`, in the manifest's order.
    """
    places: dict[str, tuple[str, int]] = {}
    for number, domain in enumerate(domains):
        ids = sorted(manifest.loc[manifest["domain"] == domain, "image_id"])
        pending = [("", ids)]
        while pending:
            prefix, members = pending.pop()
            if len(members) > 1 and len(members) * image_bytes > limit and len(prefix) < 64:
                for bit in "10":
                    pending.append((prefix + bit, [i for i in members if _bits(i).startswith(prefix + bit)]))
                continue
            for row, image_id in enumerate(members):
                places[image_id] = (f"domain{number}-{prefix or 'all'}", row)
    frame = manifest[["image_id", "domain"]].copy()
    frame["shard"] = [places[i][0] for i in frame["image_id"]]
    frame["row"] = [places[i][1] for i in frame["image_id"]]
    return frame.reset_index(drop=True)


def open_shard(path: Path) -> NDArray[Any]:
    """Opens one shard memory-mapped and read-only.

    Raises:
        DataError: the file is missing or broken.
    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Run 'dvc repro' to write it again") from None
    return array


class Rows:
    """All images of a scenario as one array in the manifest's order, without loading them.

    Pickled it is the names of its files: another process opens them.
    """

    def __init__(self, folder: Path, index: pd.DataFrame) -> None:
        self._opened = (folder, index[["shard", "row"]])
        self._shards = {name: open_shard(folder / f"{name}.npy") for name in sorted(set(index["shard"]))}
        self._names = index["shard"].to_numpy()
        self._rows = index["row"].to_numpy(dtype=np.int64)

    def __reduce__(self) -> Any:
        return Rows, self._opened

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return next(iter(self._shards.values())).shape[1:]

    def take(self, positions: NDArray[np.int64], inside: NDArray[np.int64] | None = None) -> NDArray[Any]:
        """Returns the rows at these places of the manifest, in this order, as one array.

        Args:
            positions: places of the manifest.
            inside: of each, which one entry along the row's first axis; None: the whole row.
        """
        first = next(iter(self._shards.values()))
        out = np.empty((len(positions), *self.shape[0 if inside is None else 1 :]), first.dtype)
        names = self._names[positions]
        for name in set(names):
            here = names == name
            rows = self._rows[positions[here]]
            out[here] = self._shards[name][rows if inside is None else (rows, inside[here])]
        return out

    def of_images(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Returns one row of features an image, `[n, D]`; of an image's cells the mean, in float32."""
        taken = self.take(positions)
        return taken.astype(np.float32).mean(axis=1) if taken.ndim == 3 else taken


def cells_of(images: NDArray[np.int64], cells: int) -> NDArray[np.int64]:
    """Returns the rows of these images' cells, image by image.

    >>> cells_of(np.array([0, 2]), 2).tolist()
    [0, 1, 4, 5]
    """
    rows: NDArray[np.int64] = (images[:, None] * cells + np.arange(cells)).reshape(-1)
    return rows


class CellRows:
    """The cells of all images as rows, image by image, without loading them: `[N * T, D]` of shards `[N, T, D]`."""

    def __init__(self, folder: Path, index: pd.DataFrame) -> None:
        self._images = Rows(folder, index)
        self.cells = self._images.shape[0]

    def __len__(self) -> int:
        return len(self._images) * self.cells

    def take(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Returns these cells in this order, `[n, D]`."""
        return self._images.take(positions // self.cells, positions % self.cells)


def _bits(image_id: str) -> str:
    return f"{int(image_id[:16], 16):064b}"
