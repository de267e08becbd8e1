"""Class shares of the target without its labels, and whether they can be known at all.

Label shift means that classes keep their look and change their frequency: p_t(x) = sum_k pi_k p_s(x | y = k). Two
estimates of pi rest on that, and a fit test checks it: where no mixture of the source's classes fits the
target's scores, both estimates are wrong, and the answer is "cannot tell".

Scores are logits `[N, K]` of a classifier that was trained on other source rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, nnls
from scipy.spatial.distance import cdist

from isthmus.core.accuracy import balanced_accuracy
from isthmus.evaluation.metrics import INTERVAL, resampled_units, softmax

Reals = NDArray[np.float64]
Labels = NDArray[np.int64]

RESAMPLES = 200
LEAST = 5  # [image] held-out source images a class; below that its scores have no distribution to speak of
FITS = 0.05  # p-value under which no mixture of the source's classes explains the target
TELLS = 0.25  # of the way from chance to 1 that the probe's balanced accuracy must go: a blind probe fits anything
_SUM_WEIGHT = 1e3  # of the equation sum(pi) = 1 among those of the least squares
_EM_STEPS = 500
_EM_TOLERANCE = 1e-7
_BIAS_PENALTY = 1e-3  # keeps biases finite where the held-out scores separate the classes wholly


@dataclass(frozen=True)
class Scores:
    """Logits `[N, K]` of one side with what belongs to each row.

    Attributes:
        logits: float64 `[N, K]`.
        labels: int64 `[N]`; of the target they are not known and not here: an empty array.
        groups: `[N]`, what is resampled as one (patient, scene, lot).
    """

    logits: Reals
    labels: Labels
    groups: NDArray[Any]


def probe_scores(source: Reals, labels: Labels, *others: Reals, classes: int) -> list[Reals]:
    """Returns logits `[N, K]` of other rows by a logistic regression on source features `[N, D]`.

    Columns have unit spread: dividing by sqrt(D) makes rows of unit length, so that C means the same for any D. A
    class that is not among `labels` gets a logit that no other can fall under.
    """
    from sklearn.linear_model import LogisticRegression  # a second of start-up that `isthmus check` does without

    scale = np.sqrt(source.shape[1])
    model = LogisticRegression(C=10.0, max_iter=1000).fit(source / scale, labels)
    results = []
    for rows in others:
        found = np.log(np.clip(model.predict_proba(rows / scale), 1e-12, 1.0))
        logits = np.full((len(rows), classes), found.min(initial=0.0) - 1.0)
        logits[:, model.classes_] = found
        results.append(logits)
    return results


def bias_corrected_temperature(logits: Reals, labels: Labels) -> tuple[float, Reals]:
    """Returns 1/T and b `[K]` so that softmax(logits / T + b) has the least negative log-likelihood.

    Alexandari, Kundaje and Shrikumar, Maximum Likelihood with Bias-Corrected Calibration is Hard-To-Beat at Label
    Shift Adaptation, ICML 2020, section 3 (BCTS). Plain temperature scaling leaves a bias in the class shares that
    the estimate of pi inherits. Ours adds 1e-3 ||b||^2.
    """
    rows, classes = logits.shape
    truth = np.eye(classes)[labels]

    def loss(values: Reals) -> tuple[float, Reals]:
        inverse, bias = np.exp(values[0]), values[1:]
        shifted = logits * inverse + bias
        shifted = shifted - shifted.max(axis=1, keepdims=True)
        log_total = np.log(np.exp(shifted).sum(axis=1))
        error = (softmax(shifted) - truth) / rows
        value = float((log_total - (shifted * truth).sum(axis=1)).mean() + _BIAS_PENALTY * (bias**2).sum())
        slope = np.concatenate([[(error * logits).sum() * inverse], error.sum(axis=0) + 2 * _BIAS_PENALTY * bias])
        return value, slope

    bounds = [(-5.0, 5.0), *[(-20.0, 20.0)] * classes]
    found = minimize(loss, np.zeros(classes + 1), jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(np.exp(found[0])), found[1:]


def bbse(held: Reals, labels: Labels, target: Reals) -> Reals:
    """Returns shares `[K]` by black-box shift estimation.

    Lipton, Wang and Smola, Detecting and Correcting for Label Shift with Black Box Predictors, ICML 2018, equation 4,
    with soft predictions: C pi = mu, C_ik = mean p_i over held-out source rows of class k, mu_i = mean p_i over the
    target. Solved by least squares under pi >= 0 and sum(pi) = 1 instead of clipping what inversion makes negative.

    Args:
        held: probabilities `[M, K]` of held-out source rows; each class is among their labels.
        labels: int64 `[M]`.
        target: probabilities `[N, K]`.
    """
    columns = [held[labels == k].mean(axis=0) for k in range(held.shape[1])]
    return _shares(np.stack(columns, axis=1), target.mean(axis=0))


def mlls(target: Reals, source_shares: Reals) -> Reals:
    """Returns shares `[K]` of highest likelihood, by expectation maximisation.

    Saerens, Latinne and Decaestecker, Adjusting the Outputs of a Classifier to New a Priori Probabilities, Neural
    Computation 14 (2002), equations 2.6 to 2.9: p(k | x) ~ pi_k / pi_s(k) p_s(k | x), pi_k = mean over x of p(k | x).

    Args:
        target: calibrated source probabilities `[N, K]` of target rows.
        source_shares: `[K]`, class shares for which they are calibrated.
    """
    ratio = target / np.maximum(source_shares, 1e-12)
    shares = source_shares.copy()
    for _ in range(_EM_STEPS):
        joint = ratio * shares
        following = (joint / np.maximum(joint.sum(axis=1, keepdims=True), 1e-300)).mean(axis=0)
        done = np.abs(following - shares).max() < _EM_TOLERANCE
        shares = following
        if done:
            break
    return shares


def estimates(held: Scores, target: Scores) -> tuple[Reals, Reals]:
    """Returns the shares `[K]` by MLLS and by BBSE on calibrated scores."""
    inverse, bias = bias_corrected_temperature(held.logits, held.labels)
    known, unknown = softmax(held.logits * inverse + bias), softmax(target.logits * inverse + bias)
    return mlls(unknown, known.mean(axis=0)), bbse(known, held.labels, unknown)


def intervals(held: Scores, target: Scores, seed: int) -> tuple[Reals, Reals]:
    """Returns 95% bootstrap intervals `[2, K]` of MLLS and of BBSE: groups of both sides are drawn again.

    Of a side that is one group single images are drawn (`metrics.resampled_units`).

    Calibration is fitted again in each of `RESAMPLES` draws; a class that a draw lost keeps one of its rows.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(RESAMPLES):
        rows, others = _draw_groups(held.groups, rng), _draw_groups(target.groups, rng)
        lost = np.setdiff1d(held.labels, held.labels[rows])
        rows = np.concatenate([rows, [np.flatnonzero(held.labels == k)[0] for k in lost]]).astype(np.int64)
        again = Scores(held.logits[rows], held.labels[rows], held.groups[rows])
        found.append(estimates(again, Scores(target.logits[others], target.labels, target.groups[others])))
    low_high = np.percentile(np.array(found), INTERVAL, axis=0)
    return low_high[:, 0], low_high[:, 1]


