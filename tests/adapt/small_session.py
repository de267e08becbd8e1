"""Small real parts for tests of methods: arrays, a classifier and the training session itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.adapt import Method, Shape
from isthmus.core import plugins
from isthmus.data.batch import Batch
from isthmus.models import ModelConfig
from isthmus.models.classifier import Classifier, Encoder, Features, Standardise
from isthmus.training.data import TrainingData
from isthmus.training.loop import LoopSession, Plan, kept_epochs

CLASSES, WIDTH, INPUTS = 3, 6, 5


def trained_methods() -> list[str]:
    """Returns the methods that train a model; the others fill a memory."""
    return [
        n for n in plugins.names("adapt.methods") if plugins.load("adapt.methods", n).Adaptation.remembers != "target"
    ]


class Array:
    """Rows in memory, as `training.data.Inputs` wants them."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def take(self, positions: np.ndarray) -> np.ndarray:
        return self.values[positions]


class Tokens(nn.Module):
    """The least network with a LayerNorm: a linear map of the pixels, normed."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 8 * 8, INPUTS)
        self.norm = nn.LayerNorm(INPUTS)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.linear(images.flatten(1)))


def method(name: str, **options: object) -> Method:
    shape = Shape(CLASSES, WIDTH, 1, 40, 7)
    return plugins.load("adapt.methods", name).Config(**options).build(shape)


def classifier(*, images: bool = False, norm: str = "batch", network: nn.Module | None = None) -> Classifier:
    torch.manual_seed(1)
    wide = 3 if images else INPUTS
    standardise = Standardise(torch.zeros(2, wide), torch.ones(2, wide))
    backbone = Encoder(network or Tokens(), standardise) if images else Features(standardise)
    return Classifier(backbone, INPUTS, CLASSES, WIDTH, norm, 0)  # type: ignore[arg-type]


def data(*, images: bool = False, source: int = 40, target: int = 40, seed: int = 0) -> TrainingData:
    """Three classes around three points; the target is moved."""
    rng = np.random.default_rng(seed)
    count = source + target + 10
    labels = np.arange(count) % CLASSES
    is_target = (np.arange(count) >= source) & (np.arange(count) < source + target)
    rows = np.eye(CLASSES, INPUTS)[labels] * 3 + rng.normal(0, 0.5, (count, INPUTS)) + is_target[:, None] * 0.7
    values = rows.astype(np.float32)
    if images:
        values = np.clip(rows @ rng.normal(0, 20, (INPUTS, 8 * 8 * 3)) + 120, 0, 255).reshape(count, 8, 8, 3)
        values = values.astype(np.uint8)
    places = np.arange(count)
    seen = np.where(is_target, -1, labels).astype(np.int64)
    domains = is_target.astype(np.int64)
    train, val = places[:source], places[source + target :]
    return TrainingData(Array(values), domains, seen, [train], val, places[is_target], images, 0)


def session(
    built: Method,
    folder: Path,
    model: Classifier | None = None,
    given: TrainingData | None = None,
    epochs: int = 4,
    **changes: object,
) -> LoopSession:
    images = built.needs == "images"
    plan = Plan(epochs, kept_epochs(epochs, 2), 16, 3)
    of_plan = {name: changes.pop(name) for name in list(changes) if hasattr(plan, name)}
    config = ModelConfig(mode="full", backbone={}, **({"learning_rate": 0.01} | changes))
    return LoopSession(
        model or classifier(images=images),
        built,
        given or data(images=images),
        config,
        replace(plan, **of_plan),  # type: ignore[arg-type]  # tests give values by name
        torch.device("cpu"),
        folder,
        "test",
    )


def batch(source: int = 8, target: int = 8, *, images: bool = False, seed: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    shape = (source + target, 3, 8, 8) if images else (source + target, INPUTS)
    inputs = torch.rand(shape, generator=generator)
    inputs = (inputs * 255).to(torch.uint8) if images else inputs
    domains = torch.tensor([0] * source + [1] * target)
    return Batch(inputs, domains, torch.arange(source) % CLASSES, torch.arange(target), inputs[source:].flip(0))


def snapshot(part: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in part.named_parameters()}


def changed(before: dict[str, Tensor], part: nn.Module) -> set[str]:
    return {name for name, value in part.named_parameters() if not torch.equal(before[name], value)}


def logits(count: int, classes: int = CLASSES, seed: int = 0, scale: float = 2.0) -> Tensor:
    return torch.randn(count, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale
