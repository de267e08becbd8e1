"""Stain normalisation of RGB microscopy: each domain's stain brought to one anchor.

Reinhard, Ashikhmin, Gooch, Shirley, Color Transfer between Images, IEEE CG&A 21(5), 2001, 34-41. In l alpha beta
(eqs. 4 to 6: RGB -> LMS, logarithm, decorrelation) each axis gets the anchor's mean and spread, eqs. 10 and 11:
    x' = (x - mean_domain) * std_anchor / std_domain + mean_anchor
Macenko et al., A Method for Normalizing Histology Slides for Quantitative Analysis, ISBI 2009, 1107-1110.
    OD = -log(I / I0); OD = V S, V the stain vectors, S their concentrations (eqs. 1 and 2); V are the robust extreme
    angles (1st and 99th percentile) of the OD pixels above beta = 0.15 in the plane of their two largest singular
    directions; S is scaled to the anchor by its 99th percentile and multiplied with the anchor's vectors.
Where this differs: statistics are of a domain's training images and not of one image (an image with one cell has no
spread of its own), and OD is a natural logarithm, as in the authors' program, which also keeps beta at 0.15.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import DataError

Array = NDArray[np.float64]

_LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])  # eq. 4
_LAB = np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ np.array([[1.0, 1, 1], [1, 1, -2], [1, -1, 0]])  # eq. 6
_DARKEST = 1 / 255
_BETA = 0.15
_WHITE = 240 / 255  # I0, as in the authors' program
_PIXELS = 256  # kept of each image for Macenko's angles: 6 KB an image
_FEWEST = 100  # stained pixels below which a plane cannot be fitted
# Anchors. Reinhard's is our choice (any serves, as all domains go to the same); Macenko's is the authors'.
ANCHOR_SPREAD = np.array([0.15, 0.03, 0.02])
ANCHOR_STAINS = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]])  # columns: haematoxylin, eosin
ANCHOR_STRENGTH = np.array([1.9705, 1.0308])


def to_lab(rgb: Array) -> Array:
    """Returns l alpha beta of RGB in [0, 1], `[..., 3]`."""
    return np.log10(np.maximum(rgb, _DARKEST) @ _LMS.T) @ _LAB.T


def from_lab(lab: Array) -> Array:
    """Returns RGB in [0, 1]: the inverse of `to_lab`."""
    return np.clip(10 ** (lab @ np.linalg.inv(_LAB).T) @ np.linalg.inv(_LMS).T, 0, 1)


ANCHOR_MEAN = to_lab(np.array([0.75, 0.60, 0.72]))  # a pale violet, as stained tissue is on average


def optical_density(rgb: Array) -> Array:
    """Returns -ln(I / I0) of RGB in [0, 1], never negative."""
    return np.maximum(-np.log(np.maximum(rgb, _DARKEST) / _WHITE), 0)


class StainFit:
    """Collects one domain's stain from its training images, streamed once."""

    def __init__(self, method: str) -> None:
        self._method = method
        self._mean, self._square, self._count = np.zeros(3), np.zeros(3), 0
        self._densities: list[Array] = []

    def add(self, rgb: Array) -> None:
        """Adds one image, RGB in [0, 1] `[H, W, 3]`."""
        flat = rgb.reshape(-1, 3)
        self._count += 1
        if self._method == "reinhard":
            lab = to_lab(flat)
            self._mean += lab.mean(axis=0)
            self._square += np.square(lab).mean(axis=0)
        else:
            density = optical_density(flat)
            stained = density[(density > _BETA).all(axis=1)]
            self._densities.append(stained[:: max(1, len(stained) // _PIXELS)][:_PIXELS])

    def fitted(self) -> dict[str, Any]:
        """Returns what `normalised` needs, as JSON types.

        Raises:
            DataError: there is no RGB training image, or no stained tissue in them.
        """
        if self._count == 0:
            raise DataError("preprocess.stain: no RGB training image in a domain. Set 'stain: none'")
        if self._method == "reinhard":
            mean = self._mean / self._count
            spread = np.sqrt(np.maximum(self._square / self._count - mean**2, 1e-8))
            return {"mean": mean.round(6).tolist(), "std": spread.round(6).tolist()}
        densities = np.concatenate(self._densities)
        if len(densities) < _FEWEST:
            raise DataError(
                f"preprocess.stain: {len(densities)} stained pixels in a domain's training images; macenko needs"
                f" {_FEWEST}. Set 'stain: reinhard' or 'none'"
            )
        stains = stain_vectors(densities)
        strength = np.percentile(_concentrations(densities, stains), 99, axis=0)
        return {"stains": stains.round(6).tolist(), "strength": np.maximum(strength, 1e-3).round(6).tolist()}


def stain_vectors(densities: Array) -> Array:
    """Returns the two stain vectors of optical densities `[N, 3]`, columns of `[3, 2]`, the bluer absorber last."""
    plane = np.linalg.svd(densities, full_matrices=False)[2][:2].T
    plane *= np.where(plane.sum(axis=0) < 0, -1, 1)  # the first direction points into the positive octant
    projected = densities @ plane
    low, high = np.percentile(np.arctan2(projected[:, 1], projected[:, 0]), [1, 99])
    pair = [plane @ np.array([np.cos(angle), np.sin(angle)]) for angle in (low, high)]
    pair.sort(key=lambda vector: -vector[0])  # haematoxylin absorbs more red than eosin
    return np.stack(pair, axis=1)


def normalised(rgb: Array, method: str, fitted: dict[str, Any]) -> Array:
    """Returns RGB in [0, 1] with the anchor's stain."""
    if method == "reinhard":
        return from_lab((to_lab(rgb) - fitted["mean"]) * (ANCHOR_SPREAD / fitted["std"]) + ANCHOR_MEAN)
    found = _concentrations(optical_density(rgb).reshape(-1, 3), np.asarray(fitted["stains"]))
    density = (found * (ANCHOR_STRENGTH / fitted["strength"])) @ ANCHOR_STAINS.T
    return np.clip(_WHITE * np.exp(-density), 0, 1).reshape(rgb.shape)


def _concentrations(densities: Array, stains: Array) -> Array:
    return densities @ np.linalg.pinv(stains).T
