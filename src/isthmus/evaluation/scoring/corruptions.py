"""Damage that images meet in use, in five severities: what a model is tried on beyond the two domains.

Each corruption takes a prepared image float64 `[H, W, C]` in [0, 1], a severity 1 to 5 and a generator, and returns the
same shape. Draws do not depend on the severity, so that 5 is the same damage as 1, only more of it. Constants of noise,
blur, defocus, JPEG, contrast and light are those of ImageNet-C: Hendrycks and Dietterich, "Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations", ICLR 2019, https://arxiv.org/abs/1903.12261; lengths in [pixel] of
its 224 pixel images are scaled to the image's side. The others have no such standard: their source stands beside them.
"""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter, zoom

Reals = NDArray[np.float64]
Corruption = Callable[[Reals, int, np.random.Generator], Reals]

SEVERITIES = (1, 2, 3, 4, 5)
_SIDE = 224  # [pixel] of the images that the constants of lengths are for
_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)  # [share of the range] standard deviation
_BLUR = (1, 2, 3, 4, 6)  # [pixel at 224] standard deviation
_DEFOCUS = (3, 4, 6, 8, 10)  # [pixel at 224] radius
_QUALITY = (25, 18, 15, 10, 7)  # of JPEG
_CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # [share] of the contrast that stays
_LIGHT = (0.1, 0.2, 0.3, 0.4, 0.5)  # [share of the range] added
_BIAS = (0.1, 0.2, 0.3, 0.4, 0.5)  # largest coefficient; 0.5 is the default of TorchIO
_SPACING = (1.5, 2.0, 3.0, 4.0, 5.0)  # times the pixel spacing; 1.5 to 5 is the range of TorchIO's anisotropy
_CLEAR = (0.85, 0.7, 0.55, 0.4, 0.25)  # [share] of the ground's light that passes the haze
_SEASON = (0.05, 0.1, 0.15, 0.2, 0.3)  # [share] a band grows brighter or darker; ours, in the range of NDVI's year


def noise(image: Reals, severity: int, generator: np.random.Generator) -> Reals:
    """Adds Gaussian noise, each value its own."""
    return image + _NOISE[severity - 1] * generator.normal(size=image.shape)


def blur(image: Reals, severity: int, generator: np.random.Generator) -> Reals:
    """Blurs by a Gaussian."""
    width = _BLUR[severity - 1] * min(image.shape[:2]) / _SIDE
    blurred: Reals = gaussian_filter(image, (width, width, 0), mode="reflect")
    return blurred


def defocus(image: Reals, severity: int, generator: np.random.Generator) -> Reals:
    """Blurs by a disk, as a lens out of focus does; its rim is cut by the share of each pixel inside."""
    radius = _DEFOCUS[severity - 1] * min(image.shape[:2]) / _SIDE
    reach = int(np.ceil(radius))
    across = np.arange(-reach, reach + 1)
    disk = np.clip(radius + 0.5 - np.hypot(across[:, None], across), 0, 1)
    blurred: Reals = convolve(image, (disk / disk.sum())[..., None], mode="reflect")
    return blurred


def jpeg(image: Reals, severity: int, generator: np.random.Generator) -> Reals:
    """Compresses and decodes; three channels as a colour image, any other number band by band."""
    whole = np.clip(image * 255, 0, 255).round().astype(np.uint8)
    if whole.shape[2] == 3:
        return _through_jpeg(whole, _QUALITY[severity - 1])
    return np.stack([_through_jpeg(band, _QUALITY[severity - 1]) for band in whole.transpose(2, 0, 1)], axis=2)


def contrast(image: Reals, severity: int, generator: np.random.Generator) -> Reals:
    """Draws all values towards the mean of their band."""
    mean = image.mean(axis=(0, 1), keepdims=True)
    faded: Reals = (image - mean) * _CONTRAST[severity - 1] + mean
    return faded


def light(image: Reals, severity: int, generator: np.random.Generator) -> Reals:
    """Adds light everywhere, so that bright parts saturate."""
    return image + _LIGHT[severity - 1]


