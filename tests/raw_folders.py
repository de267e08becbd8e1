"""Writes small raw folders of two domains and two classes: for tests of what reads them."""

from pathlib import Path

import numpy as np
from PIL import Image

from isthmus.data.scenario import Scenario

CLASSES = ["crack", "good"]


def scenario(**changes: object) -> Scenario:
    """Returns the scenario of `write_raw`, with changes."""
    values = {
        "kind": "natural",
        "raw": "data/raw/demo",
        "source": ["line_a"],
        "target": "line_b",
        "target_labels": "folders",
        "classes": CLASSES,
        "model": "small_cnn",
        "preprocess": {"image_size": 20, "channels": 3},
    }
    return Scenario.model_validate({**values, **changes})


def pixels(rng: np.random.Generator, side: int = 20) -> np.ndarray:
    """Returns one uint8 RGB image `[side, side, 3]` with slow colour changes, so that JPEG keeps it."""
    y, x = np.indices((side, side)) / side
    colour, slope = rng.uniform(60, 160, 3), rng.uniform(-50, 50, (2, 3))
    return np.clip(colour + y[..., None] * slope[0] + x[..., None] * slope[1], 0, 255).round().astype(np.uint8)


def write_raw(folder: Path, each: int = 24, seed: int = 0, suffix: str = "png") -> Path:
    """Writes `each` images a class and domain and returns the folder."""
    rng = np.random.default_rng(seed)
    for domain in ("line_a", "line_b"):
        for name in CLASSES:
            (folder / domain / name).mkdir(parents=True)
            for number in range(each):
                Image.fromarray(pixels(rng)).save(folder / domain / name / f"img-{number:03d}.{suffix}")
    return folder
