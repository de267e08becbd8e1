"""SIMULATED: good parts of two inspection lines, and a few defective ones with masks; no camera ever saw them.

Kind of shift: covariate, that of `industrial` (texture, light, optics). What differs is what is known, as where
defects are rare: good parts to learn from, and defective ones, with the place of the defect, to evaluate on. One of
twenty training parts of the target is defective, and nobody knows which.
"""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from isthmus.core.progress import track
from isthmus.core.seeds import derive_seed
from isthmus.data.pairs import Pair, PairConfig
from isthmus.data.pairs.industrial import LINES, seen

DEFECTS = ("scratch", "pit", "stain")
SPLITS = {"line_a": {"train": 60, "val": 20, "cal": 20, "test": 40}, "line_b": {"train": 80, "test": 60}}  # parts
_LOT = 10  # parts of one, which are of one split
_RARE, _HALF = 20, 2  # one part in so many is defective: where a model learns, and elsewhere


class Config(PairConfig):
    """No options: what the lines are is written in `data/pairs/industrial.py`."""

    def build(self) -> "Parts":
        """Returns the pair."""
        return Parts()


class Part(NamedTuple):
    """One part."""

    line: str
    split: str
    number: int
    label: str

    @property
    def lot(self) -> int:
        """The lot, which has its own finish."""
        return self.number // _LOT


class Parts(Pair):
    """Writes 280 grey PNG of 200 x 200 pixels, the masks of the defects, and `images.csv`."""

    def write(self, folder: Path, seed: int) -> None:
        """Writes all parts of both lines; the same seed writes the same bytes."""
        lines = []
        for part in track(_jobs(), "simulate parts", len(_jobs())):
            rng = np.random.default_rng(derive_seed(seed, "parts", part.line, "image", part.number))
            finish = np.random.default_rng(derive_seed(seed, "parts", part.line, "lot", part.lot))
            pixels, defect = seen(LINES[part.line], part.label, finish, rng)
            name = f"{part.line}/img-{part.number:04d}.png"
            _save(folder / "images" / name, pixels)
            mask = ""
            if part.label != "good":
                mask = f"masks/{name}"
                _save(folder / mask, defect.astype(np.uint8) * 255)
            lines.append([f"images/{name}", part.line, part.label, mask, part.split, f"{part.line}-{part.lot:02d}"])
        with (folder / "images.csv").open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([["path", "domain", "label", "mask", "split", "lot"], *lines])


def _jobs() -> list[Part]:
    """Returns the parts of both lines, in the order of their numbers."""
    found = []
    for line, counts in SPLITS.items():
        splits = [split for split, count in counts.items() for _ in range(count)]
        for number, split in enumerate(splits):
            each = _RARE if split == "train" and line == "line_b" else _HALF
            bad = number % each == each - 1 and not (split == "train" and line == "line_a")
            found.append(Part(line, split, number, DEFECTS[number // each % len(DEFECTS)] if bad else "good"))
    return found


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
