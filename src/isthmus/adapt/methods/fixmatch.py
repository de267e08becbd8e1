"""FixMatch: where a teacher is sure of a target image, the student must say the same of a strong view of it.

Sohn et al., FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence, NeurIPS 2020,
https://arxiv.org/abs/2001.07685, equation 4: 1/T sum_t [max p_t >= tau] CE(argmax p_t, student(strong(x_t))). Differs:
p is an EMA teacher's (see `teachers`), not the student's, since under shift the student follows its own errors; tau is
0.9 instead of 0.95: transfer has fewer epochs. With no sure row the loss is zero. The paper's strong view is
RandAugment. Here it is that only where the model sets `augment: {randaugment: 2}`; else it changes brightness and
contrast and cuts out one square.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from isthmus.adapt import Method, MethodConfig, Model, Session, Shape
from isthmus.adapt.predictions import full_precision, source_loss
from isthmus.adapt.teachers import Teacher
from isthmus.data.batch import Batch


class Config(MethodConfig):
    """Options of FixMatch."""

    weight: float = Field(1.0, ge=0, description="of the consistency loss")
    threshold: float = Field(0.9, ge=0, le=1, description="tau, least confidence of a pseudo-label that is used")
    decay: float = Field(0.99, ge=0, lt=1, description="of the teacher's moving average; 0.999 for long runs")

    def build(self, shape: Shape) -> Method:
        """Returns the method."""
        return Adaptation(self.weight, self.threshold, self.decay)


class Adaptation(Method):
    """Source cross-entropy plus consistency of strong views with the teacher's sure answers."""

    needs: ClassVar[Literal["features", "images"]] = "images"
    optimises: ClassVar[frozenset[str]] = frozenset({"entropy"})
    strong_view: ClassVar[bool] = True

    def __init__(self, weight: float, threshold: float, decay: float) -> None:
        super().__init__()
        self.weight = weight
        self.threshold = threshold
        self.teacher = Teacher(decay)

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns source cross-entropy and consistency, from one forward over source, weak and strong views."""
        assert batch.target_strong is not None
        count, domains = batch.source_count, batch.domains[batch.source_count :]
        confidence, labels = self.teacher.pseudo_labels(model, batch.inputs[count:], domains)
        inputs = torch.cat([batch.inputs, batch.target_strong])
        source, target = model(inputs, torch.cat([batch.domains, domains])).split(count)
        strong = full_precision(target.logits[len(domains) :])
        each = functional.cross_entropy(strong, labels, reduction="none")
        return {
            "source": source_loss(source.logits, batch),
            "consistency": self.weight * (each * (confidence >= self.threshold)).mean(),
        }

    def after_step(self, model: Model, progress: float) -> None:
        """Lets the teacher follow."""
        self.teacher.follow(model)

    def fit(self, session: Session) -> None:
        """Trains by the shared loop; the teacher must exist before a checkpoint is taken back."""
        self.teacher.begin(session.model)
        session.run_shared_loop()
