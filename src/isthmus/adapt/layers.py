"""Layers that several methods use: gradient reversal, the domain discriminator and its loss."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return inputs.view_as(inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradients[0], None


def reverse_gradient(inputs: Tensor, weight: float) -> Tensor:
    """Returns the inputs; on the way back their gradient is multiplied by `-weight`.

    Ganin and Lempitsky, Unsupervised Domain Adaptation by Backpropagation, ICML 2015, equations 6 to 9.
    """
    reversed_inputs: Tensor = _Reverse.apply(inputs, weight)
    return reversed_inputs


def domain_discriminator(width: int, hidden: int, seed: int) -> nn.Sequential:
    """Returns rows `[N, width]` -> one logit `[N, 1]`, positive for source.

    No BatchNorm: over a joint batch it would leak each row's domain through the batch's statistics.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )


def domain_loss(logits: Tensor, source_count: int) -> Tensor:
    """Returns the binary cross-entropy of domain logits `[N]`, source rows first; each domain weighs half."""
    domain = torch.zeros_like(logits)
    domain[:source_count] = 1.0
    each = functional.binary_cross_entropy_with_logits(logits, domain, reduction="none")
    return (each[:source_count].mean() + each[source_count:].mean()) / 2.0
