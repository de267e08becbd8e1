"""Features of each place in an image: the patch tokens of a vision transformer, the last maps of other networks."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

from isthmus.core.errors import ConfigError


class Tokens(NamedTuple):
    """Features of a grid of cells.

    Attributes:
        values: float32 `[B, rows * columns, D]`, row by row; no class token, no registers, no prompts.
        rows: cells from top to bottom.
        columns: cells from left to right.
    """

    values: Tensor
    rows: int
    columns: int


def tokens(network: nn.Module, images: Tensor, layer: int | None = None) -> Tokens:
    """Returns the features of each cell of normalised images `[B, C, H, W]`, as the network's pooling would see them.

    Args:
        network: a backbone of timm.
        images: as `network` takes them; its hooks (bands taken, small images enlarged) see them first.
        layer: block of a vision transformer or stage of another network, from 0; None: the end.

    Raises:
        ConfigError: the network hands out no features by place, or has no such layer.
    """
    timm_network: Any = network
    if not hasattr(network, "forward_features"):
        raise ConfigError(
            "models: backbone.name: features by place need a network of timm (got"
            f" {type(network).__name__}). Set name: timm"
        )
    if layer is None:
        found = called(network, timm_network.forward_features, images)
    else:
        try:
            found = called(
                network,
                lambda inputs: timm_network.forward_intermediates(
                    inputs, indices=[layer], norm=True, output_fmt="NCHW", intermediates_only=True
                )[0],
                images,
            )
        except (AssertionError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"models: {type(network).__name__} gives no features of layer {layer} by place ({error}). Leave the"
                " layer out to have those of its end"
            ) from error
        return _of_maps(found)
    if found.dim() == 3:
        return _of_sequence(timm_network, found, images)
    if found.dim() == 4:
        last = getattr(network, "output_fmt", "NCHW") == "NHWC"
        return _of_maps(found.permute(0, 3, 1, 2) if last else found)
    raise ConfigError(f"models: {type(network).__name__} has features {tuple(found.shape)}, which form no grid")


def called(network: nn.Module, run: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Returns what `run` makes of images `[B, C, H, W]`; through the network's own call, so its hooks see them first.

    Args:
        network: whose hooks run.
        run: takes the images as the hooks leave them.
        images: as `network` takes them.
    """
    network.forward = run
    try:
        found: Tensor = network(images)
    finally:
        del network.forward
    return found


def _of_maps(maps: Tensor) -> Tokens:
    return Tokens(maps.flatten(2).transpose(1, 2).float(), *maps.shape[2:])


def _of_sequence(network: Any, found: Tensor, images: Tensor) -> Tokens:
    height, width = images.shape[2:]
    first = int(getattr(network, "num_prefix_tokens", 0))
    try:
        rows, columns = network.patch_embed.dynamic_feat_size((height, width))
    except (AttributeError, TypeError):  # without a word on its grid, that is square where the image is
        rows = columns = math.isqrt(found.shape[1] - first) if height == width else 0
    values = found[:, first : first + rows * columns]  # prompts stand behind the patches
    if not rows or values.shape[1] != rows * columns:
        raise ConfigError(
            f"models: {type(network).__name__} has {found.shape[1]} tokens for images of {height} x {width} pixels,"
            " which form no grid"
        )
    return Tokens(values.float(), rows, columns)
