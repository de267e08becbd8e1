"""Near-duplicates: the same picture saved again, resized, or cut by a pixel.

Two tests, both must hold. The difference hash (N. Krawetz, Kind of Like That, 2013: one bit for each pixel of a small
picture, whether its right neighbour is brighter) finds candidates fast; alone it takes all smooth gradients, and all
slices of one phantom, for one picture. So the small pictures themselves are compared: their root mean square
difference must be small against their contrast. A copy with other brightness is therefore no near-duplicate.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from isthmus.data.image import Image

_SIDE = 16  # [pixel] of the small picture; 240 bits
_LARGE = 512  # [pixel] of the short side of a photograph that is made small in two steps
_BITS = 12  # that may differ: unrelated pictures differ in about 120
_CHANNELS = 3  # of many bands, the first ones
_BAND_COST = 2  # [of a comparison of all with all] of one that is found by a band


def small_picture(image: Image) -> NDArray[np.float32]:
    """Returns the box means of an image, float32 `[16, 16, 1 to 3]`, pixels without data as 0.

    A large 8-bit photograph is brought to 128 pixels a side first, a quarter of the time.
    """
    box, step = Pillow.Resampling.BOX, _LARGE // (4 * _SIDE)
    if image.pixels.dtype == np.uint8 and image.pixels.shape[2] in (1, 3) and image.valid is None:
        picture = Pillow.fromarray(image.pixels if image.pixels.shape[2] == 3 else image.pixels[..., 0])
        if min(picture.size) >= _LARGE:
            blocks = np.asarray(picture.resize((step * _SIDE, step * _SIDE), box), np.float32)
            means: NDArray[np.float32] = blocks.reshape(_SIDE, step, _SIDE, step, -1).mean(axis=(1, 3))
            return means
        # the same values as those of `_channels`, made by Pillow out of a quarter of the bytes
        channels: Iterable[Pillow.Image] = (channel.convert("F") for channel in picture.split())
    else:
        channels = _channels(image)
    return np.stack([np.asarray(channel.resize((_SIDE, _SIDE), box)) for channel in channels], axis=2)


def _channels(image: Image) -> Iterator[Pillow.Image]:
    """Yields the first channels as float32 pictures, one at a time: of a large frame each is a third of a gigabyte."""
    pixels = image.pixels[..., :_CHANNELS].astype(np.float32)
    if image.valid is not None:
        pixels = np.where(image.valid[..., None], pixels, np.float32(0))
    yield from (Pillow.fromarray(pixels[..., c]) for c in range(pixels.shape[2]))


def near_pairs(pictures: Sequence[NDArray[np.float32]], tolerance: float) -> list[tuple[int, int]]:
    """Returns the places of near-duplicates, each pair once, the smaller place first.

    Args:
        pictures: of `small_picture`.
        tolerance: root mean square difference against the larger contrast (standard deviation) of the two, under 1.
    """
    seen = [(_difference_hash(p), float(p.std())) for p in pictures]
    # A flat picture is farther from any other than a tolerance under 1 allows, and of two flat ones nothing can be
    # said; they share one hash, so that comparing thousands of empty tiles with each other would take minutes.
    places = [place for place, (_, contrast) in enumerate(seen) if contrast > 0]
    if len(places) < 2:
        return []
    found = []
    for one, other in _close_pairs(np.stack([seen[place][0] for place in places])):
        i, j = places[one], places[other]
        if _distance(pictures[i], pictures[j]) <= tolerance * max(seen[i][1], seen[j][1]):
            found.append((i, j))
    return sorted(found)


def _difference_hash(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    grey = picture.mean(axis=2)
    return np.packbits(grey[:, 1:] > grey[:, :-1])


def _close_pairs(hashes: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Yields the places of hashes that differ in at most `_BITS` bits, each pair once.

    Bits are dealt out to `_BITS` + 1 bands: of two hashes that differ in no more bits than that, one band at least is
    the same. So only those that share a band are compared: 20,000 smooth pictures in 0.2 s instead of 2.3. Dealt out,
    not cut: a black margin fills no band of its own. Where the pictures are so alike that bands save nothing, all
    pairs are compared.

    Args:
        hashes: `[N, bytes]`.
    """
    words = np.pad(hashes, ((0, 0), (0, -hashes.shape[1] % 8))).view(np.uint64)
    bands = np.stack([_ranks(hashes, band) for band in range(_BITS + 1)])
    shared = sum(int((n * (n - 1) // 2).sum()) for n in map(np.bincount, bands))
    if shared * _BAND_COST > len(hashes) * (len(hashes) - 1) // 2:
        bands = np.zeros((1, len(hashes)), np.int64)
    for number, band in enumerate(bands):
        for first, second in _sharing(band, words):
            known = (bands[:number, first] == bands[:number, second]).any(axis=0)  # found by an earlier band
            yield from zip(first[~known].tolist(), second[~known].tolist(), strict=True)


def _ranks(hashes: NDArray[np.uint8], band: int) -> NDArray[np.int64]:
    """Returns which hashes have the same bits in a band: a number of its own for each content."""
    bits = np.unpackbits(hashes, axis=1)[:, band :: _BITS + 1]
    return np.unique(np.packbits(bits, axis=1), axis=0, return_inverse=True)[1].ravel()


def _sharing(
    band: NDArray[np.int64], words: NDArray[np.uint64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yields, some at a time, the pairs with the same number in `band` whose words differ in at most `_BITS` bits."""
    order = np.argsort(band, kind="stable")  # stable: of a pair, the smaller place comes first
    same, words = band[order], words[order]
    left = np.arange(len(order))
    for step in range(1, len(order)):
        left = left[left < len(order) - step]
        left = left[same[left] == same[left + step]]
        if not left.size:
            return
        close = left[np.bitwise_count(words[left] ^ words[left + step]).sum(axis=1) <= _BITS]
        yield order[close], order[close + step]


def _distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Returns the root mean square difference, infinite between grey and colour."""
    return float(np.sqrt(np.mean(np.square(a - b)))) if a.shape == b.shape else np.inf
