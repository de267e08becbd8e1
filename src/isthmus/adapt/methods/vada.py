"""VADA: features of both domains alike to a discriminator, and no boundary between classes where target rows lie dense.

Shu, Bui, Narui, Ermon, A DIRT-T Approach to Unsupervised Domain Adaptation, ICLR 2018,
https://arxiv.org/abs/1802.08735, equations 2 to 7: the conditional entropy of the target is minimised, and so is the
divergence KL(p(x) || p(x + r)) on both domains, r the direction of length epsilon in which it is largest (virtual
adversarial training, Miyato et al., https://arxiv.org/abs/1704.03976), found by pytorch-adapt's layer. Differs: the
backbone's features are perturbed, not the pixels: it means the same on cached features and on images and costs no pass
of the backbone; lengths are shares of the mean length of these rows; the domain loss rises with progress as `dann`'s
does. As in the paper, features minimise it under inverted labels: a reversed gradient fades where the discriminator is
sure. Guards, against pytorch-adapt 0.0.81: its loss compares answers under batch statistics with answers under running
statistics, which differ without any perturbation, so both are taken under running ones here; its search clears the
gradients of the model; its xi of 1e-6 is blurred by the rounding of float32.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from pydantic import Field
from pytorch_adapt.layers import VATLoss
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from isthmus.adapt import Method, MethodConfig, Model, Shape
from isthmus.adapt.layers import domain_discriminator, domain_loss
from isthmus.adapt.predictions import entropy, full_precision, probabilities, source_loss
from isthmus.adapt.schedules import grl_lambda
from isthmus.core.seeds import derive_seed
from isthmus.data.batch import Batch

_TINY = 1e-12
_PROBE = 1e-2  # length of the trial perturbation [share of the rows' mean length]


class Config(MethodConfig):
    """Options of VADA."""

    weight: float = Field(0.01, ge=0, description="lambda_d, of the domain loss; as in the paper")
    high: float = Field(1.0, ge=0, description="factor of the domain loss at the end of training")
    hidden: int = Field(256, ge=1, description="width of the discriminator")
    source_weight: float = Field(1.0, ge=0, description="lambda_s, of the source's divergence; as in the paper")
    target_weight: float = Field(
        0.01, ge=0, description="lambda_t, of the target's entropy and divergence; the paper's"
    )
    radius: float = Field(0.1, gt=0, description="epsilon [share of the mean length of the backbone's features]")
    iterations: int = Field(1, ge=1, description="of the search for the direction; as in the paper")

    def build(self, shape: Shape) -> Method:
        """Returns the method with a discriminator for these sizes."""
        return Adaptation(self, shape.bottleneck, derive_seed(shape.seed, "discriminator"))


class Adaptation(Method):
    """Source cross-entropy, domain loss, entropy of the target, and divergence under perturbations."""

    optimises: ClassVar[frozenset[str]] = frozenset({"entropy", "information_maximisation", "bnm"})

    def __init__(self, config: Config, width: int, seed: int) -> None:
        super().__init__()
        self.config = config
        self.discriminator = domain_discriminator(width, config.hidden, seed)
        self.search = VATLoss(num_power_iterations=config.iterations, xi=_PROBE, epsilon=config.radius)

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns source cross-entropy, the discriminator's loss and that of the features, entropy and divergence."""
        count = batch.source_count
        with _given_to(model.bottleneck) as given:
            outputs = model(batch.inputs, batch.domains)
        source, target = outputs.split(count)
        told = full_precision(self.discriminator(outputs.features.detach()).squeeze(1))
        fixed = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        fooled = full_precision(functional_call(self.discriminator, fixed, (outputs.features,)).squeeze(1))
        with torch.autocast(batch.inputs.device.type, enabled=False):
            each = self.divergence(model, full_precision(given[0]))
        return {
            "source": source_loss(source.logits, batch),
            "discriminator": domain_loss(told, count),
            # of logits turned round: the loss under inverted labels
            "domain": self.config.weight * grl_lambda(progress, self.config.high) * domain_loss(-fooled, count),
            "entropy": self.config.target_weight * entropy(target.logits).mean(),
            "source_divergence": self.config.source_weight * each[:count].mean(),
            "target_divergence": self.config.target_weight * each[count:].mean(),
        }

    def divergence(self, model: Model, rows: Tensor) -> Tensor:
        """Returns KL(p(x) || p(x + r)) of each row `[N, D]` of the backbone's features, `[N]` [nat]."""
        length = torch.linalg.vector_norm(rows.detach(), dim=1).mean().clamp_min(_TINY)
        with _evaluating(model.bottleneck, model.head):
            with torch.no_grad():
                clean = full_precision(model.head(model.bottleneck(rows)))
            fixed = _Answers(lambda units: _with_fixed_weights(model, units * length))
            away: Tensor = self.search.get_perturbation(rows.detach() / length, clean, fixed)
            moved = full_precision(model.head(model.bottleneck(rows + away * length)))
        each = functional.kl_div(functional.log_softmax(moved, dim=1), probabilities(clean), reduction="none")
        return each.sum(1)


class _Answers(nn.Module):
    """What the search takes for a model; it has no parameters whose gradients could be cleared."""

    def __init__(self, answer: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, rows: Tensor) -> Tensor:
        return self.answer(rows)


def _with_fixed_weights(model: Model, rows: Tensor) -> Tensor:
    """Returns the logits of the backbone's features; the search's backward pass reaches no weight."""
    for part in (model.bottleneck, model.head):
        rows = functional_call(part, {name: weight.detach() for name, weight in part.named_parameters()}, (rows,))
    return full_precision(rows)


@contextmanager
def _given_to(part: nn.Module) -> Iterator[list[Tensor]]:
    """Yields a list that receives what a part of the model is called with."""
    given: list[Tensor] = []

    def keep(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        given.append(arguments[0])

    handle = part.register_forward_pre_hook(keep)
    try:
        yield given
    finally:
        handle.remove()


@contextmanager
def _evaluating(*parts: nn.Module) -> Iterator[None]:
    """Switches parts to evaluation, and each of their modules back to what it was."""
    before = [(module, module.training) for part in parts for module in part.modules()]
    for part in parts:
        part.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
