"""Attention maps of a trained classifier, apart from the stage: torch takes 2 s to import."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isthmus.core.progress import track
from isthmus.evaluation.explanation.attention_maps import explain
from isthmus.models.classifier import Mean
from isthmus.models.trained import TrainedClassifier

_BATCH = 4  # [image]: attention of all blocks is held at once


def network_of(model: TrainedClassifier) -> nn.Module | None:
    """Returns the one network that sees the pixels; None where each part of a mean has its own."""
    if model.encoder is not None:
        return model.encoder.network
    if isinstance(model.classifier, Mean):
        return None
    network: nn.Module = model.classifier.backbone.network  # type: ignore[assignment]
    return network


def maps_of(
    model: TrainedClassifier,
    network: nn.Module,
    pixels: NDArray[np.generic],
    predicted: NDArray[np.int64],
    domain: int,
) -> NDArray[np.float32]:
    """Returns rollout and Grad-CAM of prepared images `[N, H, W, C]`, float32 `[N, 2, rows, columns]`.

    Args:
        model: that answers.
        network: of the model, as `network_of` found it.
        pixels: of one domain.
        predicted: class of each image, which is explained.
        domain: number of the images' domain.
    """

    def answer(images: Tensor) -> Tensor:
        logits: Tensor = model(images, torch.full((len(images),), domain, dtype=torch.int64)).logits
        return logits

    images, classes = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2), torch.from_numpy(predicted)
    starts = range(0, len(images), _BATCH)
    found = []
    for start in track(starts, "explain", len(starts), "batch"):
        batch = slice(start, start + _BATCH)
        both = explain(network, answer, images[batch], classes[batch])
        found.append(torch.stack(both, dim=1).numpy())
    return np.concatenate(found).astype(np.float32)
