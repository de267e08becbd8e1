"""RTN: the source's classifier is the target's plus a small residual; features and answers together are aligned.

Long, Zhu, Wang, Jordan, Unsupervised Domain Adaptation with Residual Transfer Networks, NIPS 2016,
https://arxiv.org/abs/1602.04433, equations 2 to 8: f_S = f_T + residual(f_T) on logits, the source's cross-entropy is
that of f_S, the entropy of f_T on the target is minimised, and the MMD of the fusion of features and logits of both
domains. The model's own head is f_T. Residual and fusion (a random map of the tensor product, Long et al., NeurIPS
2018, equation 6) are pytorch-adapt's layers. Differs: MMD is `distances.mk_mmd`, unbiased, on the fusion alone;
pytorch-adapt's takes its bandwidth from a median in which the zero diagonal counts and is NaN where all rows of the
source are alike. The residual begins as zero. Guard: pytorch-adapt's random map takes over the type of what it is
first given for good, so it is called in full precision only.
"""

from typing import ClassVar

import torch
from pydantic import Field
from pytorch_adapt.layers import PlusResidual, RandomizedDotProduct
from torch import Tensor, nn

from isthmus.adapt import Method, MethodConfig, Model, Shape
from isthmus.adapt.distances import mk_mmd
from isthmus.adapt.predictions import entropy, full_precision, source_loss
from isthmus.core.seeds import derive_seed
from isthmus.data.batch import Batch, Outputs


class Config(MethodConfig):
    """Options of RTN."""

    mmd_weight: float = Field(0.3, ge=0, description="of the MMD of the fusion; as in the paper")
    entropy_weight: float = Field(0.3, ge=0, description="of the target's entropy; as in the paper")
    hidden: int = Field(64, ge=1, description="width of the residual")
    random_width: int = Field(1024, ge=1, description="of the fusion")

    def build(self, shape: Shape) -> Method:
        """Returns the method with a residual and a random map for these sizes."""
        return Adaptation(self, shape.bottleneck, shape.classes, derive_seed(shape.seed, "residual"))


class Adaptation(Method):
    """Source cross-entropy through the residual, MMD of the fusion, entropy of the target."""

    optimises: ClassVar[frozenset[str]] = frozenset({"entropy", "information_maximisation", "bnm"})

    def __init__(self, config: Config, width: int, classes: int, seed: int) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            last = nn.Linear(config.hidden, classes)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.residual = PlusResidual(nn.Sequential(nn.Linear(classes, config.hidden), nn.ReLU(), last))
            self.fusion = RandomizedDotProduct([width, classes], config.random_width)

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns source cross-entropy, MMD and entropy."""
        source, target = model(batch.inputs, batch.domains).split(batch.source_count)
        with torch.autocast(batch.inputs.device.type, enabled=False):
            by_source = self.residual(full_precision(source.logits))
            apart = mk_mmd(self.fused(source), self.fused(target))
        return {
            "source": source_loss(by_source, batch),
            "mmd": self.config.mmd_weight * apart,
            "entropy": self.config.entropy_weight * entropy(target.logits).mean(),
        }

    def fused(self, outputs: Outputs) -> Tensor:
        """Returns the fusion of features and logits, `[N, random_width]`."""
        fusion: Tensor = self.fusion(full_precision(outputs.features), full_precision(outputs.logits))
        return fusion
