"""SIMULATED: fields under two satellites at two dates, with what became of them; nothing here was ever seen from orbit.

Kind of shift: covariate, that of `remote_sensing` (band response, resolution, haze, season, encoding of the
reflectance); models and sources in `data/simulate/countryside.py`. Between the dates some parcels are built up or
planted with trees: that is change. Others are ploughed or sown, and haze, sun and season differ: that is none.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isthmus.core.progress import track
from isthmus.core.seeds import derive_seed
from isthmus.data.masks import IGNORED
from isthmus.data.pairs import Pair, PairConfig
from isthmus.data.simulate.countryside import (
    GROUNDS,
    SATELLITES,
    Frame,
    Ground,
    Satellite,
    blurred,
    fields,
    grown,
    parcels,
    render,
    save,
)

PLACES, SCENES = 60, 20  # a satellite
_CHANGED = (0.1, 0.35)  # [share] of the parcels of a place
_ROTATED = 0.2  # [share] of the other parcels that are ploughed or sown between the dates
_UNCLEAR = 0.1  # [share] of a pixel: with more of the one and of the other it is not scored


class Config(PairConfig):
    """No options: what the satellites are is written in `data/simulate/countryside.py`."""

    def build(self) -> "Fields":
        """Returns the pair."""
        return Fields()


class Fields(Pair):
    """Writes 60 places a satellite: `<satellite>/a/scene-NN_img-NNNN.tif`, the later `b/`, and `masks/....png`.

    A mask is uint8 `[H, W]`: 0 unchanged, 1 changed, 255 where the sensor mixes both, or one date has no data.
    """

    def write(self, folder: Path, seed: int) -> None:
        """Writes all places of both satellites; the same seed writes the same bytes."""
        jobs = [job for name in SATELLITES for job in _jobs(name)]
        for name, scene, number in track(jobs, "simulate fields", len(jobs)):
            satellite = SATELLITES[name]
            rng = np.random.default_rng(derive_seed(seed, "fields", name, "image", number))
            before, after, changed = _two_dates(satellite, rng)
            stem, dates = f"scene-{scene:02d}_img-{number:04d}", []
            for date, ground in (("a", before), ("b", after)):
                (folder / name / date).mkdir(parents=True, exist_ok=True)
                air = np.random.default_rng(derive_seed(seed, "fields", name, "scene", scene, date))
                dates.append(render(satellite, ground, air, rng))
                save(folder / name / date / f"{stem}.tif", satellite, (scene, number // SCENES), dates[-1])
            (folder / name / "masks").mkdir(exist_ok=True)
            Image.fromarray(_mask(satellite, changed, dates)).save(folder / name / "masks" / f"{stem}.png")


def _jobs(name: str) -> list[tuple[str, int, int]]:
    return [(name, number % SCENES, number) for number in range(PLACES)]


def _two_dates(satellite: Satellite, rng: np.random.Generator) -> tuple[Ground, Ground, Frame]:
    """Returns the ground at both dates, and 1 where it changed, else 0."""
    number, beside = parcels(rng)
    count = number.max() + 1
    first, second = (grown(satellite, count, rng) for _ in range(2))
    second = np.where(rng.random(count) < _ROTATED, second, first)
    before = fields(first[number], beside, rng)
    after = fields(second[number], beside, rng)
    seen = rng.permutation(np.unique(number))
    chosen = seen[: max(1, round(len(seen) * rng.uniform(*_CHANGED)))]
    changed: Frame = np.isin(number, chosen).astype(np.float64)
    after = {surface: cover * (1 - changed) for surface, cover in after.items()}
    for use, part in (("urban", chosen[::2]), ("forest", chosen[1::2])):
        for surface, cover in GROUNDS[use](satellite, rng).items():
            after[surface] = after.get(surface, 0) + cover * np.isin(number, part)
    return before, after, changed


def _mask(satellite: Satellite, changed: Frame, dates: list[NDArray[np.uint16]]) -> NDArray[np.uint8]:
    share = blurred(changed, satellite.coarse)
    mask = np.where(share > 0.5, 1, 0)
    unclear = (share > _UNCLEAR) & (share < 1 - _UNCLEAR)
    nowhere = np.any([(pixels == 0).all(axis=0) for pixels in dates], axis=0)
    return np.where(unclear | nowhere, IGNORED, mask).astype(np.uint8)