def bias_field(image: Reals, severity: int, generator: np.random.Generator) -> Reals:
    """Multiplies by a smooth field, exp of a polynomial of third order in both coordinates, as uneven coils do.

    Van Leemput et al., "Automated Model-Based Bias Field Correction of MR Images of the Brain", IEEE TMI 1999; its form
    and size as in Perez-Garcia et al., "TorchIO", Computer Methods and Programs in Biomedicine 2021.
    """
    down, across = np.meshgrid(*(np.linspace(-1, 1, side) for side in image.shape[:2]), indexing="ij")
    terms = [down**i * across**j for i in range(4) for j in range(4 - i)]
    drawn = generator.uniform(-1, 1, len(terms))
    field = np.exp(_BIAS[severity - 1] * np.tensordot(drawn, np.stack(terms), axes=1))
    return image * field[..., None]


def spacing(image: Reals, severity: int, generator: np.random.Generator) -> Reals:
    """Samples more coarsely and back, as a scan of larger spacing looks: Billot et al., "SynthSeg", MedIA 2023."""
    height, width = image.shape[:2]
    small = [max(2, round(side / _SPACING[severity - 1])) for side in (height, width)]
    smooth = gaussian_filter(image, (*[0.4 * _SPACING[severity - 1]] * 2, 0), mode="reflect")
    coarse = zoom(smooth, (small[0] / height, small[1] / width, 1), order=1, grid_mode=True, mode="reflect")
    back: Reals = zoom(coarse, (height / small[0], width / small[1], 1), order=1, grid_mode=True, mode="reflect")
    return back[:height, :width]


def haze(image: Reals, severity: int, generator: np.random.Generator) -> Reals:
    """Mixes with white airlight: I = J t + A (1 - t), Koschmieder's law as in Narasimhan and Nayar, IJCV 2002."""
    clear = _CLEAR[severity - 1]
    return image * clear + (1 - clear)


def band_dropout(image: Reals, severity: int, generator: np.random.Generator) -> Reals:
    """Sets bands to zero, as dead detectors deliver them: one band at 1, all but one at 5; a single band stays."""
    bands = image.shape[2]
    dead = min(bands - 1, int(np.ceil(severity / len(SEVERITIES) * (bands - 1))))
    lost = image.copy()
    lost[..., generator.permutation(bands)[:dead]] = 0.0
    return lost


def season(image: Reals, severity: int, generator: np.random.Generator) -> Reals:
    """Makes each band brighter or darker by its own share, as plants do over a year."""
    gain = 1 + _SEASON[severity - 1] * generator.uniform(-1, 1, image.shape[2])
    return image * gain


_ALL: dict[str, Corruption] = {"noise": noise, "blur": blur, "jpeg": jpeg, "contrast": contrast}
_OF_KIND: dict[str, dict[str, Corruption]] = {
    "medical": {"bias_field": bias_field, "spacing": spacing},
    "remote_sensing": {"haze": haze, "band_dropout": band_dropout, "season": season},
    "industrial": {"light": light, "defocus": defocus},
}


def suite(kind: str) -> dict[str, Corruption]:
    """Returns the corruptions that a kind of imagery is tried on, by name.

    >>> sorted(suite("natural"))
    ['blur', 'contrast', 'jpeg', 'noise']
    """
    return _ALL | _OF_KIND.get(kind, {})


def corrupted(images: NDArray[Any], name: str, corruption: Corruption, severity: int, seed: int) -> NDArray[Any]:
    """Returns images `[N, H, W, C]` of the same dtype, each damaged by a generator of its own place and the seed.

    Values are uint8 or uint16 over their whole range, or floats in [0, 1]; what leaves the range is clipped.
    """
    top = float(np.iinfo(images.dtype).max) if np.issubdtype(images.dtype, np.integer) else 1.0
    damaged = np.empty_like(images)
    key = int.from_bytes(name.encode(), "big")
    for place, image in enumerate(images):
        generator = np.random.default_rng([seed, key, place])
        values = np.clip(corruption(image.astype(np.float64) / top, severity, generator), 0, 1) * top
        damaged[place] = values.round() if top > 1 else values
    return damaged


def _through_jpeg(pixels: NDArray[np.uint8], quality: int) -> Reals:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="jpeg", quality=quality)
    decoded: Reals = np.asarray(Image.open(stream), dtype=np.float64) / 255
    return decoded
