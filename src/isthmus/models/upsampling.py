"""Logits of cells -> logits of pixels. Apart from the encoder, so that who shows masks does not depend on it."""

from torch import Tensor, nn


def upsampled(logits: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """Returns logits of pixels, float32 `[N, K, side, side]`, of those of cells `[N * T, K]`: bilinear between centres.

    Args:
        logits: row by row of each image's grid.
        grid: rows and columns of cells.
        side: of the image [pixel].
    """
    maps = logits.reshape(-1, *grid, logits.shape[-1]).permute(0, 3, 1, 2).float()
    return nn.functional.interpolate(maps, size=(side, side), mode="bilinear", align_corners=False)
