"""Parameter groups and the learning rate's course."""

import math

import torch
from torch import nn

WARM_UP = 0.05  # [share] of all steps


def make_optimiser(
    model: nn.Module, method: nn.Module, rate: float, backbone_rate: float, weight_decay: float
) -> torch.optim.AdamW:
    """Returns AdamW over the named groups backbone, bottleneck, head and method; empty groups are left out.

    Args:
        model: with parts `backbone`, `bottleneck`, `head`.
        method: its own layers.
        rate: learning rate of all but the backbone.
        backbone_rate: the backbone's [share] of `rate`.
        weight_decay: of every group (Loshchilov and Hutter, ICLR 2019).
    """
    parts = {name: getattr(model, name) for name in ("backbone", "bottleneck", "head")} | {"method": method}
    groups = []
    for name, part in parts.items():
        parameters = [p for p in part.parameters() if p.requires_grad]
        full = rate * backbone_rate if name == "backbone" else rate
        if parameters:
            groups.append({"params": parameters, "lr": full, "full_rate": full, "name": name})
    return torch.optim.AdamW(groups, weight_decay=weight_decay)


def rate_factor(progress: float) -> float:
    """Returns the share of the full learning rate: linear warm-up, then half a cosine to zero.

    >>> rate_factor(1.0), rate_factor(WARM_UP)
    (0.0, 1.0)
    """
    if progress < WARM_UP:
        return (progress + 1e-3) / (WARM_UP + 1e-3)
    return 0.5 * (1.0 + math.cos(math.pi * (progress - WARM_UP) / (1.0 - WARM_UP)))


def set_rate(optimiser: torch.optim.Optimizer, progress: float) -> float:
    """Sets every group's learning rate for this progress; returns the largest."""
    for group in optimiser.param_groups:
        group["lr"] = group["full_rate"] * rate_factor(progress)
    return float(max(group["lr"] for group in optimiser.param_groups))
