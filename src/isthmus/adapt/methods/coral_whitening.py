"""CORAL in closed form: source features take the covariance of the target, then a head is trained on them.

Sun, Feng, Saenko, Return of Frustratingly Easy Domain Adaptation, AAAI 2016, https://arxiv.org/abs/1511.05547,
algorithm 1: C = cov(D) + r I for each domain, D_s* = D_s C_s^(-1/2) C_t^(1/2). Differs: means are matched as well, not
only where inputs were standardised; each source is mapped by its own covariance; when the backbone trains, the map is
measured again before each epoch. The kept model holds no map: it answers target images as the paper does, and source
images without recolouring, so its source accuracy is that of a model trained on other features than it is asked about.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from isthmus.adapt import Method, MethodConfig, Model, Session, Shape
from isthmus.adapt.distances import covariance
from isthmus.adapt.predictions import full_precision, source_loss
from isthmus.data.batch import Batch


class Config(MethodConfig):
    """Options of CORAL whitening."""

    ridge: float = Field(1.0, gt=0, description="r, added to each variance; inputs have variance 1 after standardise")

    def build(self, shape: Shape) -> Method:
        """Returns the method."""
        return Adaptation(self.ridge, shape.sources)


class Adaptation(Method):
    """Source cross-entropy on recoloured features; before `fit` has measured the maps, on the features themselves."""

    optimises: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, ridge: float, sources: int = 1) -> None:
        super().__init__()
        self.ridge, self.sources = ridge, sources
        self.maps: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns the cross-entropy of the recoloured source rows."""
        rows = slice(0, batch.source_count)
        features = self.recoloured(model.backbone(batch.inputs[rows], batch.domains[rows]), batch.domains[rows])
        logits = model.head(model.bottleneck(features))
        return {"source": source_loss(logits, batch)}

    def fit(self, session: Session) -> None:
        """Measures the maps, then trains; a checkpoint holds no map, since the same features give the same one."""
        trains = any(parameter.requires_grad for parameter in session.model.backbone.parameters())
        for _ in session.epochs():
            if trains or not self.maps:
                self.measure(session)
            for batch in session.batches():
                session.step(self.losses(session.model, batch, session.progress))

    @torch.no_grad()
    def measure(self, session: Session) -> None:
        """Computes for each source: its mean, the map `[D, D]` and the target's mean."""
        model = session.model
        model.train(False)
        target = torch.cat([model.backbone(b.inputs, b.domains) for b in session.target_batches()]).double()
        parts = [(model.backbone(b.inputs, b.domains), b.domains) for b in session.labelled_batches()]
        model.train(True)
        source, domains = (torch.cat(part) for part in zip(*parts, strict=True))
        for number in range(self.sources):  # labelled target rows have the target's covariance as they are
            rows = source[domains == number].double()
            mapping = recolouring(rows, target, self.ridge)
            self.maps[number] = (rows.mean(0).float(), mapping.float(), target.mean(0).float())

    def recoloured(self, features: Tensor, domains: Tensor) -> Tensor:
        """Returns source features `[S, D]` with the mean and covariance of the target."""
        mapped = features.clone()
        with torch.autocast(features.device.type, enabled=False):
            for number, (own, mapping, aim) in self.maps.items():
                rows = domains == number
                moved = full_precision(features[rows]) - own
                mapped[rows] = (moved @ mapping.to(moved.dtype) + aim).to(mapped.dtype)
        return mapped


def recolouring(source: Tensor, target: Tensor, ridge: float) -> Tensor:
    """Returns C_s^(-1/2) C_t^(1/2), `[D, D]`, of features `[m, D]` and `[n, D]` in float64.

    One row has no covariance: such a domain counts as white.
    """
    return _power(source, ridge, -0.5) @ _power(target, ridge, 0.5)


def _power(rows: Tensor, ridge: float, exponent: float) -> Tensor:
    identity = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    spread = covariance(rows) + ridge * identity if len(rows) > 1 else identity
    values, vectors = torch.linalg.eigh(spread)
    return vectors * values.clamp_min(ridge * 1e-6).pow(exponent) @ vectors.T
