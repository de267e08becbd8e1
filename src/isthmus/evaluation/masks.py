"""Masks from logits of cells, and what is known of each image's pixels, in the order of the prepared index."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.core.files import read_json
from isthmus.data.manifest import INDEX, read_table
from isthmus.data.masks import IGNORED, Mask
from isthmus.data.shards import cells_of, open_shard
from isthmus.models.upsampling import upsampled

_AT_ONCE = 8  # images whose pixels are held


class TrueMasks:
    """Masks of all prepared images; of images without one no pixel is scored.

    Args:
        prepared: of `prepare`, with the source's masks.
        masks_target: the target's; None: they are not looked at.
    """

    def __init__(self, prepared: Path, masks_target: Path | None = None) -> None:
        index = read_table(prepared / "index.parquet", INDEX)
        self.side = int(read_json(prepared / "facts.json")["height"])
        folders = [prepared / "masks", *([masks_target] if masks_target else [])]
        found = {path.stem: open_shard(path) for folder in folders for path in sorted(folder.glob("*.npy"))}
        self._places = [
            (found.get(name), row) for name, row in zip(index["shard"], index["row"].to_numpy(np.int64), strict=True)
        ]

    def take(self, rows: NDArray[np.int64]) -> Mask:
        """Returns the masks of these images, uint8 `[n, H, W]`."""
        masks = np.full((len(rows), self.side, self.side), IGNORED, np.uint8)
        for number, place in enumerate(rows):
            shard, row = self._places[place]
            if shard is not None:
                masks[number] = shard[row]
        return masks

    def scored(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Says of each of these images whether any of its pixels is scored, `[n]`."""
        return np.array([(self.take(rows[n : n + 1]) != IGNORED).any() for n in range(len(rows))], np.bool_)


def predicted_pixels(
    logits: NDArray[np.float32], rows: NDArray[np.int64], grid: tuple[int, int], side: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Yields some of the images at a time: their places in `rows`, and probabilities of their pixels `[n, K, H, W]`.

    Args:
        logits: float32 `[N * T, K]` of all images.
        rows: images that are wanted.
        grid: rows and columns of cells.
        side: of an image [pixel].
    """
    cells = grid[0] * grid[1]
    for start in range(0, len(rows), _AT_ONCE):
        places = np.arange(start, min(start + _AT_ONCE, len(rows)))
        pixels = upsampled(torch.from_numpy(logits[cells_of(rows[places], cells)]), grid, side).softmax(dim=1)
        yield places, pixels.numpy()


def predicted_masks(logits: NDArray[np.float32], rows: NDArray[np.int64], grid: tuple[int, int], side: int) -> Mask:
    """Returns the most probable class of each pixel, uint8 `[n, H, W]`; arguments as of `predicted_pixels`."""
    found = [pixels.argmax(axis=1).astype(np.uint8) for _, pixels in predicted_pixels(logits, rows, grid, side)]
    return np.concatenate(found) if found else np.zeros((0, side, side), np.uint8)
