"""Weak and strong views of image batches: plain tensor operations on raw pixels, seeded, the same on every device.

No flips and no hue: they change what a digit, a side of a body or a stain is. Kinds that allow more say so.
"""

import torch
from torch import Tensor
from torch.nn import functional


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


def strong_view(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Returns a weak view with brightness and contrast changed and one square cut out (filled with the mean).

    Brightness and contrast factors in [0.6, 1.4]; the square's side is a quarter of the image's (DeVries and
    Taylor, Cutout, 2017).
    """
    if not len(images):
        return images
    moved = weak_view(images, pixels, generator).float()
    high = 255.0 if images.dtype == torch.uint8 else 65535.0 if images.dtype == torch.uint16 else 1.0
    factors = 0.6 + 0.8 * torch.rand(2, len(images), 1, 1, 1, generator=generator)
    centre = moved.mean(dim=(1, 2, 3), keepdim=True)
    changed = ((moved - centre) * factors[0] + centre * factors[1]).clamp(0.0, high)
    side = max(1, images.shape[2] // 4)
    corners = torch.randint(0, max(1, images.shape[2] - side), (len(images), 2), generator=generator).tolist()
    for image, (top, left) in zip(changed, corners, strict=True):
        image[:, top : top + side, left : left + side] = image.mean()
    return changed.to(images.dtype)
