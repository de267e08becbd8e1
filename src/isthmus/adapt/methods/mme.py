"""MME: the head raises the entropy of target predictions, the encoder lowers it. Semi-supervised.

Saito, Kim, Sclaroff, Darrell, Saenko, Semi-supervised Domain Adaptation via Minimax Entropy, ICCV 2019,
https://arxiv.org/abs/1904.06487, equations 1 to 4: logits are W f / (T ||f||); L is the cross-entropy of labelled rows,
of the source and of the target; the encoder minimises L + lambda H, the head L - lambda H, H the mean entropy of
unlabelled target rows; lambda 0.1, T 0.05. One backward pass: the gradient of H is reversed before the features, as in
the authors' code. Differs: rows of W count by their direction alone, and the labelled target rows are among the
unlabelled ones too. Without labels of the target it runs as an unsupervised method.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from isthmus.adapt import Method, MethodConfig, Model, Shape
from isthmus.adapt.cosine import cosine_logits, linear_head, set_head
from isthmus.adapt.layers import reverse_gradient
from isthmus.adapt.predictions import entropy, source_loss
from isthmus.data.batch import Batch


class Config(MethodConfig):
    """Options of MME."""

    weight: float = Field(0.1, ge=0, description="lambda, of the entropy")

    def build(self, shape: Shape) -> Method:
        """Returns the method."""
        return Adaptation(self.weight)


class Adaptation(Method):
    """Cross-entropy of labelled rows and minimax entropy of the target, both of cosines."""

    optimises: ClassVar[frozenset[str]] = frozenset({"entropy", "information_maximisation", "bnm"})

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.length: Tensor
        self.register_buffer("length", torch.ones(()))

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns the labelled rows' cross-entropy and the negative entropy behind a reversal."""
        features = model(batch.inputs, batch.domains).features
        labelled, target = features.split([batch.source_count, len(batch.target_index)])
        self.length.copy_(features.detach().norm(dim=1).mean())
        reversed_target = reverse_gradient(target, 1.0)
        return {
            "source": source_loss(cosine_logits(labelled, model), batch),
            "entropy": -self.weight * entropy(cosine_logits(reversed_target, model)).mean(),
        }

    def after_step(self, model: Model, progress: float) -> None:
        """Scales the head, which changes no cosine, so that it predicts and is kept like any other."""
        set_head(model, linear_head(model).weight, self.length)
