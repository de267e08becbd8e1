"""SIMULATED: one countryside under two satellites, as multi-band GeoTIFF; nothing here was ever seen from orbit.

Kind of shift: covariate (band response, resolution, haze, season, encoding of the reflectance) with a mild change of
class shares; models and sources in `data/simulate/countryside.py`.
"""

from functools import partial
from pathlib import Path

import numpy as np

from isthmus.core.seeds import derive_seed
from isthmus.data.pairs import Pair, PairConfig, write_each
from isthmus.data.simulate.countryside import GROUNDS, SATELLITES, render, save

Job = tuple[str, str, int, int]  # satellite, class, scene, number

SCENES = 60  # a satellite
COUNTS = {  # images a class
    "sat_a": {"forest": 90, "cropland": 100, "urban": 90, "water": 80},
    "sat_b": {"forest": 80, "cropland": 90, "urban": 100, "water": 90},
}


class Config(PairConfig):
    """No options: what the satellites are is written in `data/simulate/countryside.py`."""

    def build(self) -> "RemoteSensing":
        """Returns the pair."""
        return RemoteSensing()


class RemoteSensing(Pair):
    """Writes 720 GeoTIFF of five bands: `<satellite>/<class>/scene-NN_img-NNNN.tif`."""

    def write(self, folder: Path, seed: int) -> None:
        """Writes all images of both satellites; the same seed writes the same bytes."""
        jobs = [job for name in COUNTS for job in _jobs(name, seed)]
        write_each(partial(_write, folder, seed), jobs, "remote_sensing")


def _write(folder: Path, seed: int, job: Job) -> None:
    name, label, scene, number = job
    satellite = SATELLITES[name]
    rng = np.random.default_rng(derive_seed(seed, name, "image", number))
    air = np.random.default_rng(derive_seed(seed, name, "scene", scene))
    path = folder / name / label / f"scene-{scene:02d}_img-{number:04d}.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, satellite, (scene, number // SCENES), render(satellite, GROUNDS[label](satellite, rng), air, rng))


def _jobs(name: str, seed: int) -> list[Job]:
    labels = [label for label, count in COUNTS[name].items() for _ in range(count)]
    order = np.random.default_rng(derive_seed(seed, name, "order")).permutation(len(labels))
    return [(name, labels[place], number % SCENES, number) for number, place in enumerate(order)]
