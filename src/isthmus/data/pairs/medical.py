"""SIMULATED: chest phantom slices of two CT scanners, as DICOM series; no patient and no scanner was ever involved.

Kind of shift: covariate (kernel, noise, tube voltage, pixel size, encoding of the pixels, size of the patients, how
far they breathe in) with a mild change of class shares; models and sources in `data/simulate/chest.py`. The finding is
drawn for each slice, so that a patient has slices of several classes.
"""

from functools import partial
from pathlib import Path

import numpy as np

from isthmus.core.seeds import derive_seed
from isthmus.data.pairs import Pair, PairConfig, write_each
from isthmus.data.simulate.chest import SCANNERS, render, save

Job = tuple[str, str, int, int]  # scanner, class, patient, number

PATIENTS = 60  # a scanner
COUNTS = {  # slices a class
    "ct_a": {"normal": 110, "nodule": 90, "emphysema": 80, "effusion": 80},
    "ct_b": {"normal": 100, "nodule": 80, "emphysema": 100, "effusion": 80},
}


class Config(PairConfig):
    """No options: what the scanners are is written in `data/simulate/chest.py`."""

    def build(self) -> "Medical":
        """Returns the pair."""
        return Medical()


class Medical(Pair):
    """Writes 720 DICOM files: `<scanner>/<class>/patient-NN_img-NNNN.dcm`."""

    def write(self, folder: Path, seed: int) -> None:
        """Writes all slices of both scanners; the same seed writes the same bytes."""
        jobs = [job for name in COUNTS for job in _jobs(name, seed)]
        write_each(partial(_write, folder, seed), jobs, "medical")


def _write(folder: Path, seed: int, job: Job) -> None:
    name, label, patient, number = job
    rng = np.random.default_rng(derive_seed(seed, name, "image", number))
    body = np.random.default_rng(derive_seed(seed, name, "patient", patient))
    path = folder / name / label / f"patient-{patient:02d}_img-{number:04d}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    image, _ = render(SCANNERS[name], label, body, rng)
    save(path, SCANNERS[name], name, patient, number, seed, image)


def _jobs(name: str, seed: int) -> list[Job]:
    labels = [label for label, count in COUNTS[name].items() for _ in range(count)]
    order = np.random.default_rng(derive_seed(seed, name, "order")).permutation(len(labels))
    return [(name, labels[place], number % PATIENTS, number) for number, place in enumerate(order)]
