"""Uncertainty and calibration of the chosen model: the body of `trust.json`, and what target labels say of it later."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.seeds import derive_seed
from isthmus.evaluation import calibration, metrics
from isthmus.evaluation.confidence import conformal
from isthmus.evaluation.confidence.calibrated import Judged, TrustConfig
from isthmus.evaluation.confidence.estimate import Estimate, Views, estimate_accuracy
from isthmus.evaluation.metrics import Predictions, Reals
from isthmus.evaluation.selection.choice import ENSEMBLE, parts
from isthmus.evaluation.trained import Samples, Trained


def build_trust(
    model: Judged,
    samples: Samples,
    sources: Sequence[str],
    methods: Mapping[str, Predictions],
    config: TrustConfig,
    seed: int,
) -> dict[str, Any]:
    """Returns the body of `trust.json` (docs/contracts.md); no target label is known here.

    Args:
        model: of the chosen method.
        samples: facts of the images.
        sources: names of the source domains.
        methods: of `averaged`, int64 `[R, N]`.
        config: coverage and limits.
        seed: of resamples and ties.
    """
    test = model.source_test
    source_drawn = metrics.group_weights(samples.group[test], config.bootstrap, derive_seed(seed, "trust", "source"))
    target_drawn = metrics.group_weights(
        samples.group[model.target_test], config.bootstrap, derive_seed(seed, "trust", "target")
    )
    groups = int(metrics.resampled_units(samples.group[model.target_test]).max()) + 1
    labelled = np.concatenate([samples.rows(sources, "val"), model.cal])
    views = Views(
        model.logits[:, labelled],
        samples.label[labelled],
        model.logits[:, model.target_test],
        {name: rows[:, model.target_test] for name, rows in methods.items()},
    )
    plain, shifted = _sets(model, samples, config, seed)
    return {
        "seed": model.seed,
        "shift": {
            "separability": model.weights.separability,
            "cal_count": len(model.cal),
            "effective_count": calibration.effective_count(model.weights.source),
            "min_effective_count": config.min_effective_count,
            "weighted": model.weighted,
        },
        "temperature": {"source": model.source_temperature, "target": model.target_temperature},
        "calibration": {
            "bins": calibration.BINS,
            "source_test": _both(model, test, samples.label[test], model.source_temperature, source_drawn, seed),
            "target_mean_confidence": float(
                model.probabilities(model.target_test, model.target_temperature).max(axis=1).mean()
            ),
        },
        "conformal": {
            "coverage": config.coverage,
            "score": config.conformal_score,
            "cal_count": len(model.cal),
            "source_test": _covered(model, test, samples.label[test], plain, source_drawn),
            "target": dict(conformal.set_sizes(shifted)),
        },
        "estimate": estimate_accuracy(views, target_drawn, groups, config.estimate),
    }


def trust_against_labels(
    model: Judged,
    samples: Samples,
    labels: Predictions,
    known: Predictions,
    trust: dict[str, Any],
    config: TrustConfig,
    seed: int,
) -> dict[str, Any]:
    """Returns what the target's labels say of `trust.json`: calibration, coverage and the estimate beside the truth.

    Args:
        model: of the chosen method.
        samples: facts of the images.
        labels: int64 `[N]`, `UNKNOWN` where there is none.
        known: places of the labelled target test images.
        trust: what `build_trust` returned.
        config: the same.
        seed: the same.
    """
    drawn = metrics.group_weights(samples.group[known], config.bootstrap, derive_seed(seed, "trust", "truth"))
    sets = _sets(model, samples, config, seed)[1][np.searchsorted(model.target_test, known)]
    accuracy = float((model.logits[:, known].argmax(axis=2) == labels[known]).mean())
    return {
        "calibration": _both(model, known, labels[known], model.target_temperature, drawn, seed),
        "conformal": _covered(model, known, labels[known], sets, drawn),
        "estimate": _beside(trust["estimate"], accuracy),
    }


def averaged(made: Mapping[str, Any], runs: Mapping[str, Trained]) -> dict[str, Predictions]:
    """Returns averaged method -> predictions of its networks, int64 `[R, N]`; empty where one method was chosen."""
    found: dict[str, list[Predictions]] = {}
    for part in parts(made, ENSEMBLE) if made["ensemble"] else ():
        found.setdefault(part.method, []).append(runs[part.method].logits(part.seed, part.epoch).argmax(axis=1))
    return {method: np.stack(rows) for method, rows in found.items()}


def flat(trust: dict[str, Any]) -> dict[str, float]:
    """Returns the numbers of `trust.json` that go to `metrics.json`."""
    estimate, sets, shift = trust["estimate"], trust["conformal"], trust["shift"]
    numbers: dict[str, float] = {
        **{name: int(value) for name, value in trust["alarms"].items()},
        "source_temperature": trust["temperature"]["source"],
        "target_temperature": trust["temperature"]["target"],
        "source_test_ece": trust["calibration"]["source_test"]["calibrated"]["ece"],
        "source_test_ece_uncalibrated": trust["calibration"]["source_test"]["uncalibrated"]["ece"],
        "source_test_coverage": sets["source_test"]["coverage"]["mean"],
        "target_mean_set_size": sets["target"]["mean_size"],
        "target_answered_share": sets["target"]["answered"],
        "target_separability": shift["separability"],
        "target_effective_count": shift["effective_count"],
        "target_estimate_cannot_tell": int(estimate["accuracy"] is None),
    }
    numbers |= {f"target_estimate_{name}": part["mean"] for name, part in estimate["parts"].items()}
    if estimate["accuracy"] is not None:
        numbers |= {"target_estimated_accuracy": estimate["accuracy"]}
        numbers |= {f"target_estimated_accuracy_{end}": estimate[end] for end in ("low", "high")}
    return numbers


def _sets(
    model: Judged, samples: Samples, config: TrustConfig, seed: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Returns the sets of the source test images, and of the target test images, weighted if they can be."""
    labels, kind, coverage = samples.label[model.cal], config.conformal_score, config.coverage

    def scored(rows: Predictions, temperature: float, name: str) -> Reals:
        return conformal.scores(model.probabilities(rows, temperature), kind, derive_seed(seed, "conformal", name))

    source, target = model.source_temperature, model.target_temperature
    plain = conformal.prediction_sets(
        scored(model.cal, source, "cal"), labels, scored(model.source_test, source, "source"), coverage
    )
    own = (model.weights.source, model.weights.target) if model.weighted else (None, None)
    shifted = conformal.prediction_sets(
        scored(model.cal, target, "cal"), labels, scored(model.target_test, target, "target"), coverage, *own
    )
    return plain, shifted


