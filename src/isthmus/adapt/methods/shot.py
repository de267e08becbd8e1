"""SHOT: the head of a source model stays, the encoder learns to serve it the target. Source-free.

Liang, Hu, Feng, Do We Really Need to Access the Source Data? Source Hypothesis Transfer for Unsupervised Domain
Adaptation, ICML 2020, https://arxiv.org/abs/2002.08546. Phase one: source cross-entropy with label smoothing 0.1
(equation 1) and a weight-normed head, W_k = g_k v_k / ||v_k||. Phase two: the head is frozen, no source row is used;
the loss is the mean entropy minus the entropy of the mean prediction (IM, equations 3 and 4) plus b times the
cross-entropy with pseudo-labels (equation 7), which are recomputed before each epoch from class centroids under the
cosine distance (equations 5 and 6; features are extended by a one, as in the authors' code). Each phase has
all the model's epochs and a learning-rate schedule of its own, as the authors' two programs have. Differs: AdamW keeps
its moments from phase one; the bottleneck ends in a ReLU, without which it lost 11 points on six real pairs
(docs/log.md); no pseudo-label is of a class that the model never predicts; where the target's class shares are
given, the mean prediction is drawn to them and not to equal ones (see `predictions.diversity`).
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from isthmus.adapt import Method, MethodConfig, Model, Session, Shape
from isthmus.adapt.alternating import require_encoder
from isthmus.adapt.predictions import diversity, entropy, full_precision, probabilities, source_loss
from isthmus.core.seeds import derive_seed
from isthmus.data.batch import Batch

_TINY = 1e-8  # class weights and row norms that divide


class Config(MethodConfig):
    """Options of SHOT."""

    smoothing: float = Field(
        0.1, ge=0, lt=1, description="of the source labels; models: label_smoothing is applied before it"
    )
    im_weight: float = Field(1.0, ge=0, description="of the information-maximisation loss")
    pseudo_weight: float = Field(0.3, ge=0, description="b, of the cross-entropy with pseudo-labels")
    rounds: int = Field(2, ge=1, description="of centroids; the first is weighted by probabilities")

    def build(self, shape: Shape) -> Method:
        """Returns the method with the head's direction and length."""
        weights = (self.smoothing, self.im_weight, self.pseudo_weight)
        seed = derive_seed(shape.seed, "weight-normed head")
        sizes = (shape.bottleneck, shape.classes)
        return Adaptation(*sizes, *weights, self.rounds, seed, shape.prior)


class Adaptation(Method):
    """Phase one trains the source model, phase two its encoder on target images alone."""

    optimises: ClassVar[frozenset[str]] = frozenset({"entropy", "information_maximisation", "bnm"})
    phases: ClassVar[int] = 2

    def __init__(
        self,
        width: int,
        classes: int,
        smoothing: float,
        im_weight: float,
        pseudo_weight: float,
        rounds: int,
        seed: int,
        prior: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.prior: Tensor | None
        self.register_buffer("prior", prior, persistent=False)
        self.smoothing, self.rounds = smoothing, rounds
        self.im_weight, self.pseudo_weight = im_weight, pseudo_weight
        generator = torch.Generator().manual_seed(seed)
        start = (2.0 * torch.rand(classes, width, generator=generator) - 1.0) / width**0.5
        self.direction = nn.Parameter(start)
        self.length = nn.Parameter(torch.linalg.vector_norm(start, dim=1, keepdim=True))

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns phase one's loss; the weight-normed head stands in for the model's, which `after_step` renews."""
        rows = slice(0, batch.source_count)
        features = model(batch.inputs[rows], batch.domains[rows]).features
        logits = functional.linear(features, self.weight(), _bias(model))
        return {"source": source_loss(logits, batch, self.smoothing)}

    @torch.no_grad()
    def after_step(self, model: Model, progress: float) -> None:
        """Gives the model's own head the weight-normed weight, so that it predicts and is kept like any other."""
        model.head.weight.copy_(self.weight())  # type: ignore[operator]

    def weight(self) -> Tensor:
        """Returns W, `[K, B]`, each row's direction and length apart."""
        return self.length * functional.normalize(self.direction, dim=1)

    def check(self, model: Model) -> None:
        """Refuses a model in which nothing trains before the head."""
        require_encoder(model, "shot")

    def fit(self, session: Session) -> None:
        """Trains both phases. Which one an epoch belongs to depends on progress alone, so a resumed run agrees."""
        self.check(session.model)
        for _ in session.epochs():
            if session.progress < 1 / self.phases:
                for batch in session.batches():
                    session.step(self.losses(session.model, batch, session.progress))
            else:
                labels = self.pseudo_labels(session)
                for batch in session.batches():
                    session.step(self.target_losses(session.model, batch, labels[batch.target_index]))

    def target_losses(self, model: Model, batch: Batch, labels: Tensor) -> dict[str, Tensor]:
        """Returns phase two's losses from the target rows; no gradient reaches the head.

        Args:
            model: source encoder and head.
            batch: its source rows are not looked at.
            labels: int64 `[T]`, pseudo-labels of the target rows.
        """
        rows = slice(batch.source_count, None)
        features = model(batch.inputs[rows], batch.domains[rows]).features
        weight = model.head.weight.detach()  # type: ignore[operator]
        logits = functional.linear(features, weight, _bias(model).detach())
        return {
            "information": self.im_weight * (entropy(logits).mean() - diversity(logits, self.prior)),
            "pseudo": self.pseudo_weight * functional.cross_entropy(full_precision(logits), labels),
        }

    @torch.no_grad()
    def pseudo_labels(self, session: Session) -> Tensor:
        """Returns a class for each target training image, int64 `[n]`, from the present model."""
        model = session.model
        model.train(False)
        outputs = [model(batch.inputs, batch.domains) for batch in session.target_batches()]
        model.train(True)
        features = torch.cat([part.features for part in outputs])
        return centroid_labels(features, torch.cat([part.logits for part in outputs]), self.rounds)


def centroid_labels(features: Tensor, logits: Tensor, rounds: int) -> Tensor:
    """Returns for each row the class whose centroid is nearest under the cosine distance.

    Args:
        features: `[n, B]`.
        logits: `[n, K]`; their probabilities weigh the first centroids, their classes say which may be given.
        rounds: how often centroids are made; from the second on, of the labels of the round before.
    """
    extended = functional.pad(full_precision(features), (0, 1), value=1.0)
    rows = functional.normalize(extended, dim=1, eps=_TINY)
    shares = probabilities(logits).to(rows.dtype)
    given = functional.one_hot(shares.argmax(1), shares.shape[1]).any(0)
    for _ in range(rounds):
        centroids = shares.T @ rows / (shares.sum(0)[:, None] + _TINY)
        nearness = rows @ functional.normalize(centroids, dim=1, eps=_TINY).T
        labels = nearness.masked_fill(~given, -torch.inf).argmax(1)
        shares = functional.one_hot(labels, shares.shape[1]).to(rows.dtype)
    return labels


def _bias(model: Model) -> Tensor:
    bias: Tensor = model.head.bias  # type: ignore[assignment]
    return bias
