"""SIMULATED: chest phantom slices of two CT scanners with the masks of their lesions; no patient was ever involved.

Kind of shift: covariate, that of `medical` (kernel, noise, tube voltage, pixel size, encoding of the pixels, size of
the patients, how far they breathe in); models and sources in `data/simulate/chest.py`. Lesions are nodules and masses
of 20 to 50 mm (a mass is more than 30 mm wide: Fleischner Society glossary, Radiology 246 (2008) 697-722): larger than
those of `medical`, because a cell of a network's grid is about 30 mm wide. One slice in five has none.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from isthmus.core.progress import track
from isthmus.core.seeds import derive_seed
from isthmus.data.pairs import Pair, PairConfig
from isthmus.data.simulate.chest import SCANNERS, render, save

SLICES, PATIENTS = 60, 20  # a scanner
_RADIUS = (10.0, 25.0)  # [mm]
_CLEAR = 5  # one slice in so many has no lesion, and no patient has two of them


class Config(PairConfig):
    """No options: what the scanners are is written in `data/simulate/chest.py`."""

    def build(self) -> "Lesions":
        """Returns the pair."""
        return Lesions()


class Lesions(Pair):
    """Writes 60 slices a scanner, `<scanner>/images/patient-NN_img-NNNN.dcm` and `<scanner>/masks/....png`.

    A mask is uint8 `[H, W]`: 1 where at least half of a pixel is lesion, else 0.
    """

    def write(self, folder: Path, seed: int) -> None:
        """Writes all slices of both scanners; the same seed writes the same bytes."""
        jobs = [job for name in SCANNERS for job in _jobs(name)]
        for name, label, patient, number in track(jobs, "simulate lesions", len(jobs)):
            rng = np.random.default_rng(derive_seed(seed, "lesions", name, "image", number))
            body = np.random.default_rng(derive_seed(seed, "lesions", name, "patient", patient))
            image, lesion = render(SCANNERS[name], label, body, rng, _RADIUS)
            stem = f"patient-{patient:02d}_img-{number:04d}"
            for part in ("images", "masks"):
                (folder / name / part).mkdir(parents=True, exist_ok=True)
            save(
                folder / name / "images" / f"{stem}.dcm",
                SCANNERS[name],
                f"lesions_{name}",
                patient,
                number,
                seed,
                image,
            )
            Image.fromarray((lesion >= 0.5).astype(np.uint8)).save(folder / name / "masks" / f"{stem}.png")


def _jobs(name: str) -> list[tuple[str, str, int, int]]:
    return [
        (name, "normal" if number % _CLEAR == number // PATIENTS else "nodule", number % PATIENTS, number)
        for number in range(SLICES)
    ]