def _both(
    model: Judged, rows: Predictions, labels: Predictions, temperature: float, drawn: Reals, seed: int
) -> dict[str, Any]:
    """Returns calibration error and reliability before and after temperature scaling."""
    result: dict[str, Any] = {}
    for name, divisor in (("uncalibrated", 1.0), ("calibrated", temperature)):
        probabilities = model.probabilities(rows, divisor)
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
        error = calibration.calibration_error(confidence, right, drawn, derive_seed(seed, "calibration", name))
        result[name] = {**error, "reliability": calibration.reliability(confidence, right)}
    return result


def _covered(
    model: Judged, rows: Predictions, labels: Predictions, sets: NDArray[np.bool_], drawn: Reals
) -> dict[str, Any]:
    """Returns empirical coverage, sizes, and the accuracy on the images that are answered (None where none is)."""
    inside, alone = conformal.covered(sets, labels), conformal.answered(sets)
    low, high = metrics.interval(metrics.resampled_accuracy(inside[None], drawn)[:, 0])
    right = model.logits[model.shipped, rows].argmax(axis=1) == labels
    return {
        "coverage": {"mean": float(inside.mean()), "low": low, "high": high},
        "answered_accuracy": float(right[alone].mean()) if alone.any() else None,
        **conformal.set_sizes(sets),
    }


def _beside(estimate: Estimate, accuracy: float) -> dict[str, Any]:
    told, low, high = estimate["accuracy"], estimate["low"], estimate["high"]
    if told is None or low is None or high is None:
        return {"true_accuracy": accuracy, "error": None, "inside": None}
    return {"true_accuracy": accuracy, "error": told - accuracy, "inside": low <= accuracy <= high}
