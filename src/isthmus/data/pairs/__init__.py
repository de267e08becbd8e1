"""Known source/target pairs. One module a pair: simulated, bundled with a package, or fetched."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from isthmus.core.config import Config
from isthmus.core.engine import processors
from isthmus.core.progress import track
from isthmus.data.workers import in_order

Job = TypeVar("Job")


def write_each(write: Callable[[Job], None], jobs: Sequence[Job], pair: str) -> None:
    """Writes a simulated pair by all processors, and shows how far it is.

    Args:
        write: makes one job's files, of the job alone; it and the jobs are pickled.
        jobs: one an image.
        pair: its name.
    """
    deque(track(in_order(write, jobs, processors()), f"simulate {pair}", len(jobs)), maxlen=0)


class PairConfig(Config):
    """Options of a pair that the `simulate` stage writes: a section under `pairs:` in `params.yaml`."""

    def build(self) -> "Pair":
        """Returns the pair with these options. Each module's `Config` says how."""
        raise TypeError(f"{type(self).__module__}: Config has no build()")


class Pair(ABC):
    """A pair whose raw files this machine can make by itself."""

    @abstractmethod
    def write(self, folder: Path, seed: int) -> None:
        """Writes the files; the same seed writes the same bytes.

        Classes: `<folder>/<domain>/<class>/file`. Segmentation: `<domain>/images/NAME.*` and `<domain>/masks/NAME.png`.
        Change: `<domain>/a/NAME.*`, the later `<domain>/b/NAME.*`, and `<domain>/masks/NAME.png`. Or with `images.csv`.
        """
