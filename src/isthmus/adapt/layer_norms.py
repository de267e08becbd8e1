"""Test-time training of LayerNorm's scale and shift, and nothing else.

A vision transformer has no BatchNorm: the published code of Tent looks for BatchNorm and finds no parameter in it. Niu
et al., Towards Stable Test-Time Adaptation in Dynamic Wild World, ICLR 2023, https://arxiv.org/abs/2302.12400, section
4, on why LayerNorm is the right one.
"""

import torch
from torch import Tensor, nn

from isthmus.adapt import Model
from isthmus.core.errors import ConfigError


class LayerNormTuner:
    """SGD over the affine parameters of every LayerNorm of a model; all others are frozen and stay as they are.

    The model answers in evaluation mode throughout: no BatchNorm statistic moves, no dropout blurs an entropy.

    Args:
        model: changed in place.
        rate: learning rate.
        momentum: of SGD.
    """

    def __init__(self, model: Model, rate: float, momentum: float) -> None:
        self._rate, self._momentum = rate, momentum
        model.train(False)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        self.parameters = layer_norm_parameters(model)
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        self._start = [parameter.detach().clone() for parameter in self.parameters]
        self._optimiser = self._fresh()

    def gradients(self, loss: Tensor) -> list[Tensor]:
        """Returns the gradient of a loss for each parameter; zeros for a norm that the loss does not reach."""
        found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters, found, strict=True)]

    def step(self, gradients: list[Tensor]) -> bool:
        """Does one step of SGD. A gradient that is not finite is left out; returns whether the step was done."""
        if not all(bool(gradient.isfinite().all()) for gradient in gradients):
            return False
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self._optimiser.step()
        return True

    @torch.no_grad()
    def reset(self) -> None:
        """Takes the parameters back to what they were at the start, and forgets the momentum."""
        for parameter, start in zip(self.parameters, self._start, strict=True):
            parameter.copy_(start)
            parameter.grad = None
        self._optimiser = self._fresh()

    def _fresh(self) -> torch.optim.SGD:
        return torch.optim.SGD(self.parameters, lr=self._rate, momentum=self._momentum)


def layer_norm_parameters(model: Model) -> list[nn.Parameter]:
    """Returns the scales and shifts of every LayerNorm, in the model's order."""
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    return [parameter for norm in norms for parameter in norm.parameters(recurse=False)]


def require_layer_norms(model: Model, method: str) -> None:
    """Refuses a model in which there is nothing to tune, before a training run is spent on it.

    Raises:
        ConfigError: the model has no LayerNorm with parameters.
    """
    if not layer_norm_parameters(model):
        raise ConfigError(
            f"params.yaml: methods: {method} tunes LayerNorm, but the scenario's model has none. Allowed: a vision"
            " transformer (models: backbone.name: timm), or norm: layer. Change the model, or drop the method"
        )
