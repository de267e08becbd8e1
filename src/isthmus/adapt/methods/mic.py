"""MIC: the student must name a target image from what masked patches leave of it, as a teacher does from the whole.

Hoyer, Dai, Wang, Van Gool, MIC: Masked Image Consistency for Context-Enhanced Domain Adaptation, CVPR 2023,
https://arxiv.org/abs/2212.01322, equations 4 to 8: M = [u > r] patch by patch, loss = q CE(argmax p, student(M x)), p
the EMA teacher's on the whole image, q its confidence. Differs: used alone and not on top of an adversarial method;
masked pixels take the image's own mean colour (nearly zero after normalisation, as there); patches are square blocks of
`patch` pixels, a multiple of the transformer's own where possible.
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
    """Options of MIC."""

    weight: float = Field(1.0, ge=0, description="of the consistency loss")
    ratio: float = Field(0.7, ge=0, lt=1, description="r, masked patches [share]")
    patch: int = Field(28, ge=1, description="side of a masked block [pixel]; at most half of the image's side")
    decay: float = Field(0.99, ge=0, lt=1, description="of the teacher's moving average; 0.999 for long runs")

    def build(self, shape: Shape) -> Method:
        """Returns the method."""
        return Adaptation(self.weight, self.ratio, self.patch, self.decay)


class Adaptation(Method):
    """Source cross-entropy plus consistency of masked target images with the teacher."""

    needs: ClassVar[Literal["features", "images"]] = "images"
    optimises: ClassVar[frozenset[str]] = frozenset({"entropy"})

    def __init__(self, weight: float, ratio: float, patch: int, decay: float) -> None:
        super().__init__()
        self.weight, self.ratio, self.patch = weight, ratio, patch
        self.teacher = Teacher(decay)

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns source cross-entropy and consistency, from one forward over source and masked target."""
        count = batch.source_count
        target = batch.inputs[count:]
        quality, labels = self.teacher.pseudo_labels(model, target, batch.domains[count:])
        inputs = torch.cat([batch.inputs[:count], masked(target, self.patch, self.ratio)])
        source, hidden = model(inputs, batch.domains).split(count)
        each = functional.cross_entropy(full_precision(hidden.logits), labels, reduction="none")
        return {
            "source": source_loss(source.logits, batch),
            "consistency": self.weight * (quality * each).mean(),
        }

    def after_step(self, model: Model, progress: float) -> None:
        """Lets the teacher follow."""
        self.teacher.follow(model)

    def fit(self, session: Session) -> None:
        """Trains by the shared loop; the teacher must exist before a checkpoint is taken back."""
        self.teacher.begin(session.model)
        session.run_shared_loop()


def masked(images: Tensor, patch: int, ratio: float) -> Tensor:
    """Returns images `[N, C, H, W]` of the same dtype with blocks replaced by the image's mean, channel by channel.

    Draws from torch's global generator, which the loop seeds for each epoch.

    Args:
        images: uint8, uint16 or float.
        patch: side of a block [pixel].
        ratio: chance of each block to be masked [share].
    """
    height, width = images.shape[2:]
    side = min(patch, max(1, min(height, width) // 2))
    grid = torch.rand(len(images), 1, -(-height // side), -(-width // side)) >= ratio
    kept = grid.repeat_interleave(side, 2).repeat_interleave(side, 3)[:, :, :height, :width].to(images.device)
    values = images.float()
    return torch.where(kept, values, values.mean(dim=(2, 3), keepdim=True)).to(images.dtype)
