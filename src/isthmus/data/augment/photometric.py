"""Images with another brightness, contrast, colour and polarity: what a device decides and a class does not.

Domain randomisation (Tobin et al., IROS 2017): a model that saw the source under many looks takes the target for one
more. Each view draws, by image, a gamma, a gain and an offset for each channel, and whether light and dark are
exchanged.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.files import sha256_bytes
from isthmus.core.seeds import derive_seed

_GAMMA = 0.7  # its logarithm lies in [-_GAMMA, _GAMMA]
_GAIN = (0.5, 1.0)
_OFFSET = (0.0, 0.4)  # [share] of the full range
EXCHANGED = 0.5  # [share] of views with light and dark exchanged
_SKEWED = 0.5  # of grey values: from here a distribution is moderately skewed (Bulmer, Principles of Statistics, 1979)
_LOOKED_AT = 200  # images of a domain


def look(number: int, views: int) -> tuple[int, float]:
    """Returns which draw a view of a model is, and its share of images with light and dark exchanged.

    A single view exchanges them in half of the images. Of several each odd one has none exchanged, and the next has the
    same look with all of them exchanged (docs/decisions/0041).

    Args:
        number: of the view, from 1.
        views: how many the model has.

    >>> look(1, 1), look(1, 2), look(2, 2), look(3, 3)
    ((1, 0.5), (1, 0.0), (1, 1.0), (2, 0.0))
    """
    return (1, EXCHANGED) if views == 1 else ((number + 1) // 2, float(number % 2 == 0))


def skewness(images: NDArray[Any]) -> float:
    """Returns the skewness of the grey values of an image, of several its mean; 0 of an image of one grey.

    Above 0 bright things lie on a dark ground, below 0 dark things on a bright one.

    Args:
        images: `[N, H, W, C]`.

    >>> round(skewness(np.array([0, 0, 0, 8]).reshape(1, 2, 2, 1)), 3)
    1.155
    """
    grey = images.astype(np.float64).mean(axis=3).reshape(len(images), -1)
    apart = grey - grey.mean(axis=1, keepdims=True)
    spread = apart.std(axis=1)
    third = (apart**3).mean(axis=1)
    return float(np.divide(third, spread**3, out=np.zeros_like(third), where=spread > 0).mean())


def opposite(source: float, target: float) -> bool:
    """Says whether light and dark stand for opposite things in two domains, by their `skewness`.

    >>> opposite(5.2, -2.3), opposite(0.6, -0.1)
    (True, False)
    """
    return source * target < 0 and min(abs(source), abs(target)) >= _SKEWED


def mean_skewness(images: Callable[[NDArray[np.int64]], NDArray[Any]], rows: NDArray[np.int64]) -> float:
    """Returns the mean `skewness` of evenly spaced images.

    Args:
        images: returns those at these places, `[n, H, W, C]`.
        rows: their places.
    """
    seen = rows[:: -(-len(rows) // _LOOKED_AT)]
    return float(np.mean([skewness(images(seen[n : n + 1])) for n in range(len(seen))]))


def photometric_view(images: NDArray[Any], number: int, exchanged: float = EXCHANGED) -> NDArray[Any]:
    """Returns a view of each image, `[N, H, W, C]` in the images' dtype; the same for the same pixels and number.

    Args:
        images: uint8, uint16 or float16 (values in [0, 1]) `[N, H, W, C]`.
        number: of the view, from 1.
        exchanged: [share] of views with light and dark exchanged.
    """
    return np.stack([_view(image, number, exchanged) for image in images])


def _view(image: NDArray[Any], number: int, exchanged: float) -> NDArray[Any]:
    generator = np.random.default_rng(derive_seed(0, "view", number, sha256_bytes(image.tobytes())))
    top = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    channels = image.shape[2]
    unit: NDArray[np.float32] = image.astype(np.float32) / np.float32(top)
    values: NDArray[np.float32] = unit ** np.float32(np.exp(generator.uniform(-_GAMMA, _GAMMA)))
    gain = generator.uniform(_GAIN[0], _GAIN[1], (channels,))
    offset = generator.uniform(_OFFSET[0], _OFFSET[1], (channels,))
    values = np.clip(values * gain.astype(np.float32) + offset.astype(np.float32), 0, 1)
    if generator.random() < exchanged:
        values = 1 - values
    scaled: NDArray[np.float32] = np.rint(values * top) if top > 1 else values
    return scaled.astype(image.dtype)