def fit_p_value(held: Scores, target: Scores, seed: int) -> float:
    """Returns the p-value of "some mixture of the source's classes has the target's scores".

    The statistic is the squared maximum mean discrepancy of the best mixture, min over pi of
    ||sum_k pi_k mu_k - mu_t||^2, mu the mean embeddings of logits under a Gaussian kernel with sigma^2 = half the mean
    squared distance (the quadratic program of Zhang et al., Domain Adaptation under Target and Conditional Shift, ICML
    2013, section 3). Its null distribution: held-out source rows drawn twice, once as they are and once with the
    classes of the best mixture, and the best mixture fitted again. Rows are drawn singly: with few large groups the
    p-value is too small, which errs towards "cannot tell".
    """
    rows = np.concatenate([_centred(held.logits), _centred(target.logits)])
    squared = cdist(rows, rows, "sqeuclidean")
    mean = squared.mean()
    kernel = np.exp(-squared / mean) if mean > 0 else np.ones_like(squared)
    m, n = len(held.logits), len(target.logits)
    classes = held.logits.shape[1]
    within, across = kernel[:m, :m], kernel[:m, m:].mean(axis=1)
    observed, shares = _best_mixture(within, np.eye(classes)[held.labels], across, float(kernel[m:, m:].mean()))
    chances = (shares / np.bincount(held.labels, minlength=classes))[held.labels]
    rng = np.random.default_rng(seed)
    reached = 0
    for _ in range(RESAMPLES):
        first = np.bincount(rng.integers(0, m, m), minlength=m).astype(np.float64)
        second = rng.multinomial(n, chances / chances.sum()) / n
        members = np.eye(classes)[held.labels] * first[:, None]
        towards = within @ second
        reached += _best_mixture(within, members, towards, float(second @ towards))[0] >= observed
    return (1 + reached) / (1 + RESAMPLES)


