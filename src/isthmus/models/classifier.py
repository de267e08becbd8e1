"""Pixels -> encoder -> bottleneck -> head, with standardisation by domain in between.

frozen: the encoder runs once, in `embed`; a classifier's inputs are features, standardised per domain.
full: the encoder is the classifier's backbone; its inputs are images, normalised per domain.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Self

import torch
from torch import Tensor, nn

from isthmus.core.accuracy import LEAST_PROBABILITY
from isthmus.core.device import Precision
from isthmus.data.batch import Outputs
from isthmus.models.patch_memory import PatchMemory, logits_of

_SCALE = {torch.uint8: 255.0, torch.uint16: 65535.0}


def in_unit_range(images: Tensor) -> Tensor:
    """Returns float32 values in [0, 1] of images in any dtype that `prepare` writes."""
    return images.float() / _SCALE.get(images.dtype, 1.0)


class Standardise(nn.Module):
    """Subtracts a mean and divides by a std that belong to each row's domain.

    Args:
        mean: float32 `[domains, F]`.
        std: float32 `[domains, F]`; values near zero are taken as one (a constant feature says nothing).
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", torch.where(std > 1e-6, std, torch.ones_like(std)).float())

    def forward(self, inputs: Tensor, domains: Tensor) -> Tensor:
        """Returns float32 of the shape of `inputs`: `[N, F]`, `[N, F, H, W]`, or `[N, T, F]` of an image's cells."""
        shape = (len(inputs), 1, -1) if inputs.dim() == 3 else (*inputs.shape[:2], *([1] * (inputs.dim() - 2)))
        return (inputs - self.mean[domains].view(shape)) / self.std[domains].view(shape)


class Encoder(nn.Module):
    """Raw pixels -> features: scales by dtype, normalises, runs the backbone's network.

    Attributes:
        run: how the network runs on pixels; here, or with its rows shared among processes (`training.devices`).
        dtype: of the network's weights, and of the pixels it is given.
    """

    def __init__(self, network: nn.Module, standardise: Standardise) -> None:
        super().__init__()
        self.dtype = torch.float32
        self.run: Callable[[nn.Module, Tensor], Tensor] = _here
        self.network = network
        self.standardise = standardise

    def forward(self, images: Tensor, domains: Tensor) -> Tensor:
        """Returns float32 `[N, D]` of images `[N, C, H, W]`, uint8, uint16 or float16 (values in [0, 1])."""
        found = self.run(self.network, self.pixels(images, domains))
        return found if self.dtype == torch.float32 else found.float()

    def pixels(self, images: Tensor, domains: Tensor) -> Tensor:
        """Returns images as the network takes them."""
        normalised: Tensor = self.standardise(in_unit_range(images), domains)
        return normalised if self.dtype == torch.float32 else normalised.to(self.dtype)

    def at(self, precision: Precision) -> Self:
        """Rounds the network, which no longer trains, to a precision in place; features stay float32.

        Whatever computes a frozen network's features runs the encoder as `embed` recorded it, so that features agree.
        """
        self.dtype = getattr(torch, precision)
        self.network.to(self.dtype)
        return self


class Features(nn.Module):
    """The frozen mode's backbone: features come from outside and are standardised only."""

    def __init__(self, standardise: Standardise) -> None:
        super().__init__()
        self.standardise = standardise

    def forward(self, features: Tensor, domains: Tensor) -> Tensor:
        """Returns float32 `[N, D]`, or `[N, T, D]` of an image's cells."""
        standardised: Tensor = self.standardise(features, domains)
        return standardised


class Classifier(nn.Module):
    """backbone -> bottleneck (Linear, norm, ReLU) -> head.

    Args:
        backbone: an `Encoder` or `Features`.
        feature_dim: D, width of the backbone's output.
        classes: K.
        width: B, of the bottleneck.
        norm: `batch`, or `layer` where batches are split over processes.
        seed: of the initial weights of bottleneck and head.
        linear: the head is on the backbone's features, without a bottleneck; `width` is then D.
        head: what stands on the backbone's features instead of a linear layer, without a bottleneck.

    Attributes:
        precision: type of the forward pass in training (autocast); None: float32.
        extents: of boxes, on the backbone's features of whole images; None: rows are no cells of boxes.
    """

    def __init__(
        self,
        backbone: Encoder | Features,
        feature_dim: int,
        classes: int,
        width: int,
        norm: Literal["batch", "layer"],
        seed: int,
        linear: bool = False,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        linear = linear or head is not None
        width = feature_dim if linear else width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.backbone: nn.Module = backbone
            self.bottleneck: nn.Module = nn.Identity()
            if not linear:
                self.bottleneck = nn.Sequential(
                    nn.Linear(feature_dim, width),
                    nn.BatchNorm1d(width) if norm == "batch" else nn.LayerNorm(width),
                    nn.ReLU(),
                )
            self.head: nn.Module = nn.Linear(width, classes) if head is None else head
        self.precision: torch.dtype | None = None
        self.extents: nn.Module | None = None

    def forward(self, inputs: Tensor, domains: Tensor) -> Outputs:
        """Returns features `[N, B]` and logits `[N, K]`, float32 also where `precision` names a shorter type.

        A shorter type is for training alone: what is scored and kept is computed as it will be served.
        A head that remembers good cells takes `[N, T, D]`, and answers where in an image a defect is too. Others answer
        for each cell with N * T rows, where inputs are `[N, T, D]` or images whose cells have features of their own;
        extents of boxes need that form, in which cells have a place.
        """
        if isinstance(self.head, PatchMemory):
            cells = self.backbone(inputs, domains)
            maps = self.head.maps(cells, domains)
            return Outputs(cells.mean(dim=1), logits_of(maps), maps=maps)
        with torch.autocast(inputs.device.type, self.precision, enabled=self.training and self.precision is not None):
            seen = self.backbone(inputs, domains)
            images, seen = seen, seen.flatten(0, -2)
            features = self.bottleneck(seen)
            logits = self.head(features)
        if self.training and self.precision is not None:
            return Outputs(features.float(), logits.float())
        extents = self.extents(images) if self.extents is not None and images.dim() == 3 else None
        return Outputs(features, logits, extents=extents)


class Mean(nn.Module):
    """Classifiers that answer together: probabilities averaged, embeddings of some of them side by side.

    Args:
        parts: classifiers of the same classes and domains.
        shown: places of those whose embeddings are returned.
    """

    def __init__(self, parts: Sequence[Classifier], shown: Sequence[int]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.shown = tuple(shown)

    def forward(self, inputs: Tensor, domains: Tensor) -> Outputs:
        """Returns features `[N, sum of B]`, logits `[N, K]`, logarithms of the mean probabilities, and mean extents."""
        outputs: list[Outputs] = [part(inputs, domains) for part in self.parts]
        mean = torch.stack([part.logits.double().softmax(dim=1) for part in outputs]).mean(dim=0)
        logits = mean.clamp_min(LEAST_PROBABILITY).log().float()
        extents = [part.extents for part in outputs if part.extents is not None]
        features = torch.cat([outputs[place].features for place in self.shown], dim=1)
        return Outputs(features, logits, extents=torch.stack(extents).mean(dim=0) if extents else None)


def _here(network: nn.Module, pixels: Tensor) -> Tensor:
    features: Tensor = network(pixels)
    return features


def same_for_all(values: Sequence[float], domains: int) -> Tensor:
    """Returns one row of statistics repeated for each domain, float32 `[domains, F]`."""
    return torch.tensor([list(values)] * domains, dtype=torch.float32)
