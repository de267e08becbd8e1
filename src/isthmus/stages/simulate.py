"""Write the raw images of a pair that this machine can make by itself.

raw: `<domain>/<class>/file`, as the pair's own module says (format, dtype, size, names).
"""

from pathlib import Path
from typing import Annotated, ClassVar

from isthmus.core.config import Config, plugin
from isthmus.core.files import atomic_folder
from isthmus.data.pairs import PairConfig
from isthmus.stages._cli import stage


class Params(Config):
    """What `simulate` reads of `params.yaml`."""

    SECTIONS: ClassVar[dict[str, str]] = {"pair": "pairs.{pair}"}

    pair: Annotated[PairConfig, plugin("data.pairs")]
    seed: int


def run(params: Params, *, raw: Path) -> None:
    """Writes the pair; an older folder is replaced as a whole."""
    with atomic_folder(raw) as folder:
        params.pair.build().write(folder, params.seed)


if __name__ == "__main__":
    stage(run)
