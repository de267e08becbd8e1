"""How often trained classifiers are wrong on the same images, apart from the stage: torch takes 2 s to import."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.models.embedding import encode
from isthmus.models.trained import TrainedClassifier

_BATCH = 32  # [image]


@torch.no_grad()
def wrong_shares(
    models: dict[str, TrainedClassifier], images: NDArray[Any], domain: str, labels: NDArray[Any]
) -> dict[str, float]:
    """Returns the share of wrong answers of each model; a frozen backbone, the same for all, runs once.

    Args:
        models: of one scenario.
        images: prepared, `[N, H, W, C]`.
        domain: whose images they are.
        labels: classes `[N]`.
    """
    wrong = dict.fromkeys(models, 0)
    for start in range(0, len(images), _BATCH):
        batch, known = images[start : start + _BATCH], labels[start : start + _BATCH].astype(np.int64)
        first = next(iter(models.values()))
        seen = None if first.encoder is None else torch.from_numpy(encode(first.encoder, batch, torch.device("cpu")))
        for method, model in models.items():
            if seen is None:
                answers = model.predict_logits(batch, domain).argmax(axis=1)
            else:
                domains = torch.full((len(batch),), model.domains.index(domain), dtype=torch.int64)
                answers = model.classifier(seen, domains).logits.numpy().argmax(axis=1)
            wrong[method] += int((answers != known).sum())
    return {method: count / len(images) for method, count in wrong.items()}
