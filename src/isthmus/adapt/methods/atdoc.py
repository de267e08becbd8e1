"""ATDOC: each target row takes the class of its nearest neighbours among all target rows, kept in a memory.

Liang, Hu, Feng, Domain Adaptation with Auxiliary Target Domain-Oriented Classifier, CVPR 2021,
https://arxiv.org/abs/2007.04171, neighbourhood aggregation, equations 5 to 8: the memory holds for each target image
its features, scaled to length 1, and its sharpened prediction p^(1/T), normalised over the batch so that no class
swallows the others; a row's pseudo-label is the mean of its k neighbours', weighted by how certain it is, and the
weight of the loss rises with progress. The memory is pytorch-adapt's layer. Guards: there p^(1/T) underflows to 0/0
where no row of a batch has any probability for a class, and that NaN stays in the memory; k above the number of
images fails; its start depends on what was drawn before. Differs: the memory is written after the step.
"""

from typing import ClassVar

import torch
from pydantic import Field
from pytorch_adapt.layers import NeighborhoodAggregation
from torch import Tensor
from torch.nn import functional

from isthmus.adapt import Method, MethodConfig, Model, Shape
from isthmus.adapt.predictions import full_precision, source_loss
from isthmus.core.seeds import derive_seed
from isthmus.data.batch import Batch

_LEAST = 80.0  # exp(-80) is still a float32; a sharpened probability below it would be zero
_TINY = 1e-12


class Config(MethodConfig):
    """Options of ATDOC."""

    weight: float = Field(1.0, ge=0, description="of the pseudo-labels' cross-entropy at the end of training")
    neighbours: int = Field(5, ge=1, description="k; as in the paper")
    temperature: float = Field(0.5, gt=0, description="T, sharpens the stored predictions; as in the paper")

    def build(self, shape: Shape) -> Method:
        """Returns the method with a memory for these sizes."""
        return Adaptation(self, shape)


class Adaptation(Method):
    """Source cross-entropy plus that of pseudo-labels from neighbours."""

    # The loss makes neighbours agree, which is what these measure.
    optimises: ClassVar[frozenset[str]] = frozenset({"entropy", "snd", "class_clusters"})

    def __init__(self, config: Config, shape: Shape) -> None:
        super().__init__()
        self.weight, self.temperature = config.weight, config.temperature
        neighbours = max(1, min(config.neighbours, shape.target_count - 1))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(shape.seed, "memory"))
            self.memory = NeighborhoodAggregation(
                shape.target_count, shape.bottleneck, shape.classes, k=neighbours, T=config.temperature
            )
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []  # since the last step; empty whenever a checkpoint is made

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns source cross-entropy and that of the pseudo-labels."""
        source, target = model(batch.inputs, batch.domains).split(batch.source_count)
        features, logits = full_precision(target.features), full_precision(target.logits)
        with torch.autocast(batch.inputs.device.type, enabled=False):
            labels, shares = self.memory(features.detach(), idx=batch.target_index)
        self._seen.append((features.detach(), logits.detach(), batch.target_index))
        certainty = shares.max(1).values
        each = functional.cross_entropy(logits, labels, reduction="none")
        agreed = (certainty * each).sum() / certainty.sum().clamp_min(_TINY)
        return {"source": source_loss(source.logits, batch), "neighbours": self.weight * progress * agreed}

    @torch.no_grad()
    def after_step(self, model: Model, progress: float) -> None:
        """Writes the rows of the step into the memory, but for those that are not finite."""
        for features, logits, index in self._seen:
            good = features.isfinite().all(1) & logits.isfinite().all(1)
            if good.any():
                # softmax of these is the prediction again, less what would underflow
                kept = functional.log_softmax(logits[good], dim=1).clamp_min(-_LEAST * self.temperature)
                self.memory.update_memory(functional.normalize(features[good]), kept, index[good])
        self._seen.clear()
