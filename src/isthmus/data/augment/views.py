"""Weak and strong views of image batches: plain tensor operations on raw pixels, seeded, the same on every device.

No hue, and flips only where they are asked for: they change what a digit, a side of a body or a stain is.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from isthmus.data.kinds import Orientation


def highest(dtype: torch.dtype) -> float:
    """Returns the value that stands for 1: of integers the largest, of floats 1 itself.

    >>> highest(torch.uint16), highest(torch.float16)
    (65535.0, 1.0)
    """
    return 1.0 if dtype.is_floating_point else float(torch.iinfo(dtype).max)


def weak_view(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Returns images `[N, C, H, W]` of the same dtype, each moved by up to `pixels` with replicated borders."""
    if pixels == 0 or not len(images):
        return images
    height, width = images.shape[2:]
    padded = functional.pad(images.float(), [pixels] * 4, mode="replicate")
    offsets = torch.randint(0, 2 * pixels + 1, (len(images), 2), generator=generator).tolist()
    moved = [
        image[:, top : top + height, left : left + width] for image, (top, left) in zip(padded, offsets, strict=True)
    ]
    return torch.stack(moved).to(images.dtype)


def oriented(images: Tensor, how: Orientation, generator: torch.Generator) -> Tensor:
    """Returns images `[N, C, S, S]`, each mirrored or turned at random.

    Args:
        images: square.
        how: none; mirror: left to right, one of two; turns: one of the eight symmetries of a square.
        generator: of all draws.
    """
    if how == "none" or not len(images):
        return images
    mirrored = torch.randint(2, (len(images),), generator=generator).tolist()
    turns = torch.randint(4, (len(images),), generator=generator).tolist() if how == "turns" else [0] * len(images)
    movable = images.view(torch.int16) if images.dtype == torch.uint16 else images  # torch flips no uint16
    turned = [
        torch.rot90(image.flip(-1) if mirror else image, turn, (1, 2))
        for image, mirror, turn in zip(movable, mirrored, turns, strict=True)
    ]
    return torch.stack(turned).view(images.dtype)


def cropped(images: Tensor, least: float, generator: torch.Generator) -> Tensor:
    """Returns images `[N, C, H, W]` of the same dtype: random crops of them, enlarged to the same size, bilinear.

    Szegedy et al., Going Deeper with Convolutions, CVPR 2015, section 6; of the image's own proportions, as a class may
    be told by the shape of a thing.

    Args:
        images: of any proportions.
        least: [share] of the area that is shown at least; 1: all of it.
        generator: of areas and places.
    """
    if least == 1 or not len(images):
        return images
    height, width = images.shape[2:]
    drawn = torch.rand(len(images), 3, generator=generator, dtype=torch.float64).tolist()
    out = torch.empty(images.shape, dtype=torch.float32)
    for number, (area, down, right) in enumerate(drawn):
        side = math.sqrt(least + (1 - least) * area)
        high, wide = max(1, round(side * height)), max(1, round(side * width))
        top, left = int(down * (height - high + 1)), int(right * (width - wide + 1))
        part = images[number : number + 1, :, top : top + high, left : left + wide].float()
        out[number] = functional.interpolate(part, size=(height, width), mode="bilinear", antialias=True)[0]
    return (out if images.is_floating_point() else out.round()).to(images.dtype)


def strong_view(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Returns a weak view with brightness and contrast changed and one square cut out (filled with the mean).

    Brightness and contrast factors in [0.6, 1.4]; the square's side is a quarter of the image's (DeVries and
    Taylor, Cutout, 2017).
    """
    if not len(images):
        return images
    moved = weak_view(images, pixels, generator).float()
    high = highest(images.dtype)
    factors = 0.6 + 0.8 * torch.rand(2, len(images), 1, 1, 1, generator=generator)
    centre = moved.mean(dim=(1, 2, 3), keepdim=True)
    changed = ((moved - centre) * factors[0] + centre * factors[1]).clamp(0.0, high)
    side = max(1, images.shape[2] // 4)
    corners = torch.randint(0, max(1, images.shape[2] - side), (len(images), 2), generator=generator).tolist()
    for image, (top, left) in zip(changed, corners, strict=True):
        image[:, top : top + side, left : left + side] = image.mean()
    return changed.to(images.dtype)


def erased(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Returns images `[N, C, H, W]`, about `share` of them with a rectangle filled with the image's own channel means.

    Zhong et al., Random Erasing Data Augmentation, AAAI 2020, algorithm 1: area 0.02 to 0.33 of the image, sides in a
    ratio of 0.3 to 1/0.3. Filled with the mean instead of noise: a mean is a possible value in every kind of imagery.
    """
    height, width = images.shape[2:]
    chosen = torch.rand(len(images), generator=generator) < share
    drawn = torch.rand(len(images), 4, generator=generator, dtype=torch.float64).tolist()
    changed = images.clone()
    for number in chosen.nonzero().flatten().tolist():
        area, ratio, top, left = drawn[number]
        pixels = (0.02 + 0.31 * area) * height * width
        stretch = math.sqrt(0.3 ** (1 - 2 * ratio))
        high, wide = (max(1, min(side, round(math.sqrt(pixels) * by))) for side, by in
                      ((height, stretch), (width, 1 / stretch)))  # fmt: skip
        top, left = int(top * (height - high + 1)), int(left * (width - wide + 1))
        mean = images[number].float().mean(dim=(1, 2), keepdim=True)
        changed[number, :, top : top + high, left : left + wide] = mean.to(images.dtype)
    return changed


def mixed(images: Tensor, labels: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns lambda x_i + (1 - lambda) x_j and the labels mixed alike; j a permutation, lambda ~ Beta(alpha, alpha).

    Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018, section 2.

    Args:
        images: `[N, C, H, W]`.
        labels: float32 `[N, K]`.
        alpha: of the Beta.
        generator: of lambda and the permutation.
    """
    share, other = _pairing(len(images), alpha, generator)
    blend = images.float() * share + images[other].float() * (1 - share)
    blend = blend if images.is_floating_point() else blend.round()
    return blend.to(images.dtype), labels * share + labels[other] * (1 - share)


def cut_mixed(images: Tensor, labels: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns images with a rectangle of another image, and labels mixed by the area each has.

    Yun et al., CutMix, ICCV 2019, equations 1 and 2; arguments as of `mixed`. The label's share is the area that was
    really pasted, which the border may have cut.
    """
    share, other = _pairing(len(images), alpha, generator)
    height, width = images.shape[2:]
    high, wide = (int(side * math.sqrt(1 - share)) for side in (height, width))
    row, column = torch.rand(2, generator=generator).tolist()
    top, left = int(row * height) - high // 2, int(column * width) - wide // 2
    rows, columns = slice(max(0, top), max(0, top + high)), slice(max(0, left), max(0, left + wide))
    changed = images.clone()
    changed[:, :, rows, columns] = images[other][:, :, rows, columns]
    kept = 1 - changed[0, 0, rows, columns].numel() / (height * width)
    return changed, labels * kept + labels[other] * (1 - kept)


def _pairing(count: int, alpha: float, generator: torch.Generator) -> tuple[float, Tensor]:
    """Returns lambda and the partner of each image; the Beta comes from two Gammas, as torch's takes no generator."""
    gamma = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator)
    return float(gamma[0] / gamma.sum()), torch.randperm(count, generator=generator)
