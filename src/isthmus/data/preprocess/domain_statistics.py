"""Mean and standard deviation of a domain's training images while they stream by, and how far the stream has come."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.files import read_json, write_json
from isthmus.core.progress import Pace
from isthmus.data.preprocess.row_writer import RowFormat

Sums = tuple[list[float], list[float]]  # of one image: means and mean squares a channel, in its own units
_SECONDS = 10.0  # between two states on disk: the work to do again; rows are brought to the disk before each


def sums_of(array: NDArray[Any]) -> Sums:
    """Returns the mean and the mean square of each channel of `[H, W, C]`."""
    height, width, channels = array.shape
    if array.dtype == np.uint8:  # whole numbers: exact; down the rows first, where neighbours are added at once
        rows = array.reshape(height, -1).astype(np.uint16)  # 255^2 fits
        wide = np.uint32 if height < 2**16 else np.uint64
        totals = [np.add.reduce(part, axis=0, dtype=wide).reshape(-1, channels) for part in (rows, rows * rows)]
        means, squares = ([int(n) / (height * width) for n in total.sum(axis=0)] for total in totals)
        return means, squares
    deep = array.reshape(-1, channels).astype(np.float64)
    return deep.mean(axis=0).tolist(), np.square(deep).mean(axis=0).tolist()


class Moments:
    """Mean and standard deviation of one domain's training images, each channel, values in [0, 1]."""

    def __init__(self, rows: RowFormat) -> None:
        dtype = np.dtype(rows.dtype)
        self._scale = float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0
        self._sum = np.zeros(rows.shape[2])
        self._squares = np.zeros(rows.shape[2])
        self.count = 0

    def add(self, sums: Sums) -> None:
        """Counts one image."""
        self._sum += np.array(sums[0]) / self._scale
        self._squares += np.array(sums[1]) / self._scale**2
        self.count += 1

    def mean(self) -> list[float]:
        """Returns the mean of each channel."""
        return [round(float(v), 8) for v in self._sum / self.count]

    def std(self) -> list[float]:
        """Returns the standard deviation of each channel."""
        variance = np.maximum(self._squares / self.count - np.square(self._sum / self.count), 0)
        return [round(float(v), 8) for v in np.sqrt(variance)]

    def state(self) -> dict[str, Any]:
        """Returns everything, exactly: JSON keeps all digits of a float."""
        return {"sum": self._sum.tolist(), "squares": self._squares.tolist(), "count": self.count}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state` returned."""
        self._sum, self._squares = np.array(state["sum"]), np.array(state["squares"])
        self.count = state["count"]


def moments_of(images: NDArray[Any]) -> Moments:
    """Returns the moments of images `[N, H, W, C]` that are all there already."""
    found = Moments(RowFormat(images.shape[1:], images.dtype.name))
    for image in images:
        found.add(sums_of(image))
    return found


class Progress:
    """How many images of a scenario are in their rows, which were refused, and the sums of those counted.

    What lies on disk is never ahead of the rows: a run that is killed writes some rows a second time.
    """

    def __init__(self, path: Path, sums: dict[str, Moments]) -> None:
        self._path = path
        self._pace = Pace(_SECONDS)
        self.done = 0
        self.refused: list[list[str]] = []
        if path.is_file():
            state = read_json(path)
            self.done, self.refused = state["done"], state["refused"]
            for domain, moments in sums.items():
                moments.restore(state["sums"][domain])

    def step(self) -> bool:
        """Counts one image; returns whether it is time to save."""
        self.done += 1
        return self._pace.due()

    def save(self, sums: dict[str, Moments]) -> None:
        """Writes the state atomically."""
        kept = {domain: moments.state() for domain, moments in sums.items()}
        write_json(self._path, {"done": self.done, "refused": self.refused, "sums": kept})
