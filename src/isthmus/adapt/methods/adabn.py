"""AdaBN: a source model whose BatchNorm statistics are re-estimated on the target.

Li, Wang, Shi, Liu, Hou, Revisiting Batch Normalization For Practical Domain Adaptation, ICLR 2017 workshop,
https://arxiv.org/abs/1603.04779, algorithm 1. Differs: only the bottleneck has a BatchNorm here (a vision transformer
has none); its statistics are those of all target training images at once, in float64, not averages over batches. The
kept model answers source images by them too: with `standardise` on, the domains agree in mean and std of the inputs
before.
"""

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from isthmus.adapt import Method, MethodConfig, Model, Session, Shape
from isthmus.adapt.predictions import source_loss
from isthmus.core.errors import ConfigError
from isthmus.data.batch import Batch


class Config(MethodConfig):
    """AdaBN has no options of its own."""

    def build(self, shape: Shape) -> Method:
        """Returns the method."""
        return Adaptation()


class Adaptation(Method):
    """Trains on source rows alone; `adapt` measures the target."""

    optimises: ClassVar[frozenset[str]] = frozenset()
    adapts: ClassVar[bool] = True

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns the cross-entropy of the source rows."""
        rows = slice(0, batch.source_count)
        outputs = model(batch.inputs[rows], batch.domains[rows])
        return {"source": source_loss(outputs.logits, batch)}

    def check(self, model: Model) -> None:
        """Refuses a model whose bottleneck has no BatchNorm."""
        _norm(model)

    def fit(self, session: Session) -> None:
        """Trains by the shared loop."""
        self.check(session.model)
        session.run_shared_loop()

    @torch.no_grad()
    def adapt(self, model: Model, target: Iterator[Batch]) -> None:
        """Sets mean and variance of the bottleneck's BatchNorm to those of its inputs on the target."""
        norm = _norm(model)
        seen: list[Tensor] = []
        hook = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].double()))
        model.train(False)
        for batch in target:
            model(batch.inputs, batch.domains)
        hook.remove()
        rows = torch.cat(seen)
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.copy_(rows.mean(0))
        norm.running_var.copy_(rows.var(0, correction=1 if len(rows) > 1 else 0))


def _norm(model: Model) -> nn.BatchNorm1d:
    found = [module for module in model.bottleneck.modules() if isinstance(module, nn.BatchNorm1d)]
    if not found:
        raise ConfigError(
            "params.yaml: methods: adabn measures BatchNorm, but the bottleneck of the scenario's model has none."
            " Allowed: models: norm: batch. Change the model, or drop the method"
        )
    return found[0]
