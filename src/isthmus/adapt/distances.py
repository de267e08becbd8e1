"""Distances between two sets of features, as plain functions.

All compute in float32 (float64 stays) also under autocast: squared distances overflow fp16, and bf16 loses the
small differences they are made of.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

BANDWIDTHS = tuple(2.0**power for power in range(-3, 2))  # a in sigma^2 = a * mean squared distance


def mk_mmd(source: Tensor, target: Tensor, bandwidths: Sequence[float] = BANDWIDTHS) -> Tensor:
    """Returns the unbiased squared maximum mean discrepancy under a sum of Gaussian kernels.

    MMD^2_u = 1/(m(m-1)) sum_{i!=j} k(s_i, s_j) + 1/(n(n-1)) sum_{i!=j} k(t_i, t_j) - 2/(mn) sum_{i,j} k(s_i, t_j),
    Gretton et al., A Kernel Two-Sample Test, JMLR 13 (2012), equation 3; several kernels as in Long et al.,
    Learning Transferable Features with Deep Adaptation Networks, ICML 2015. k(x, y) = mean over a of
    exp(-||x - y||^2 / (2 a d)), d the mean squared distance over all pairs of different rows, detached. It may be
    slightly negative, as an unbiased estimate of a number near zero must.

    Args:
        source: `[m, D]`.
        target: `[n, D]`; m and n may differ.
        bandwidths: the values of a.

    Returns:
        A scalar; zero when a side has fewer than two rows, where the estimate does not exist.
    """
    m, n = len(source), len(target)
    rows = _full(torch.cat([source, target]))
    if m < 2 or n < 2:
        return rows.sum() * 0.0
    with torch.autocast(rows.device.type, enabled=False):
        squared = squared_distances(rows)
        scale = squared.detach().sum() / ((m + n) * (m + n - 1))
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))  # identical rows: every kernel value is 1
        kernel = torch.stack([torch.exp(-squared / (2.0 * a * scale)) for a in bandwidths]).mean(0)
        within_source = (kernel[:m, :m].sum() - kernel[:m, :m].diagonal().sum()) / (m * (m - 1))
        within_target = (kernel[m:, m:].sum() - kernel[m:, m:].diagonal().sum()) / (n * (n - 1))
        return within_source + within_target - 2.0 * kernel[:m, m:].mean()


def coral(source: Tensor, target: Tensor) -> Tensor:
    """Returns ||C_s - C_t||_F^2 / (4 d^2), the distance of two covariance matrices.

    Sun and Saenko, Deep CORAL, ECCV 2016 workshops, equations 1 to 3; covariances are divided by n - 1.

    Args:
        source: `[m, d]`.
        target: `[n, d]`.

    Returns:
        A scalar; zero when a side has fewer than two rows, which have no covariance.
    """
    if len(source) < 2 or len(target) < 2:
        return (_full(source).sum() + _full(target).sum()) * 0.0
    with torch.autocast(source.device.type, enabled=False):
        difference = covariance(_full(source)) - covariance(_full(target))
        return difference.square().sum() / (4.0 * source.shape[1] ** 2)


def covariance(rows: Tensor) -> Tensor:
    """Returns the covariance `[d, d]` of rows `[n, d]`, n of 2 or more."""
    centred = rows - rows.mean(0, keepdim=True)
    return centred.T @ centred / (len(rows) - 1)


def squared_distances(rows: Tensor) -> Tensor:
    """Returns ||r_i - r_j||^2 `[n, n]`, never negative, exactly zero on the diagonal."""
    norms = rows.square().sum(1)
    squared = (norms[:, None] + norms[None, :] - 2.0 * rows @ rows.T).clamp_min(0.0)
    return squared * (1.0 - torch.eye(len(rows), dtype=rows.dtype, device=rows.device))


def _full(rows: Tensor) -> Tensor:
    return rows if rows.dtype == torch.float64 else rows.float()
