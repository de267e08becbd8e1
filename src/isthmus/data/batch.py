"""What one training step sees and what a model answers. Target labels are here where a person gave some."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Batch:
    """Labelled rows first, target rows after them, so that an adapted method runs one forward over both.

    Labelled rows are the source's and, where a person labelled target images for training, some of those behind them: a
    method treats them like rows of the source, and `domains` tells them apart.

    Attributes:
        inputs: float32 features `[S+T, D]`, or uint8/uint16/float16 images `[S+T, C, H, W]` (the model scales
            and normalises them). T is 0 for a method that must not see the target.
        domains: int64 `[S+T]`, the domain's place in `Scenario.domains`; the target is the last.
        labels: int64 `[S]`, classes of the labelled rows.
        target_index: int64 `[T]`, place of each target row among the target's training images, for methods
            that keep pseudo-labels or memory banks.
        target_strong: like the target rows of `inputs`, strongly augmented; None unless the method asks for it.
        soft_labels: float32 `[S, K]`, what the source loss is taken against (label smoothing, mixed images, shares of
            a cell's pixels); None: `labels`.
        class_weights: float32 `[K]`, of the classes in the source loss; None: all alike.
        overlap: whether the source loss is of the classes' overlap too: rows are cells of masks or boxes.
    """

    inputs: Tensor
    domains: Tensor
    labels: Tensor
    target_index: Tensor
    target_strong: Tensor | None = None
    soft_labels: Tensor | None = None
    class_weights: Tensor | None = None
    overlap: bool = False

    @property
    def source_count(self) -> int:
        """S, the number of labelled rows."""
        return len(self.labels)

    def label_shares(self, classes: int) -> Tensor:
        """Returns the soft labels, or else the labels as one-hot rows, float32 `[S, K]`."""
        return functional.one_hot(self.labels, classes).float() if self.soft_labels is None else self.soft_labels

    def scored(self, rows: Tensor) -> "Batch":
        """Returns the batch with these of its labels alone, by a mask `[S]`."""
        soft = None if self.soft_labels is None else self.soft_labels[rows]
        return replace(self, labels=self.labels[rows], soft_labels=soft)

    def to(self, device: torch.device) -> "Batch":
        """Returns the batch on a device."""
        strong, soft, weights = (
            None if given is None else given.to(device)
            for given in (self.target_strong, self.soft_labels, self.class_weights)
        )
        return Batch(
            self.inputs.to(device),
            self.domains.to(device),
            self.labels.to(device),
            self.target_index.to(device),
            strong,
            soft,
            weights,
            self.overlap,
        )


def softened(batch: Batch, classes: int, smoothing: float) -> Batch:
    """Returns the batch with labels spread: (1 - smoothing) on the label and smoothing / K on each class.

    Szegedy et al., Rethinking the Inception Architecture, CVPR 2016, section 7.
    """
    shares = batch.label_shares(classes)
    spread = smoothing / classes * shares.sum(dim=1, keepdim=True)  # none where no pixel of a cell is scored
    return replace(batch, soft_labels=shares * (1.0 - smoothing) + spread)


@dataclass(frozen=True)
class Outputs:
    """What a classifier answers to a batch.

    Attributes:
        features: float32 `[N, B]`, after the bottleneck: what methods align.
        logits: float32 `[N, K]`.
        maps: float32 `[N, T]`, of each cell of an image, above 0 where it looks like a defect; None: not of this head.
        extents: float32 `[N, 4]`, where rows are cells of boxes of whole images (`models/extents.py`).
    """

    features: Tensor
    logits: Tensor
    maps: Tensor | None = None
    extents: Tensor | None = None

    def split(self, source_count: int) -> tuple["Outputs", "Outputs"]:
        """Returns source and target rows apart."""
        return (
            Outputs(self.features[:source_count], self.logits[:source_count]),
            Outputs(self.features[source_count:], self.logits[source_count:]),
        )
