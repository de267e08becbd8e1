"""Known source/target pairs. One module a pair: simulated, bundled with a package, or fetched."""

from abc import ABC, abstractmethod
from pathlib import Path

from isthmus.core.config import Config


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
