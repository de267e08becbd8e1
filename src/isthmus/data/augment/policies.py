"""RandAugment and AugMix of raw image batches: which operations a kind of imagery stands, and how they are composed.

The leaf operations are torchvision's, on float images in [0, 1]; what they uncover takes the image's channel means. No
operation flips (it changes what a side of a body or a digit is) and none turns the hue. Operations that change colours,
or the order of tones, are for 8-bit photographs alone: in a DICOM or a satellite's band a value is a measurement.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as leaf

from isthmus.data.augment.views import highest

_PHOTOGRAPHS = frozenset({"natural", "industrial"})  # a kind that is not named here gets the operations that all stand
_GEOMETRY = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
_LIGHT = ("brightness", "contrast", "sharpness")
_TONES = ("autocontrast", "equalize", "posterize", "solarize")
_NEAREST = InterpolationMode.NEAREST  # as torchvision's class; its bilinear fill darkens the edge of what is uncovered
_DEPTH = 3  # of AugMix: operations in a chain, at most


def operations(kind: str, dtype: torch.dtype, channels: int, *, overlapping: bool = True) -> tuple[str, ...]:
    """Returns the names of the operations that images of a kind stand.

    Args:
        kind: of imagery.
        dtype: of the prepared images.
        channels: C.
        overlapping: with brightness, contrast, sharpness and colour, which AugMix leaves out as they overlap with the
            corruptions that it is to be robust against.

    >>> operations("remote_sensing", torch.uint16, 5, overlapping=False)
    ('rotate', 'shear_x', 'shear_y', 'translate_x', 'translate_y')
    """
    photographs = kind in _PHOTOGRAPHS and dtype == torch.uint8
    names = _GEOMETRY + (_TONES if photographs else ())
    if overlapping:
        names += _LIGHT + (("colour",) if photographs and channels == 3 else ())
    return names


def rand_augmented(
    images: Tensor, count: int, strength: float, allowed: Sequence[str], generator: torch.Generator
) -> Tensor:
    """Returns images `[N, C, H, W]` of the same dtype, each changed by `count` operations at one strength.

    Cubuk, Zoph, Shlens, Le, RandAugment, NeurIPS 2020, https://arxiv.org/abs/1909.13719, figure 2: drawn evenly, with
    replacement, the sign at random; the strength M of 30 means what it means in torchvision's class of that name.

    Args:
        images: uint8, uint16 or float16 in [0, 1].
        count: N of the paper.
        strength: M, in [0, 30].
        allowed: see `operations`.
        generator: of all draws.
    """
    names, signs = _drawn(len(images), count, allowed, generator)
    changed = [
        _chain(image, chosen, [strength / 30.0] * count, turned)
        for image, chosen, turned in zip(_floats(images), names, signs, strict=True)
    ]
    return _as(torch.stack(changed), images.dtype) if changed else images


def augmixed(images: Tensor, width: int, strength: float, allowed: Sequence[str], generator: torch.Generator) -> Tensor:
    """Returns m x + (1 - m) sum_i w_i chain_i(x) for each image x; m ~ Beta(1, 1), w ~ Dirichlet(1, ..., 1).

    Hendrycks et al., AugMix, ICLR 2020, https://arxiv.org/abs/1912.02781, algorithm 1: each chain has one to three
    operations, each at a strength drawn evenly up to the given one (the paper's severity 3 of 10 is 9 of 30). Differs:
    the images alone; the paper's Jensen-Shannon loss between three views is not part of it.

    Args:
        images: uint8, uint16 or float16 in [0, 1].
        width: chains; the paper's 3.
        strength: in [0, 30].
        allowed: see `operations`.
        generator: of all draws.
    """
    names, signs = _drawn(len(images), width * _DEPTH, allowed, generator)
    depths = torch.randint(1, _DEPTH + 1, (len(images), width), generator=generator).tolist()
    levels = (strength / 30.0 * torch.rand(len(images), width * _DEPTH, generator=generator)).tolist()
    weights = torch._standard_gamma(torch.ones(len(images), width), generator=generator)  # Gammas make a Dirichlet
    weights = weights / weights.sum(1, keepdim=True)
    shares = torch.rand(len(images), 1, 1, 1, generator=generator)  # Beta(1, 1) is even
    plain = _floats(images)
    mixed = torch.zeros_like(plain)
    for number, image in enumerate(plain):
        for place in range(width):
            steps = slice(place * _DEPTH, place * _DEPTH + depths[number][place])
            chain = _chain(image, names[number][steps], levels[number][steps], signs[number][steps])
            mixed[number] += weights[number, place] * chain
    return _as(shares * plain + (1.0 - shares) * mixed, images.dtype)


def changed_by(image: Tensor, name: str, level: float, sign: int) -> Tensor:
    """Returns a float image `[C, H, W]` in [0, 1] after one operation.

    Args:
        image: float32.
        name: see `operations`.
        level: in [0, 1]; autocontrast and equalize have none.
        sign: 1 or -1, of operations that have two directions.
    """
    return _LEAVES[name](image, level, sign)


def _chain(image: Tensor, names: Sequence[str], levels: Sequence[float], signs: Sequence[int]) -> Tensor:
    for name, level, sign in zip(names, levels, signs, strict=True):
        image = changed_by(image, name, level, sign)
    return image


def _drawn(
    images: int, count: int, allowed: Sequence[str], generator: torch.Generator
) -> tuple[list[list[str]], list[list[int]]]:
    places = torch.randint(len(allowed), (images, count), generator=generator).tolist()
    signs = (2 * torch.randint(2, (images, count), generator=generator) - 1).tolist()
    return [[allowed[place] for place in row] for row in places], signs


def _moved(image: Tensor, *, shear: tuple[float, float] = (0.0, 0.0), by: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    angles = [math.degrees(math.atan(part)) for part in shear]
    height, width = image.shape[1:]
    shift = [int(by[0] * width), int(by[1] * height)]
    moved: Tensor = leaf.affine(image, 0.0, shift, 1.0, angles, interpolation=_NEAREST, fill=_means(image))
    return moved


def _means(image: Tensor) -> list[float]:
    means: list[float] = image.mean(dim=(1, 2)).tolist()
    return means


def _each(operation: Callable[..., Tensor], image: Tensor, *factor: float) -> Tensor:
    """Applies an operation that torchvision knows for grey and RGB alone; other bands are so many grey images."""
    if len(image) in (1, 3):
        return operation(image, *factor)
    return operation(image[:, None], *factor)[:, 0]


def _in_bytes(operation: Callable[..., Tensor], image: Tensor, *values: int) -> Tensor:
    return operation((image * 255.0).round().to(torch.uint8), *values).float() / 255.0


def _floats(images: Tensor) -> Tensor:
    return images.float() / highest(images.dtype)


def _as(images: Tensor, dtype: torch.dtype) -> Tensor:
    scaled = images.clamp(0.0, 1.0) * highest(dtype)
    return (scaled if dtype.is_floating_point else scaled.round()).to(dtype)


# The largest change of each is torchvision's: 30 degrees, 0.3, 150 of 331 pixels, a factor of 1.9, four bits.
_LEAVES: dict[str, Callable[[Tensor, float, int], Tensor]] = {
    "rotate": lambda x, level, sign: leaf.rotate(x, 30.0 * level * sign, _NEAREST, fill=_means(x)),
    "shear_x": lambda x, level, sign: _moved(x, shear=(0.3 * level * sign, 0.0)),
    "shear_y": lambda x, level, sign: _moved(x, shear=(0.0, 0.3 * level * sign)),
    "translate_x": lambda x, level, sign: _moved(x, by=(150 / 331 * level * sign, 0.0)),
    "translate_y": lambda x, level, sign: _moved(x, by=(0.0, 150 / 331 * level * sign)),
    "brightness": lambda x, level, sign: _each(leaf.adjust_brightness, x, 1.0 + 0.9 * level * sign),
    "contrast": lambda x, level, sign: _each(leaf.adjust_contrast, x, 1.0 + 0.9 * level * sign),
    "sharpness": lambda x, level, sign: _each(leaf.adjust_sharpness, x, 1.0 + 0.9 * level * sign),
    "colour": lambda x, level, sign: leaf.adjust_saturation(x, 1.0 + 0.9 * level * sign),
    "autocontrast": lambda x, _, __: leaf.autocontrast(x),
    "equalize": lambda x, _, __: _in_bytes(leaf.equalize, x),
    "posterize": lambda x, level, _: _in_bytes(leaf.posterize, x, 8 - round(4 * level)),
    "solarize": lambda x, level, _: leaf.solarize(x, 1.0 - level),
}
