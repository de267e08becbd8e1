"""Parameter groups, the optimiser, and the learning rate's course."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from isthmus.models import ModelConfig
from isthmus.models.recipe import Schedule
from isthmus.models.tuning import layers

_RISE, _FROM, _TO = 0.3, 1 / 25, 1 / 25e4  # of one_cycle: share of steps that rise; first and last rate (torch's own)


def make_optimiser(
    model: nn.Module,
    method: nn.Module,
    config: ModelConfig,
) -> torch.optim.Optimizer:
    """Returns the optimiser over groups named backbone, bottleneck, head and method; empty groups are left out.

    Args:
        model: with parts `backbone`, `bottleneck`, `head`.
        method: its own layers.
        config: of the model. `weight_decay` is of matrices and kernels; norms, biases and what a network of timm
            excepts (position embeddings, class token) have none, in groups of their own (AdamW: Loshchilov and Hutter,
            ICLR 2019; SGD: added to the gradient). With `layer_decay` each layer of the backbone's network learns at
            this share of the one after it (Clark et al., ELECTRA, ICLR 2020, appendix A); its groups are all named
            backbone.
    """
    rate, weight_decay, layer_decay = config.learning_rate, config.weight_decay, config.tuning.layer_decay
    groups: list[dict[str, Any]] = []
    for name in ("backbone", "bottleneck", "head", "method"):
        part = method if name == "method" else getattr(model, name)
        full = rate * config.backbone_rate if name == "backbone" else rate
        network = getattr(part, "network", part)
        if name == "backbone" and layer_decay < 1:
            found = _layer_groups(network, weight_decay, layer_decay)
        else:
            found = weight_decay_groups(network, weight_decay)
        for group in found:
            here = full * group.pop("lr_scale", 1.0)
            groups.append(group | {"lr": here, "full_rate": here, "name": name})
    if not groups:  # a head that remembers: torch refuses an optimiser of nothing, not one of an empty group
        groups.append({"params": [], "lr": rate, "full_rate": rate, "name": "head"})
    chosen = config.optimiser
    if chosen.name == "sgd":
        return torch.optim.SGD(groups, momentum=chosen.momentum, nesterov=chosen.nesterov, weight_decay=weight_decay)
    # fused: a loop over tensors in Python takes a third of a step on cached features
    return torch.optim.AdamW(groups, weight_decay=weight_decay, fused=True)


def weight_decay_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Returns the parameters that train in up to two groups: with weight decay, and without.

    As `timm.optim.param_groups_weight_decay`, which a test compares it with: timm takes seconds to import, and heads on
    frozen features train without it.
    """
    parameters = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    spared = {name for name, p in parameters if p.ndim <= 1 or name.endswith(".bias")} | _excepted(network)
    with_decay = [p for name, p in parameters if name not in spared]
    without = [p for name, p in parameters if name in spared]
    groups = [{"params": with_decay, "weight_decay": weight_decay}, {"params": without, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _excepted(network: nn.Module) -> set[str]:
    """Returns the names of the parameters that a network of timm wants no weight decay on."""
    named: set[str] = set(getattr(network, "no_weight_decay", set)())
    return named


def _layer_groups(network: nn.Module, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    import timm.optim

    group: Any = timm.optim.param_groups_layer_decay  # type: ignore[attr-defined]
    found: list[dict[str, Any]] = group(
        _Layered(network), weight_decay, no_weight_decay_list=_excepted(network), layer_decay=layer_decay
    )
    return found


class _Layered:
    """A network with the layers that `models.tuning.layers` counts, as timm's grouping asks for them."""

    def __init__(self, network: nn.Module) -> None:
        self.named_parameters = network.named_parameters
        self._depth = layers(network)

    def group_matcher(self, coarse: bool) -> Callable[[str], int]:
        """Returns what gives each parameter's layer by its name."""
        return self._depth.__getitem__


def rate_factor(
    progress: float,
    schedule: Schedule = Schedule(),  # noqa: B008 - frozen
    epochs: int = 1,
    watched: Sequence[float] = (),
) -> float:
    """Returns the share of the full learning rate: linear warm-up, then the schedule's course.

    It is a function of what is done and of nothing else, so that a resumed run goes on as an unbroken one.

    Args:
        progress: p in [0, 1].
        schedule: its name and numbers.
        epochs: in all; step and sgdr count in epochs.
        watched: of plateau: the value that is watched, one an epoch so far; lower is better.

    >>> rate_factor(1.0), rate_factor(0.05)
    (0.0, 1.0)
    """
    if schedule.name == "one_cycle":
        return _one_cycle(progress)
    if progress < schedule.warm_up:
        return (progress + 1e-3) / (schedule.warm_up + 1e-3)
    if schedule.name == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * (progress - schedule.warm_up) / (1.0 - schedule.warm_up)))
    if schedule.name == "step":
        return schedule.factor ** int(progress * epochs / schedule.every + 1e-9)
    if schedule.name == "sgdr":
        return _restarts(progress * epochs, schedule.every, schedule.growth)
    if schedule.name == "plateau":
        return schedule.factor ** falls(watched, schedule.patience)
    return 1.0


def falls(watched: Sequence[float], patience: int) -> int:
    """Returns how often the rate has fallen: each time `patience` values in a row did not beat the best.

    Unlike torch's ReduceLROnPlateau there is no threshold and no cool-down, and the fall comes with the value that
    fills the patience, not with the one after it.

    >>> falls([3.0, 2.0, 2.0, 2.5, 1.0, 1.5], 2)
    1
    """
    best, waited, count = math.inf, 0, 0
    for value in watched:
        better = value < best
        best, waited = (value, 0) if better else (best, waited + 1)
        if waited == patience:
            count, waited = count + 1, 0
    return count


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> float:
    """Sets every group's learning rate to this share of its full one; returns the largest."""
    for group in optimiser.param_groups:
        group["lr"] = group["full_rate"] * factor
    return float(max(group["lr"] for group in optimiser.param_groups))


def _one_cycle(progress: float) -> float:
    """Smith and Topin, Super-Convergence, 2018: up to the full rate, then far below where it began; by cosine."""
    if progress <= _RISE:
        return _between(_FROM, 1.0, progress / _RISE)
    return _between(1.0, _TO, (progress - _RISE) / (1.0 - _RISE))


def _between(first: float, last: float, share: float) -> float:
    return last + (first - last) * 0.5 * (1.0 + math.cos(math.pi * share))


def _restarts(epoch: float, length: int, growth: int) -> float:
    """Loshchilov and Hutter, SGDR, ICLR 2017, equation 5, with a lowest rate of zero."""
    while epoch >= length - 1e-9:
        epoch, length = epoch - length, length * growth
    return 0.5 * (1.0 + math.cos(math.pi * max(0.0, epoch) / length))
