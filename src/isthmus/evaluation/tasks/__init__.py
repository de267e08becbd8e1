"""What answers of a task are worth, by the target's labels. One module a task; the folder is the registry.

Uses all rooms of `evaluation`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa

from isthmus.data.scenario import Scenario
from isthmus.evaluation.confidence.calibrated import TrustConfig


@dataclass(frozen=True)
class EvaluationInputs:
    """What `evaluate` reads; the files are those of `dvc.yaml`.

    Attributes:
        scenario: as in params.yaml.
        methods: names under `methods:`.
        options: the section `evaluate`.
        seed: of resamples.
    """

    scenario: Scenario
    methods: list[str]
    options: TrustConfig
    seed: int
    manifest: Path
    prepared: Path
    labels_target: Path
    labels_measure: Path
    labels_train: Path
    masks_target: Path
    trained: Path
    choice: Path
    shift: Path


class Evaluated(NamedTuple):
    """What `evaluate` writes: the bodies of `truth.json` and `trust.json`, the predictions and `metrics.json`."""

    truth: dict[str, Any]
    trust: dict[str, Any]
    predictions: pd.DataFrame
    schema: pa.Schema
    metrics: dict[str, float]


class TaskEvaluation(ABC):
    """A module here has a final class `Evaluation(TaskEvaluation)`."""

    @abstractmethod
    def evaluate(self, inputs: EvaluationInputs) -> Evaluated:
        """Evaluates the chosen model; the only place that opens the target's answers."""
