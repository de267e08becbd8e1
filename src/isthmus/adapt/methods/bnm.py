"""BNM: maximises the nuclear norm of the target's prediction matrix, so that predictions are confident and diverse.

Cui et al., Towards Discriminability and Diversity: Batch Nuclear-norm Maximization under Label Insufficient Situations,
CVPR 2020, https://arxiv.org/abs/2003.12237, equation 10: loss = -||P||_* / n. Differs in arithmetic only: singular
values are taken in float32 also under autocast (bfloat16 has no decomposition). A batch should have at least as many
target rows as there are classes. Where the target's class shares pi are given, column k counts sqrt(K pi_k): of certain
rows the norm is sum_k sqrt(K pi_k n_k) / n, which is largest where n_k = pi_k n, as the paper's is where all n_k are
alike; this is ours, not the paper's.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from isthmus.adapt import Method, MethodConfig, Model, Shape
from isthmus.adapt.predictions import probabilities, source_loss
from isthmus.data.batch import Batch


class Config(MethodConfig):
    """Options of BNM."""

    weight: float = Field(1.0, ge=0, description="of the nuclear norm")

    def build(self, shape: Shape) -> Method:
        """Returns the method."""
        return Adaptation(self.weight, shape.prior)


class Adaptation(Method):
    """Source cross-entropy minus the nuclear norm of the target's predictions."""

    optimises: ClassVar[frozenset[str]] = frozenset({"entropy", "information_maximisation", "bnm"})

    def __init__(self, weight: float, prior: Tensor | None = None) -> None:
        super().__init__()
        self.weight = weight
        self.prior: Tensor | None
        self.register_buffer("prior", prior, persistent=False)

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns source cross-entropy and the negative nuclear norm."""
        source, target = model(batch.inputs, batch.domains).split(batch.source_count)
        return {
            "source": source_loss(source.logits, batch),
            "nuclear": -self.weight * nuclear_norm(target.logits, self.prior),
        }


def nuclear_norm(logits: Tensor, prior: Tensor | None = None) -> Tensor:
    """Returns the sum of the singular values of the probabilities of logits `[N, K]`, over N.

    Args:
        logits: of the target, `[N, K]`.
        prior: `[K]`, the target's class shares, sum 1; None: all alike.
    """
    with torch.autocast(logits.device.type, enabled=False):
        shares = probabilities(logits)
        if prior is not None:
            shares = shares * (len(prior) * prior.to(shares.dtype)).sqrt()
        # svdvals' gradient is U V^T: finite also where singular values coincide or vanish (all rows alike)
        norm: Tensor = torch.linalg.svdvals(shares).sum() / len(shares)
        return norm
