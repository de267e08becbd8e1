"""MCC: on the target, no two classes may be confused with each other.

Jin, Wang, Long, Wang, Minimum Class Confusion for Versatile Domain Adaptation, ECCV 2020,
https://arxiv.org/abs/1912.03699, equations 2 to 6: P = softmax(Z / T); row weights W_i = n (1 + exp(-H_i)) / sum (1 +
exp(-H)), detached; C = P^T diag(W) P; C'_jk = C_jk / sum_l C_jl; loss = 1/K sum_{j != k} C'_jk. A batch should have at
least as many target rows as there are classes: with fewer, absent classes say nothing. Where the target's class shares
pi are given, class j weighs pi_j instead of 1/K: the row of a class that is rare is made of what leaks into it, and
emptying it at full weight draws rows of other classes there; this is ours, not the paper's.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from isthmus.adapt import Method, MethodConfig, Model, Shape
from isthmus.adapt.predictions import entropy, full_precision, probabilities, source_loss
from isthmus.data.batch import Batch

_TINY = 1e-12  # a class that no row has any probability for divides by this instead of zero


class Config(MethodConfig):
    """Options of MCC."""

    weight: float = Field(1.0, ge=0, description="of the confusion")
    temperature: float = Field(2.5, gt=0, description="T, softens the target's predictions")

    def build(self, shape: Shape) -> Method:
        """Returns the method."""
        return Adaptation(self.weight, self.temperature, shape.prior)


class Adaptation(Method):
    """Source cross-entropy plus the class confusion of the target's predictions."""

    optimises: ClassVar[frozenset[str]] = frozenset({"entropy", "information_maximisation", "bnm"})

    def __init__(self, weight: float, temperature: float, prior: Tensor | None = None) -> None:
        super().__init__()
        self.weight = weight
        self.prior: Tensor | None
        self.register_buffer("prior", prior, persistent=False)
        self.temperature = temperature

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns source cross-entropy and class confusion."""
        source, target = model(batch.inputs, batch.domains).split(batch.source_count)
        return {
            "source": source_loss(source.logits, batch),
            "confusion": self.weight * class_confusion(target.logits, self.temperature, self.prior),
        }


def class_confusion(logits: Tensor, temperature: float, prior: Tensor | None = None) -> Tensor:
    """Returns the mean share of each class's weight that goes to other classes, a scalar in [0, 1].

    Args:
        logits: of the target, `[N, K]`.
        temperature: T.
        prior: `[K]`, the target's class shares, sum 1; None: all alike.
    """
    with torch.autocast(logits.device.type, enabled=False):
        softened = full_precision(logits) / temperature
        shares = probabilities(softened)
        certainty = 1.0 + torch.exp(-entropy(softened.detach()))
        weights = len(shares) * certainty / certainty.sum()
        confusion = (shares * weights[:, None]).T @ shares
        rows = confusion / confusion.sum(1, keepdim=True).clamp_min(_TINY)
        if prior is not None:
            return (prior.to(rows.dtype) * (rows.sum(1) - rows.diagonal())).sum()
        return (rows.sum() - rows.diagonal().sum()) / len(rows)
