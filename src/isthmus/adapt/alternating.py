"""Optimisers of a method's own, for loops whose steps take turns over parts of the model."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.adapt import Model
from isthmus.core.errors import ConfigError


def require_plain_step(like: torch.optim.Optimizer) -> None:
    """Refuses options of the shared step that steps over parts of the model know nothing of.

    Raises:
        ConfigError: one is set.
    """
    if not all(group.get("plain_step", True) for group in like.param_groups):
        raise ConfigError(
            "params.yaml: models: optimiser, accumulate, precision and average have no effect on a method with"
            " alternating steps"
            " over parts of the model, nor do tuning.layer_decay and l2_sp. Leave them at adamw, 1, none, 0, 1"
            " and 0, or drop adda, mcd and swd"
        )


def require_encoder(model: Model, method: str) -> None:
    """Refuses a model in which nothing trains before the head: a step over the encoder alone would have no weight.

    Raises:
        ConfigError: neither backbone nor bottleneck has a parameter that trains.
    """
    parts = (model.backbone, model.bottleneck)
    if not any(parameter.requires_grad for part in parts for parameter in part.parameters()):
        raise ConfigError(
            f"params.yaml: methods: {method} moves the layers before the head, and in the scenario's model none of them"
            " trains. Allowed: models: head: bottleneck, or a backbone that trains (mode: full). Change the model, or"
            " drop the method"
        )


def own_optimiser(parts: Mapping[str, Iterable[nn.Parameter]], like: torch.optim.Optimizer) -> torch.optim.AdamW:
    """Returns AdamW over some parts, with the weight decay of the session's optimiser; norms and biases have none.

    Args:
        parts: by the name of the session's group whose learning rate they take; empty parts are left out.
        like: the session's optimiser; its groups carry `name`.

    Raises:
        ConfigError: options of the shared step are set that these steps know nothing of.
    """
    require_plain_step(like)
    decay = float(like.defaults["weight_decay"])
    groups: list[dict[str, Any]] = []
    for name, parameters in parts.items():
        here = list(parameters)
        groups.append({"params": [p for p in here if p.ndim > 1], "name": name, "weight_decay": decay})
        groups.append({"params": [p for p in here if p.ndim <= 1], "name": name, "weight_decay": 0.0})
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, fused=True)


def minimise(loss: Tensor, optimiser: torch.optim.Optimizer, like: torch.optim.Optimizer, clip: float) -> None:
    """Does one step of an own optimiser at the learning rates that the session's optimiser has now.

    A loss that is not finite is left out: the step would destroy the weights.

    Args:
        loss: of the parts that move.
        optimiser: of these parts.
        like: the session's optimiser.
        clip: largest gradient norm.
    """
    if not loss.isfinite():
        return
    rates = {group["name"]: group["lr"] for group in like.param_groups}
    for group in optimiser.param_groups:
        group["lr"] = rates[group["name"]]
    like.zero_grad(set_to_none=True)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], clip)
    optimiser.step()
    like.zero_grad(set_to_none=True)  # the parts that had to stay still got gradients too


def minimise_only(
    loss: Tensor, parameters: Iterable[nn.Parameter], optimiser: torch.optim.Optimizer, clip: float
) -> None:
    """Does one step of the session's optimiser over some parameters; the others have no gradient and stay as they are.

    A loss that is not finite is left out: the step would destroy the weights.

    Args:
        loss: of the parts that move.
        parameters: of these parts.
        optimiser: the session's.
        clip: largest gradient norm.
    """
    if not loss.isfinite():
        return
    moved = [parameter for parameter in parameters if parameter.requires_grad]  # layers may thaw one after another
    if not moved:
        return
    optimiser.zero_grad(set_to_none=True)
    for parameter, gradient in zip(moved, torch.autograd.grad(loss, moved, allow_unused=True), strict=True):
        parameter.grad = gradient
    nn.utils.clip_grad_norm_(moved, clip)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
