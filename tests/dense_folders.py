"""Writes small raw folders of a task with masks: for tests of what reads them."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from isthmus.data.scenario import Scenario
from tests.raw_folders import pixels

DOMAINS = ("one", "two")


def dense(**changes: object) -> Scenario:
    """Returns the scenario of `write_dense`, with changes."""
    values = {
        "kind": "natural",
        "task": "segmentation",
        "raw": "data/raw/demo",
        "source": ["one"],
        "target": "two",
        "target_labels": "folders",
        "classes": ["ground", "spot"],
        "annotations": {"values": [0, 200]},
        "model": "dense",
        "preprocess": {"image_size": 20, "channels": 3},
    }
    return Scenario.model_validate({**values, **changes})


def spot(rng: np.random.Generator, height: int = 20, width: int = 20) -> np.ndarray:
    """Returns a mask uint8 with a square of the value 200 somewhere."""
    mask = np.zeros((height, width), np.uint8)
    top, left = rng.integers(0, height - 8), rng.integers(0, width - 8)
    mask[top : top + 8, left : left + 8] = 200
    return mask


def write_dense(folder: Path, each: int = 32, change: bool = False, table: bool = False) -> Path:
    """Writes `each` images with masks a domain, and a later image each with `change`; returns the folder.

    Args:
        folder: raw folder.
        each: images a domain.
        change: `a`, `b` and `masks` instead of `images` and `masks`.
        table: a table names the files beside the folders.
    """
    rng = np.random.default_rng(0)
    first, rows = "a" if change else "images", []
    for domain in DOMAINS:
        for name in (first, "b", "masks") if change else (first, "masks"):
            (folder / domain / name).mkdir(parents=True)
        for number in range(each):
            name = f"{number:03d}.png"
            for where in (first, "b") if change else (first,):
                Image.fromarray(pixels(rng)).save(folder / domain / where / name)
            Image.fromarray(spot(rng)).save(folder / domain / "masks" / name)
            row = {"path": f"{domain}/{first}/{name}", "domain": domain, "mask": f"{domain}/masks/{name}"}
            rows.append(row | ({"image_b": f"{domain}/b/{name}"} if change else {}))
    if table:
        pd.DataFrame(rows).to_csv(folder / "images.csv", index=False)
    return folder
