"""A teacher: a copy of the model whose weights follow the student's as an exponential moving average.

Tarvainen and Valpola, Mean Teachers Are Better Role Models, NeurIPS 2017, https://arxiv.org/abs/1703.01780, equation 2:
theta'_t = a theta'_{t-1} + (1 - a) theta_t.
"""

import copy

import torch
from torch import Tensor, nn

from isthmus.adapt import Model
from isthmus.adapt.predictions import probabilities


class Teacher(nn.Module):
    """Holds the copy from `begin` on; its tensors are in the state of the method that holds it.

    Args:
        decay: a. In the first steps it is min(a, 1 - 1/(t+1)), so that a random start is forgotten at once.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.network: nn.Module | None = None
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def begin(self, model: Model) -> None:
        """Copies the model, unless that was done before. Call it before a checkpoint is taken back."""
        if self.network is None:
            assert isinstance(model, nn.Module)
            self.network = copy.deepcopy(model).requires_grad_(False)
            self.steps = self.steps.to(next(model.parameters()).device)

    @torch.no_grad()
    def follow(self, model: Model) -> None:
        """Moves every weight towards the student's; buffers (BatchNorm statistics) are taken over as they are."""
        self.begin(model)
        assert self.network is not None
        decay = min(self.decay, 1.0 - 1.0 / (int(self.steps) + 1))
        for own, other in zip(self.network.parameters(), model.parameters(), strict=True):
            own.lerp_(other, 1.0 - decay)
        buffers = dict(model.named_buffers())  # not the state, which lacks tables that a network computes for itself
        for name, buffer in self.network.named_buffers():
            buffer.copy_(buffers[name])
        self.steps += 1

    @torch.no_grad()
    def pseudo_labels(self, model: Model, inputs: Tensor, domains: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the teacher's confidence, float32 `[N]` in [0, 1], and class, int64 `[N]`, of each row."""
        self.begin(model)
        assert self.network is not None
        self.network.eval()  # the loop switches all of the method to training; a teacher answers as it would be served
        confidence, labels = probabilities(self.network(inputs, domains).logits).max(1)
        return confidence, labels
