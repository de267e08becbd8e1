"""SimMIM: a vision transformer learns from images without labels, by saying what stood in patches it was not shown.

Xie, Zhang, Cao, Lin, Bao, Yao, Dai, Hu, SimMIM: A Simple Framework for Masked Image Modeling, CVPR 2022,
https://arxiv.org/abs/2111.09886, section 3: a learned token takes the place of each masked patch's embedding, and one
linear layer predicts pixels; L = ||y_M - x_M||_1 / Omega(x_M) over masked values alone, Omega their number. Differs:
the network starts from given weights instead of random ones; an image is moved by a few pixels and not cropped.
"""

import math
import time
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from isthmus.core.config import Config
from isthmus.core.device import DeviceName
from isthmus.core.errors import ConfigError
from isthmus.core.progress import log
from isthmus.core.seeds import derive_seed
from isthmus.data.augment.views import highest, weak_view
from isthmus.models.classifier import Standardise
from isthmus.models.recipe import Schedule
from isthmus.models.tokens import called
from isthmus.training.checkpoint import Checkpoint
from isthmus.training.data import Inputs
from isthmus.training.optim import rate_factor, weight_decay_groups

SECONDS_BETWEEN_CHECKPOINTS = 30.0
_CLIP = 5.0  # largest gradient norm; the authors'


class PretrainConfig(Config):
    """A section under `pretraining:`, named as its scenario. The paper's values but for rate and epochs."""

    weights: str = Field(
        "auto", description="where the network starts: as models: backbone.weights; random: from nothing"
    )
    domains: Literal["both", "source"] = Field(
        "both", description="source: no target image is used, so that source_only sees none"
    )
    epochs: int = Field(20, ge=1, description="of all training images of the domains")
    batch_size: int = Field(64, ge=1, description="[image]")
    learning_rate: float = Field(1e-4, gt=0, description="of AdamW")
    weight_decay: float = Field(0.05, ge=0, description="of AdamW")
    unit: int = Field(2, ge=1, description="side of a masked square [patch]; the paper's are 32 [pixel]")
    ratio: float = Field(0.6, gt=0, lt=1, description="of masked squares [share]")
    shift_pixels: int = Field(2, ge=0, description="images are shifted by up to this many [pixel]")
    threads: int = Field(2, ge=1, description="of the CPU")
    device: DeviceName = "auto"


class MaskedImages(nn.Module):
    """A timm vision transformer with a mask token and a linear decoder.

    Args:
        network: changed only in that its weights train.
        channels: C.
        seed: of token and decoder.

    Raises:
        ConfigError: the network is none that keeps its patches in a grid.
    """

    def __init__(self, network: nn.Module, channels: int, seed: int) -> None:
        super().__init__()
        if not (hasattr(network, "patch_embed") and hasattr(network, "forward_features")):
            raise ConfigError(
                "params.yaml: pretraining masks the patches of a vision transformer, and the scenario's model is none."
                " Allowed: models: backbone.name: timm with a vit_* architecture. Change the model, or drop the section"
            )
        vit: Any = network
        self.network = vit
        self.patch, self.channels = int(vit.patch_embed.patch_size[0]), channels
        width = int(vit.embed_dim)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.token = nn.Parameter(nn.init.trunc_normal_(torch.empty(width), std=0.02))
            self.decoder = nn.Linear(width, self.patch**2 * channels)

    def forward(self, pixels: Tensor, masks: Tensor) -> Tensor:
        """Returns predicted pixels `[N, C, H, W]` of normalised pixels of that shape.

        Args:
            pixels: float32.
            masks: bool `[N, H / patch, W / patch]`, True where the network must not look.
        """

        def hide(_: nn.Module, __: Any, embedded: Tensor) -> Tensor:
            return torch.where(masks[..., None], self.token.to(embedded.dtype), embedded)

        hook = self.network.patch_embed.register_forward_hook(hide)
        try:
            tokens = called(self.network, self.network.forward_features, pixels)[:, self.network.num_prefix_tokens :]
        finally:
            hook.remove()
        count, rows, columns = masks.shape
        grid = self.decoder(tokens).view(count, rows, columns, self.patch, self.patch, self.channels)
        predicted: Tensor = grid.permute(0, 5, 1, 3, 2, 4).reshape(pixels.shape)
        return predicted


