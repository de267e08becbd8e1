"""How typical an image is of a domain: the share of the domain's held-out images that lie at least as far from it.

The registered model bundles this file and has neither SciPy nor scikit-learn for certain: numpy alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from isthmus.core.files import atomic_file
from isthmus.evaluation.metrics import Predictions, Reals

_SMALLEST = 1e-9  # variance: a domain without any spread still has a distance


@dataclass(frozen=True)
class Typicality:
    """What a domain looks like to one model.

    Attributes:
        centres: float64 `[C, B]`, mean embedding of each class that the model predicts there.
        whiten: float64 `[B, B]`, turns the Mahalanobis distance into a plain one.
        held_out: float64 `[H]`, distances of images that nothing was fitted on, ascending.
    """

    centres: Reals
    whiten: Reals
    held_out: Reals

    def distances(self, embeddings: NDArray[Any]) -> Reals:
        """Returns the distance of each embedding `[N, B]` from the nearest centre.

        d(x) = min_c sqrt((x - m_c)^T S^-1 (x - m_c)): Lee, Lee, Lee & Shin, "A Simple Unified Framework for Detecting
        Out-of-Distribution Samples and Adversarial Attacks", NeurIPS 2018, equation 2
        (https://arxiv.org/abs/1807.03888). There c are true classes; here predicted ones, as a target has no labels.
        """
        seen, centres = embeddings.astype(np.float64) @ self.whiten, self.centres @ self.whiten
        squares = [((seen - centre) ** 2).sum(axis=1) for centre in centres]
        nearest: Reals = np.sqrt(np.min(squares, axis=0))
        return nearest

    def scores(self, embeddings: NDArray[Any]) -> Reals:
        """Returns (1 + held-out images at least as far away) / (1 + held-out images), in (0, 1]: 1 typical.

        A conformal p-value: for a new image of the domain it is uniform, so that at most a share a of such images gets
        a or less, whatever the distance is worth. Bates, Candes, Lei, Romano & Sesia, "Testing for Outliers with
        Conformal p-values", Annals of Statistics 2023, equation 3 (https://arxiv.org/abs/2104.08279). It is never
        smaller than 1 / (1 + held-out images): few of them cannot call anything rare.
        """
        nearer = np.searchsorted(self.held_out, self.distances(embeddings), side="left")
        shares: Reals = (1 + len(self.held_out) - nearer) / (1 + len(self.held_out))
        return shares


def fit_typicality(embeddings: NDArray[Any], predicted: Predictions, held_out: NDArray[Any]) -> Typicality:
    """Returns what a domain looks like, without a label.

    Args:
        embeddings: `[N, B]` of its training split.
        predicted: int64 `[N]`, the model's own classes of these.
        held_out: `[H, B]` of images of the domain that the model was not trained on.
    """
    seen = embeddings.astype(np.float64)
    classes, place = np.unique(predicted, return_inverse=True)
    centres = np.stack([seen[place == c].mean(axis=0) for c in range(len(classes))])
    size, axes = np.linalg.eigh(shrunk_covariance(seen - centres[place]))
    bare = Typicality(centres, axes / np.sqrt(np.maximum(size, _SMALLEST)), np.empty(0))
    return Typicality(centres, bare.whiten, np.sort(bare.distances(held_out)))


def shrunk_covariance(residuals: Reals) -> Reals:
    """Returns (1 - s) C + s tr(C)/B I of residuals `[N, B]` whose mean is known to be zero, float64 `[B, B]`.

    s minimises the expected squared error: Ledoit & Wolf, "A Well-conditioned Estimator for Large-dimensional
    Covariance Matrices", Journal of Multivariate Analysis 2004, lemma 3.2 and section 3.3. With fewer images than
    dimensions C alone has no inverse.
    """
    count, width = residuals.shape
    covariance: Reals = residuals.T @ residuals / count
    level = np.trace(covariance) / width
    square = (covariance**2).sum()
    spread = square - width * level**2
    noise = (((residuals**2).sum(axis=1) ** 2).sum() / count - square) / count
    share = min(1.0, noise / spread) if spread > 0 else 1.0
    shrunk: Reals = (1 - share) * covariance + share * level * np.eye(width)
    return shrunk


def write_typicalities(found: Mapping[str, Typicality], path: Path) -> None:
    """Writes one of each domain as safetensors, `<domain>.centres` and so on."""
    tensors = {
        f"{domain}.{name}": np.ascontiguousarray(v) for domain, t in found.items() for name, v in vars(t).items()
    }
    with atomic_file(path) as partial:
        save_file(tensors, partial)


def read_typicalities(path: Path, domains: list[str]) -> dict[str, Typicality]:
    """Reads what `write_typicalities` wrote for these domains."""
    tensors = load_file(path)
    return {
        domain: Typicality(*(tensors[f"{domain}.{name}"] for name in ("centres", "whiten", "held_out")))
        for domain in domains
    }
