"""Near-duplicates: the same picture saved again, resized, or cut by a pixel.

Two tests, both must hold. The difference hash (N. Krawetz, Kind of Like That, 2013: one bit for each pixel of a small
picture, whether its right neighbour is brighter) finds candidates fast; alone it takes all smooth gradients, and all
slices of one phantom, for one picture. So the small pictures themselves are compared: their root mean square
difference must be small against their contrast. A copy with other brightness is therefore no near-duplicate.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from isthmus.data.image import Image

_SIDE = 16  # [pixel] of the small picture; 240 bits
_BITS = 12  # that may differ: unrelated pictures differ in about 120
_CHANNELS = 3  # of many bands, the first ones
_BLOCK = 2**20  # comparisons at once: 20 MB, however many pictures there are


def small_picture(image: Image) -> NDArray[np.float32]:
    """Returns the box means of an image, float32 `[16, 16, 1 to 3]`, pixels without data as 0."""
    box, size = Pillow.Resampling.BOX, (_SIDE, _SIDE)
    return np.stack([np.asarray(channel.resize(size, box)) for channel in _channels(image)], axis=2)


def _channels(image: Image) -> list[Pillow.Image]:
    """Returns the first channels as float32 pictures."""
    if image.pixels.dtype == np.uint8 and image.pixels.shape[2] in (1, 3) and image.valid is None:
        # the same values, made by Pillow out of a quarter of the bytes: half of the time of `ingest` on photographs
        picture = Pillow.fromarray(image.pixels if image.pixels.shape[2] == 3 else image.pixels[..., 0])
        return [channel.convert("F") for channel in picture.split()]
    pixels = image.pixels[..., :_CHANNELS].astype(np.float32)
    if image.valid is not None:
        pixels = np.where(image.valid[..., None], pixels, np.float32(0))
    return [Pillow.fromarray(pixels[..., c]) for c in range(pixels.shape[2])]


def near_pairs(pictures: Sequence[NDArray[np.float32]], tolerance: float) -> list[tuple[int, int]]:
    """Returns the places of near-duplicates, each pair once, the smaller place first.

    Args:
        pictures: of `small_picture`.
        tolerance: root mean square difference against the larger contrast (standard deviation) of the two.
    """
    bits = np.stack([_difference_hash(p) for p in pictures]) if pictures else np.empty((0, 4), np.uint64)
    found = []
    step = max(1, _BLOCK // max(1, len(bits)))
    for start in range(0, len(bits), step):
        apart = np.zeros((len(bits[start : start + step]), len(bits)), np.uint16)
        for word in range(bits.shape[1]):
            apart += np.bitwise_count(bits[start : start + step, word, None] ^ bits[None, :, word])
        rows, columns = np.nonzero(apart <= _BITS)
        candidates = ((int(i) + start, int(j)) for i, j in zip(rows, columns, strict=True) if i + start < j)
        found += [(i, j) for i, j in candidates if _alike(pictures[i], pictures[j], tolerance)]
    return found


def _difference_hash(picture: NDArray[np.float32]) -> NDArray[np.uint64]:
    grey = picture.mean(axis=2)
    bits = np.zeros((_SIDE, _SIDE), bool)
    bits[:, :-1] = grey[:, 1:] > grey[:, :-1]
    return np.packbits(bits).view(np.uint64)


def _alike(a: NDArray[np.float32], b: NDArray[np.float32], tolerance: float) -> bool:
    if a.shape != b.shape:
        return False
    contrast = max(float(a.std()), float(b.std()))
    # exact copies are found by their bytes; of two flat pictures nothing can be said
    return contrast > 0 and float(np.sqrt(np.mean(np.square(a - b)))) <= tolerance * contrast
