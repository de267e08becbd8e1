"""Scores of a candidate model without target labels. One module a validator; the folder is the registry."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.config import Config


@dataclass(frozen=True)
class Trial:
    """One seed of one candidate (method, epoch), as far as it may be known without target labels.

    Attributes:
        source_logits: float32 `[S, K]`, source validation split.
        source_labels: int64 `[S]`.
        source_features: float32 `[S, B]`, after the bottleneck.
        target_logits: float32 `[T, K]`, target training split.
        target_features: float32 `[T, B]`.
        seeds_target_logits: float32 `[R, T, K]`, the same candidate under all seeds, this one among them.
        source_frozen: float64 `[S, D]`, features of the backbone before any method trained, each domain standardised
            by itself and in the principal directions of both: the same for every candidate, so none can train for them.
        target_frozen: float64 `[T, D]`, likewise.
        neighbours: int64 `[T, k]`, the nearest target images of each by frozen features; k may be 0.
        consensus: int64 `[T]`, the class that the pool of candidates gives each target image.
        others_consensus: int64 `[T]`, the same without the candidates of this candidate's own method.
    """

    source_logits: NDArray[np.float32]
    source_labels: NDArray[np.int64]
    source_features: NDArray[np.float32]
    target_logits: NDArray[np.float32]
    target_features: NDArray[np.float32]
    seeds_target_logits: NDArray[np.float32]
    source_frozen: NDArray[np.float64]
    target_frozen: NDArray[np.float64]
    neighbours: NDArray[np.int64]
    consensus: NDArray[np.int64]
    others_consensus: NDArray[np.int64]


class Validator(ABC):
    """A final class in each module; its docstring names the paper and the known failure."""

    @abstractmethod
    def score(self, trial: Trial) -> float:
        """Returns a finite score; higher is better."""


class ValidatorConfig(Config):
    """Options of a validator. A module here has `Config(ValidatorConfig)` with its own."""

    def build(self) -> Validator:
        """Returns the validator with these options. Each module's `Config` says how."""
        raise TypeError(f"{type(self).__module__}: Config has no build()")


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Returns probabilities `[..., K]` in float64."""
    shifted = np.asarray(logits, dtype=np.float64)
    exponent = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    result: NDArray[np.float64] = exponent / exponent.sum(axis=-1, keepdims=True)
    return result
