"""Scores of a method without target labels. One module a validator; the folder is the registry.

They are reported and choose nothing: on real pairs their ranking lost to a fixed answer (docs/decisions/0030).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.core.config import Config


@dataclass(frozen=True)
class Trial:
    """One seed of one method, as far as it may be known without target labels.

    Attributes:
        source_logits: float32 `[S, K]`, source validation split.
        source_labels: int64 `[S]`.
        source_features: float32 `[S, B]`, after the bottleneck.
        target_logits: float32 `[T, K]`, target training split.
        target_features: float32 `[T, B]`.
    """

    source_logits: NDArray[np.float32]
    source_labels: NDArray[np.int64]
    source_features: NDArray[np.float32]
    target_logits: NDArray[np.float32]
    target_features: NDArray[np.float32]


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
