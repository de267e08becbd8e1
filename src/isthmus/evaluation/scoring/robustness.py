"""What corruption costs the chosen model, against source-only on the same images."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Errors = Mapping[str, list[float]]  # corruption -> error [share] at severities 1 to 5


def mean_corruption_error(chosen: Errors, floor: Errors) -> float | None:
    """Returns the mean over corruptions of sum_s E_s(chosen) / sum_s E_s(source-only): below 1 it is the more robust.

    Hendrycks and Dietterich, ICLR 2019, section 4.2, https://arxiv.org/abs/1903.12261, with source-only for AlexNet.
    A corruption that costs source-only nothing has no ratio and is left out; None where none is left.

    >>> mean_corruption_error({"blur": [0.1, 0.2]}, {"blur": [0.2, 0.4]})
    0.5
    """
    ratios = [sum(chosen[name]) / sum(floor[name]) for name in sorted(chosen) if sum(floor[name]) > 0]
    return float(np.mean(ratios)) if ratios else None


def added_error(corrupted: Errors, clean: float) -> float:
    """Returns the mean error over corruptions and severities minus the error on clean images [share].

    >>> round(added_error({"blur": [0.2, 0.4]}, 0.1), 3)
    0.2
    """
    return float(np.mean([np.mean(values) for _, values in sorted(corrupted.items())]) - clean)


def robustness_document(
    method: str,
    floor: str,
    clean: dict[str, dict[str, float]],
    cells: dict[str, dict[str, Errors]],
    images: dict[str, int],
) -> dict[str, Any]:
    """Returns what `robustness.json` holds.

    Args:
        method: the chosen one.
        floor: source-only.
        clean: domain -> method -> error.
        cells: domain -> method -> corruption -> errors by severity.
        images: domain -> how many.
    """
    domains = {
        domain: {
            "images": images[domain],
            "clean": clean[domain],
            "errors": by_method,
            "mean_corruption_error": mean_corruption_error(by_method[method], by_method[floor]),
            "added": {name: added_error(errors, clean[domain][name]) for name, errors in sorted(by_method.items())},
        }
        for domain, by_method in sorted(cells.items())
    }
    return {"measured": True, "method": method, "floor": floor, "domains": domains}