def masked_l1(predicted: Tensor, pixels: Tensor, masks: Tensor) -> Tensor:
    """Returns the mean absolute difference over the masked pixels; arguments as of `MaskedImages`."""
    patch = pixels.shape[2] // masks.shape[1]
    hidden = masks.repeat_interleave(patch, 1).repeat_interleave(patch, 2)[:, None].to(pixels.dtype)
    return ((predicted - pixels).abs() * hidden).sum() / (hidden.sum() * pixels.shape[1])


def random_masks(count: int, rows: int, columns: int, unit: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Returns masks, bool `[count, rows, columns]` [patch]: of each image's squares of `unit` patches ceil(ratio n)."""
    high, wide = -(-rows // unit), -(-columns // unit)
    masked = math.ceil(ratio * high * wide)
    order = torch.rand(count, high * wide, generator=generator).argsort(1)
    chosen = torch.zeros(count, high * wide, dtype=torch.bool).scatter_(1, order[:, :masked], True)
    squares = chosen.view(count, high, wide)
    return squares.repeat_interleave(unit, 1).repeat_interleave(unit, 2)[:, :rows, :columns]


def pretrain(
    model: MaskedImages,
    standardise: Standardise,
    inputs: Inputs,
    rows: NDArray[np.int64],
    config: PretrainConfig,
    seed: int,
    device: torch.device,
    checkpoint: Checkpoint,
) -> list[float]:
    """Trains the model in place; returns the mean loss of each epoch. A run that was cut off ends in the same numbers.

    Args:
        model: on the device.
        standardise: of the network; its first domain stands for every image.
        inputs: images of the scenario.
        rows: places of those to learn from.
        config: of the run.
        seed: of masks, moves and order.
        device: where batches go.
        checkpoint: of this run.
    """
    optimiser = torch.optim.AdamW(weight_decay_groups(model, config.weight_decay), fused=True)
    losses: list[float] = []
    if saved := checkpoint.load():
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        losses = saved["losses"]
        log(f"pretrain: resumes after epoch {len(losses)} of {config.epochs}")
    told = time.monotonic()
    model.train()
    for epoch in range(len(losses) + 1, config.epochs + 1):
        steps = -(-len(rows) // config.batch_size)
        total = 0.0
        torch.manual_seed(derive_seed(seed, "epoch", epoch))  # of dropped paths, where `backbone.options` has them
        for step, (images, masks) in enumerate(_batches(model.patch, inputs, rows, config, seed, epoch)):
            share = rate_factor(((epoch - 1) * steps + step) / (config.epochs * steps), Schedule(warm_up=0.1))
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * share
            zeros = torch.zeros(len(images), dtype=torch.int64, device=device)
            pixels = standardise(images.to(device).float() / highest(images.dtype), zeros)
            hidden = masks.to(device)
            loss = masked_l1(model(pixels, hidden), pixels, hidden)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
            optimiser.step()
            total += float(loss.detach()) * len(images)
        losses.append(total / len(rows))
        log(f"pretrain: epoch {epoch}/{config.epochs}: loss {losses[-1]:.4g}")
        if time.monotonic() - told >= SECONDS_BETWEEN_CHECKPOINTS or epoch == config.epochs:
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "losses": losses}
            checkpoint.save(state)
            told = time.monotonic()
    return losses


def _batches(
    patch: int, inputs: Inputs, rows: NDArray[np.int64], config: PretrainConfig, seed: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields images and masks of one epoch; they depend on seed and epoch alone."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "masks", epoch))
    order = rows[torch.randperm(len(rows), generator=generator).numpy()]
    for start in range(0, len(order), config.batch_size):
        images = torch.from_numpy(inputs.take(order[start : start + config.batch_size])).permute(0, 3, 1, 2)
        moved = weak_view(images.contiguous(), config.shift_pixels, generator)
        height, width = (side // patch for side in images.shape[2:])
        yield moved, random_masks(len(images), height, width, config.unit, config.ratio, generator)
