"""Hand-made descriptors of images: colour, texture and shape, as vision had them before networks. Nothing is learnt.

They serve as a view of the images that no network shares (`selection/second_view.py`). With g the mean of the
channels, values in [0, 1]:

- colour: mean, standard deviation and the square root of an eight-bin histogram of each channel (Swain & Ballard,
  "Color Indexing", IJCV 1991);
- texture: square root of the histogram of rotation-invariant uniform local binary patterns of the eight neighbours
  (Ojala, Pietikainen & Maenpaa, "Multiresolution Gray-Scale and Rotation Invariant Texture Classification with Local
  Binary Patterns", TPAMI 2002, equation 9), and local contrast, at g and at g shrunk to a half and a quarter;
- shape: histograms of eight unsigned gradient orientations over 4 x 4 cells of g at 64 pixels, normalised as a whole
  (after Dalal & Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005), and the shares of the
  orientations in the whole image in order of size, which do not depend on how the image is turned.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from isthmus.models.classifier import in_unit_range

_BINS, _ORIENTATIONS, _CODES = 8, 8, 10
_SIDE, _CELLS = 64, 4
_AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


@torch.inference_mode()
def describe(images: NDArray[Any]) -> NDArray[np.float32]:
    """Returns float32 descriptors `[N, D]` of images `[N, H, W, C]` at least 12 pixels each way; D = 172 + 10 C.

    Each row depends on its own image alone. Dtypes as prepared: uint8, uint16, or floating point in [0, 1].
    """
    pixels = in_unit_range(torch.from_numpy(np.array(images)).permute(0, 3, 1, 2))
    grey = pixels.mean(dim=1, keepdim=True)
    textures = [_texture(functional.avg_pool2d(grey, scale)) for scale in (1, 2, 4)]
    found: NDArray[np.float32] = torch.cat([_colour(pixels), *textures, _shape(grey)], dim=1).numpy()
    return found


def _colour(pixels: Tensor) -> Tensor:
    values = pixels.flatten(2)
    places = (values * _BINS).floor().clamp(0, _BINS - 1)
    shares = torch.stack([(places == place).float().mean(dim=2) for place in range(_BINS)], dim=2)
    both = torch.stack([values.mean(dim=2), values.std(dim=2)], dim=2)
    return torch.cat([both, shares.sqrt()], dim=2).flatten(1)


def _texture(grey: Tensor) -> Tensor:
    brighter = torch.stack([(torch.roll(grey, move, dims=(2, 3)) >= grey).float() for move in _AROUND], dim=-1)
    changes = (brighter != torch.roll(brighter, 1, dims=-1)).sum(dim=-1)
    codes = torch.where(changes <= 2, brighter.sum(dim=-1), _CODES - 1.0)
    inner = codes[:, :, 1:-1, 1:-1].flatten(1)  # the rim's neighbours lie on the other side of the image
    shares = torch.stack([(inner == code).float().mean(dim=1) for code in range(_CODES)], dim=1)
    rest = grey - functional.avg_pool2d(grey, 3, 1, 1)
    contrast = torch.stack([rest.abs().flatten(1).mean(dim=1), rest.flatten(1).std(dim=1)], dim=1)
    return torch.cat([shares.sqrt(), contrast], dim=1)


def _shape(grey: Tensor) -> Tensor:
    small = functional.interpolate(grey, size=(_SIDE, _SIDE), mode="bilinear", antialias=True)
    across = functional.pad(small[..., 2:] - small[..., :-2], (1, 1))
    down = functional.pad(small[..., 2:, :] - small[..., :-2, :], (0, 0, 1, 1))
    strength = (across**2 + down**2).sqrt()
    angle = torch.atan2(down, across) % torch.pi / torch.pi * _ORIENTATIONS
    # Each gradient is shared by the two orientations that it lies between.
    apart = [((angle - k + _ORIENTATIONS / 2) % _ORIENTATIONS - _ORIENTATIONS / 2).abs() for k in range(_ORIENTATIONS)]
    oriented = torch.cat([strength * (1 - distance).clamp(min=0) for distance in apart], dim=1)
    cells = functional.avg_pool2d(oriented, _SIDE // _CELLS).flatten(1)
    whole = oriented.mean(dim=(2, 3))
    turned = (whole / (whole.sum(dim=1, keepdim=True) + 1e-6)).sort(dim=1).values
    return torch.cat([cells / (cells.norm(dim=1, keepdim=True) + 1e-3), turned], dim=1)
