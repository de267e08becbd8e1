"""What is kept of served inputs to see a drift: counts, a histogram and moments, never an image or a single answer."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

BINS = 20  # of the confidence, equal parts of [0, 1]


@dataclass
class Moments:
    """Count, mean and sum of squared differences from the mean of one number.

    Welford, "Note on a Method for Calculating Corrected Sums of Squares and Products", Technometrics 4 (1962).
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        """Takes one more value in."""
        self.count += 1
        step = value - self.mean
        self.mean += step / self.count
        self.squares += step * (value - self.mean)


@dataclass
class Aggregates:
    """What a model has answered since counting began.

    Attributes:
        count: number of images.
        refused: number of requests that were refused.
        classes: predicted class -> number of images.
        confidence: images by their largest probability, `BINS` equal parts of [0, 1].
        moments: `confidence`, and each further number that the model answers (a domain score) -> its moments.
    """

    count: int = 0
    refused: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    confidence: list[int] = field(default_factory=lambda: [0] * BINS)
    moments: dict[str, Moments] = field(default_factory=dict)

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Takes the model's answers in.

        >>> seen = Aggregates()
        >>> seen.add([{"class": "good", "probability_good": 0.9, "probability_pit": 0.1}])
        >>> seen.classes, seen.confidence[17:], seen.moments["confidence"].mean
        ({'good': 1}, [0, 1, 0], 0.9)
        """
        for row in rows:
            confidence = max(float(v) for k, v in row.items() if k.startswith("probability_"))
            self.count += 1
            self.classes[row["class"]] = self.classes.get(row["class"], 0) + 1
            self.confidence[min(int(confidence * BINS), BINS - 1)] += 1
            others = {k: v for k, v in row.items() if not k.startswith("probability_")}
            numbers = {k: v for k, v in others.items() if isinstance(v, int | float) and not isinstance(v, bool)}
            for name, value in ({"confidence": confidence} | numbers).items():
                self.moments.setdefault(name, Moments()).add(float(value))

    def write(self, path: Path) -> None:
        """Writes them as JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        partial.write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n", encoding="utf-8")
        partial.replace(path)


def read_aggregates(path: Path) -> Aggregates:
    """Reads what `write` wrote; nothing counted yet where there is no file."""
    if not path.exists():
        return Aggregates()
    values = json.loads(path.read_text(encoding="utf-8"))
    values["moments"] = {name: Moments(**moments) for name, moments in values["moments"].items()}
    return Aggregates(**values)
