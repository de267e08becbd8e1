"""Evidence for the rules' tests, shaped as `evaluate` and `select` write it."""

from typing import Any

from isthmus.gates import Evidence


def evidence(
    *, method: str = "coral", fallback: bool = False, mean: float = 0.7, shipped: float | None = None, classes: int = 3,
    gain: tuple[float, float, float] = (0.1, 0.05, 0.15),
) -> Evidence:  # fmt: skip
    """Returns evidence with target labels; `gain` is mean, low and high of chosen minus source-only."""
    per_seed = [mean if shipped is None else shipped, mean, mean]
    scores: dict[str, Any] = {"balanced_accuracy": {"mean": mean, "per_seed": per_seed}}
    scores |= {"minus_source_only": dict(zip(("mean", "low", "high"), gain, strict=True))}
    truth = {"available": True, "classes": [str(k) for k in range(classes)], "methods": {method: scores}}
    return Evidence({}, truth, {"chosen": {"method": method, "epoch": 4, "seed": 0, "fallback": fallback}})


def without_labels(*, method: str = "coral", fallback: bool = False) -> Evidence:
    """Returns evidence of a scenario whose target has no labels."""
    chosen = {"method": method, "epoch": 4, "seed": 0, "fallback": fallback}
    return Evidence({}, {"available": False}, {"chosen": chosen})
