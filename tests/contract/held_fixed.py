"""Difference quotients of losses in which something is held fixed: detached, computed without gradients, or reversed.

Such a loss is not the antiderivative of its own gradient: a difference quotient moves the detached parts too. They are
recorded at the point and given back as constants when the loss is taken again beside it; what is then differentiated
is the very code of the loss, and the quotient is that of the loss as the paper means it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class HeldFixed(TorchFunctionMode):
    """Records every detached value and everything computed under `no_grad`, and afterwards gives it back in order."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Any] = []
        self.recording = True
        self.place = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch._C._set_grad_enabled or (torch.is_grad_enabled() and func is not Tensor.detach):
            return func(*args, **(kwargs or {}))
        if self.recording:
            value = func(*args, **(kwargs or {}))
            self.values.append(value.detach().clone() if isinstance(value, Tensor) else value)
        self.place += 1
        return self.values[self.place - 1]


class Reversed:
    """Stands for the autograd function of gradient reversal: the same value, and a slope of `-weight` also in fact."""

    @staticmethod
    def apply(inputs: Tensor, weight: float) -> Tensor:
        return -weight * inputs + (1.0 + weight) * inputs.detach()


class Loss(nn.Module):
    """A loss as a module over all that trains in it, so that its parameters can be moved."""

    def __init__(self, parts: dict[str, nn.Module], loss: Callable[[], Tensor]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.loss = loss

    def forward(self) -> Tensor:
        torch.manual_seed(0)  # masks and dropout are the same each time
        return self.loss()

    def trained(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.named_parameters() if value.requires_grad}

    def gradients(self) -> dict[str, Tensor]:
        found = torch.autograd.grad(self(), list(self.trained().values()), allow_unused=True)
        pairs = zip(self.trained().items(), found, strict=True)
        return {name: torch.zeros_like(value) if grad is None else grad for (name, value), grad in pairs}


def agrees_with_difference_quotients(loss: Loss) -> bool:
    """Says whether the gradient for every parameter is the quotient, all that is held fixed staying where it is.

    Quotients are taken along random directions: two a parameter instead of two for each of its numbers.

    Raises:
        torch.autograd.gradcheck.GradcheckError: they differ; the message says where.
    """
    names = list(loss.trained())
    fixed = HeldFixed()

    def at(*values: Tensor) -> Tensor:
        fixed.place = 0
        with fixed:
            value: Tensor = torch.func.functional_call(loss, dict(zip(names, values, strict=True)), ())
        return value

    start = [value.detach().clone().requires_grad_() for value in loss.trained().values()]
    at(*start)
    fixed.recording = False
    return torch.autograd.gradcheck(at, start, fast_mode=True)