def label_shift(
    held: Scores, target: Scores, trained: Labels, classes: Sequence[str], most: float, seed: int
) -> dict[str, Any]:
    """Returns what `shift.json` says under `label_shift`.

    Args:
        held: held-out source rows (splits val and cal), on which the probe is calibrated.
        target: target training rows.
        trained: int64 `[M]`, labels of the source's training rows, whose shares the target's are compared with.
        classes: K names.
        most: [share] total variation between source and target shares above which marginals should not be aligned,
            where a share of the source lies outside the target's interval too.
        seed: of all resampling.
    """
    counts = np.bincount(held.labels, minlength=len(classes))
    source = np.bincount(trained, minlength=len(classes)) / max(1, len(trained))
    uniform = dict.fromkeys(classes, 1 / len(classes))
    facts: dict[str, Any] = {
        "verdict": "cannot tell",
        "source": dict(zip(classes, map(float, source), strict=True)),
        "priors": uniform,
        "held_out": len(held.labels),
        "fit_p_value": None,
        "probe_balanced_accuracy": None,
        "mlls": None,
        "bbse": None,
        "difference": None,
        "warning": None,
    }
    few = [f"{name} {count}" for name, count in zip(classes, counts, strict=True) if count < LEAST]
    if few:
        why = f"at least {LEAST} held-out source images of each class are needed; there are: {', '.join(few)}"
        return facts | {"why": f"Class shares of the target cannot be estimated: {why}."}
    accuracy, chance = balanced_accuracy(held.logits.argmax(axis=1), held.labels), 1 / len(classes)
    facts["probe_balanced_accuracy"] = accuracy
    if accuracy < chance + TELLS * (1 - chance):
        why = f"a linear probe barely separates the source's own classes (balanced accuracy {accuracy:.2f})"
        return facts | {"why": f"Class shares of the target cannot be estimated: {why}."}
    p_value = facts["fit_p_value"] = fit_p_value(held, target, seed)
    if p_value < FITS:
        return facts | {
            "why": "Class shares of the target cannot be estimated: no mixture of the source's classes fits its scores"
            f" (p-value {p_value:.3f}): classes look different there, and estimates would be wrong. Uniform is assumed."
        }
    points, ranges = estimates(held, target), intervals(held, target, seed)
    named = [
        {
            name: {"share": float(point[k]), "low": float(span[0, k]), "high": float(span[1, k])}
            for k, name in enumerate(classes)
        }
        for point, span in zip(points, ranges, strict=True)
    ]
    difference = float(np.abs(points[0] - source).sum() / 2)
    shown_to_differ = bool(((source < ranges[0][0]) | (source > ranges[0][1])).any())
    shown = ", ".join(
        f"{name} {entry['share']:.0%} ({entry['low']:.0%} to {entry['high']:.0%}; source {facts['source'][name]:.0%})"
        for name, entry in named[0].items()
    )
    return facts | {
        "verdict": "fits",
        "mlls": named[0],
        "bbse": named[1],
        "why": f"Class shares of the target, estimated: {shown}. A mixture of the source's classes fits its scores"
        f" (p-value {p_value:.3f}).",
        "priors": {name: entry["share"] for name, entry in named[0].items()},
        "difference": difference,
        "warning": _warning(difference, most) if shown_to_differ else None,
    }


def _warning(difference: float, most: float) -> str | None:
    # Zhao et al., On Learning Invariant Representations for Domain Adaptation, ICML 2019, theorem 4.3.
    if difference <= most:
        return None
    return (
        f"Class shares differ by {difference:.0%} in total variation (limit {most:.0%}): aligning marginals (dann, mmd,"
        " coral, zscore) then mixes classes. Prefer source_only with models: class_shares set to the estimated shares."
    )


def _best_mixture(within: Reals, members: Reals, towards: Reals, target: float) -> tuple[float, Reals]:
    """Returns the least squared discrepancy of a mixture, and its shares `[K]`.

    Args:
        within: kernel among held-out rows `[M, M]`.
        members: weight of each row in each class `[M, K]`; a class without weight takes no part.
        towards: mean kernel of each row with the target `[M]`.
        target: mean kernel within the target.
    """
    means = members / np.maximum(members.sum(axis=0), 1e-12)
    square, linear = means.T @ within @ means, means.T @ towards
    values, vectors = np.linalg.eigh(square)
    root = np.sqrt(np.maximum(values, 1e-10))
    shares = _shares(root[:, None] * vectors.T, (vectors.T @ linear) / root)
    return float(shares @ square @ shares - 2 * shares @ linear + target), shares


def _shares(matrix: Reals, wanted: Reals) -> Reals:
    """Returns pi >= 0 with sum 1 for which `matrix @ pi` is nearest to `wanted`."""
    rows = np.vstack([matrix, np.full((1, matrix.shape[1]), _SUM_WEIGHT)])
    found, _ = nnls(rows, np.append(wanted, _SUM_WEIGHT))
    result: Reals = found / found.sum()
    return result


def _centred(logits: Reals) -> Reals:
    result: Reals = logits - logits.mean(axis=1, keepdims=True)
    return result


def _draw_groups(groups: NDArray[Any], rng: np.random.Generator) -> Labels:
    places = resampled_units(groups.astype(str))
    order = np.argsort(places, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(places))[:-1])
    return np.concatenate([parts[number] for number in rng.integers(0, len(parts), len(parts))])
