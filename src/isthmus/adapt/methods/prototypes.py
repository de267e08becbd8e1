"""prototypes: each class is the mean direction of its features, of the source and of labelled target images.

Snell, Swersky, Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017, https://arxiv.org/abs/1703.05175,
equation 1, with cosines in the place of distances, as Qi, Brown, Lowe, Low-Shot Learning with Imprinted Weights, CVPR
2018, https://arxiv.org/abs/1712.07136, set a head: p_k = (m_k + n_k) / 2, m_k the mean of the unit features of source
rows of class k, n_k of labelled target rows; where a class has no labelled target image p_k = m_k. The bottleneck
trains with the cross-entropy of labelled rows; after each epoch the head is set to the prototypes.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from isthmus.adapt import Method, MethodConfig, Model, Session, Shape
from isthmus.adapt.cosine import set_head
from isthmus.adapt.predictions import full_precision, source_loss
from isthmus.data.batch import Batch


class Config(MethodConfig):
    """prototypes has no options of its own."""

    def build(self, shape: Shape) -> Method:
        """Returns the method."""
        return Adaptation(shape.classes, shape.sources)


class Adaptation(Method):
    """Cross-entropy of labelled rows; the head are prototypes."""

    optimises: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, classes: int, sources: int) -> None:
        super().__init__()
        self.classes, self.sources = classes, sources

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns the cross-entropy of the labelled rows."""
        rows = slice(0, batch.source_count)
        return {"source": source_loss(model(batch.inputs[rows], batch.domains[rows]).logits, batch)}

    def fit(self, session: Session) -> None:
        """Trains as the shared loop does, and sets the head at the end of each epoch."""
        for _ in session.epochs():
            for batch in session.batches():
                session.step(self.losses(session.model, batch, session.progress))
            self.set_prototypes(session)

    @torch.no_grad()
    def set_prototypes(self, session: Session) -> None:
        """Sets the head to the prototypes of all labelled training rows."""
        model = session.model
        model.train(False)
        parts = [(model(b.inputs, b.domains).features, b.labels, b.domains) for b in session.labelled_batches()]
        model.train(True)
        features, labels, domains = (torch.cat(part) for part in zip(*parts, strict=True))
        found = prototypes(features, labels, domains == self.sources, self.classes)
        set_head(model, found, features.norm(dim=1).mean())


def prototypes(features: Tensor, labels: Tensor, target: Tensor, classes: int) -> Tensor:
    """Returns p_k of each class, `[K, B]`.

    Args:
        features: `[N, B]`.
        labels: int64 `[N]`.
        target: bool `[N]`, whether a row is of the target.
        classes: K.
    """
    rows = functional.normalize(full_precision(features), dim=1)
    shares = functional.one_hot(labels, classes).to(rows.dtype)
    means = []
    for of_domain in (~target, target):
        own = shares * of_domain[:, None]
        means.append(own.T @ rows / own.sum(0).clamp_min(1)[:, None])
    source, few = means
    return torch.where(few.any(1, keepdim=True), (source + few) / 2, source)
