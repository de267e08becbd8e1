"""A head that compares directions: logits are cosines to one direction a class, over a temperature.

Chen, Liu, Kira, Wang, Huang, A Closer Look at Few-shot Classification, ICLR 2019, https://arxiv.org/abs/1904.04232,
section 3.2 (Baseline++). A kept model has a linear head, which knows no length of a row: it gets the directions divided
by the mean length of features, so that each row's likeliest class is that of the cosines.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from isthmus.adapt import Model
from isthmus.adapt.predictions import full_precision

TEMPERATURE = 0.05  # of MME's paper


def cosine_logits(features: Tensor, model: Model) -> Tensor:
    """Returns the cosines of features `[N, B]` to the head's weights, over the temperature, `[N, K]`."""
    both = (features, linear_head(model).weight)
    rows, classes = (functional.normalize(full_precision(values), dim=1) for values in both)
    return rows @ classes.T / TEMPERATURE


@torch.no_grad()
def set_head(model: Model, directions: Tensor, length: Tensor) -> None:
    """Gives the model's linear head directions `[K, B]`, scaled for features whose mean length is `length`."""
    unit = functional.normalize(full_precision(directions), dim=1)
    head = linear_head(model)
    head.weight.copy_(unit / (TEMPERATURE * length.clamp_min(1e-6)))
    head.bias.zero_()


def linear_head(model: Model) -> nn.Linear:
    """Returns the model's head, which is linear in every model that trains."""
    assert isinstance(model.head, nn.Linear)
    return model.head
