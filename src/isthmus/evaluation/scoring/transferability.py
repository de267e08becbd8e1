"""How well a backbone's frozen features carry labels, without training a head: LogME, H-score, LEEP.

The numbers compare backbones on the same images and classes; alone they mean little. Each comes with the standard
error that follows from having these images and not others of the same kind (jackknife over blocks of groups), so that a
subsample states what it costs.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.evaluation.jackknife import blocks, standard_error
from isthmus.evaluation.metrics import entropy

Reals = NDArray[np.float64]
Labels = NDArray[np.int64]

NO_HEAD = "not applicable: the backbone is taken without a head of its own, so it has no classes to compare with"
_STEPS = 100  # of the fixed point; it settles in about ten
_SETTLED = 1e-9
_TINY = 1e-12
_PRECISIONS = (1e-8, 1e8)  # alpha and beta stay within: perfect fits and constant columns have no maximum


def log_me(features: Reals, labels: Labels) -> float:
    """Returns the maximum log evidence per image of a Bayesian linear model from features to labels, mean over classes.

    You, Liu, Wang, Long, "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", ICML 2021,
    https://arxiv.org/abs/2102.11005, algorithm 1: y = F w + noise, w ~ N(0, 1/alpha), noise ~ N(0, 1/beta); y is one
    column of the one-hot labels. alpha and beta maximise
    D/2 log alpha + N/2 log beta - beta/2 |F m - y|^2 - alpha/2 |m|^2 - 1/2 log|A| - N/2 log 2 pi, with
    A = alpha I + beta F'F and m = beta A^-1 F'y. Higher is better. Cost: that of `_spectrum`, then D a step.

    Args:
        features: float64 `[N, D]`.
        labels: int64 `[N]`; a class without an image is left out.
    """
    found, vectors = _spectrum(features)
    none = np.zeros(features.shape[1] - len(found))
    values = np.concatenate([found, none])
    scores = []
    for k in np.unique(labels):
        column = (labels == k).astype(np.float64)
        weights: Reals = np.concatenate([(vectors.T @ (features.T @ column)) ** 2, none])
        scores.append(_evidence(values, weights, float(column @ column), len(features)))
    return float(np.mean(scores))


def h_score(features: Reals, labels: Labels) -> float:
    """Returns tr(cov(f)^-1 cov(E[f | y])), in [0, classes - 1]; higher is better.

    Bao et al., "An Information-Theoretic Approach to Transferability in Task Transfer Learning", ICIP 2019,
    https://arxiv.org/abs/2212.10082, definition 2. With about as many columns as images it is near its upper end
    whatever the labels: read the shrunk one then.
    """
    return _h_scores(features, labels)[0]


def shrunk_h_score(features: Reals, labels: Labels) -> float:
    """Returns tr(C_a^-1 (1 - a) cov(E[f | y])) with Ledoit and Wolf's C_a = (1 - a) cov(f) + a tr(cov(f)) / D I.

    Ibrahim, Ponomareva, Mazumder, "Newer is not always better: Rethinking transferability metrics, their peculiarities,
    stability and performance", ECML 2022, https://arxiv.org/abs/2110.06893. Sound with few images too.
    """
    return _h_scores(features, labels)[1]


def _h_scores(features: Reals, labels: Labels) -> tuple[float, float]:
    """Returns `h_score` and `shrunk_h_score`, which need the eigenvalues of one covariance."""
    rows = features - features.mean(axis=0)
    values, vectors = _spectrum(rows)
    if not len(values):
        return 0.0, 0.0
    between = np.zeros(len(values))  # cov(E[f | y]) along each axis; class means lie in the span of the rows
    for k in np.unique(labels):
        between += (labels == k).mean() * (rows[labels == k].mean(axis=0) @ vectors) ** 2
    variances = values / len(rows)
    level = variances.sum() / rows.shape[1]
    from sklearn.covariance import ledoit_wolf_shrinkage  # a second of start-up that `isthmus check` does without

    shrinkage = float(ledoit_wolf_shrinkage(rows, assume_centered=True))
    shrunk = (1 - shrinkage) * between / ((1 - shrinkage) * variances + shrinkage * level)
    return float((between / variances).sum()), float(shrunk.sum())


def _spectrum(rows: Reals) -> tuple[Reals, Reals]:
    """Returns the eigenvalues of F'F above rounding `[r]` and their axes `[D, r]`, of rows F `[N, D]`.

    Of F'F or of FF', whichever is smaller: N D min(N, D) + min(N, D)^3.
    """
    wide = len(rows) < rows.shape[1]
    values, vectors = np.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
    kept = values > values.max() * max(rows.shape) * np.finfo(np.float64).eps
    values = values[kept]
    return values, rows.T @ vectors[:, kept] / np.sqrt(values) if wide else vectors[:, kept]


def leep(probabilities: Reals, labels: Labels) -> float:
    """Returns the mean log likelihood [nat] of the labels under the empirical map from a source head's classes to them.

    Nguyen, Hassner, Seeger, Archambeau, "LEEP: A New Measure to Evaluate Transferability of Learned Representations",
    ICML 2020, https://arxiv.org/abs/2002.12462, equation 2: mean_i log sum_z P(y_i | z) p(z | x_i), where P(y, z) is
    the mean of p(z | x) over images labelled y. 0 is the best; a head that says nothing has `know_nothing(labels)`.

    Args:
        probabilities: float64 `[N, Z]` of the source head, rows summing to 1.
        labels: int64 `[N]`.
    """
    joint = np.stack([probabilities[labels == k].sum(axis=0) for k in np.unique(labels)]) / len(labels)
    given: Reals = joint / np.maximum(joint.sum(axis=0), _TINY)
    row = np.searchsorted(np.unique(labels), labels)
    return float(np.log(np.maximum((given[row] * probabilities).sum(axis=1), _TINY)).mean())


def know_nothing(labels: Labels) -> float:
    """Returns the LEEP of a head whose answer is the same for all images: minus the entropy of the labels [nat].

    >>> round(know_nothing(np.array([0, 1])), 3)
    -0.693
    """
    return -float(entropy(np.bincount(labels) / len(labels)))


def transferability(features: Reals, labels: Labels, groups: NDArray[Any], seed: int) -> dict[str, Any]:
    """Returns LogME and both H-scores of labelled features, each with its standard error; LEEP is not applicable.

    Args:
        features: float64 `[N, D]`, standardised.
        labels: int64 `[N]` of the source.
        groups: `[N]`, what is left out as one.
        seed: deals groups out to blocks.
    """
    scores: dict[str, Any] = {"images": len(labels), "leep": None, "leep_why": NO_HEAD}
    names = ("log_me", "h_score", "h_score_shrunk")
    if len(np.unique(labels)) < 2:
        return scores | {name: {"value": None, "error": None} for name in names}

    def measured(kept: NDArray[np.bool_]) -> tuple[float, ...]:
        return log_me(features[kept], labels[kept]), *_h_scores(features[kept], labels[kept])

    block = blocks(groups, seed)
    values = measured(np.ones(len(labels), np.bool_))
    without = zip(*(measured(block != b) for b in np.unique(block)), strict=True)
    for name, value, left_out in zip(names, values, without, strict=True):
        scores[name] = {"value": value, "error": standard_error(left_out)}
    return scores


def _evidence(values: Reals, weights: Reals, square: float, count: int) -> float:
    """Returns the maximum of the log evidence per image of one column of labels.

    Args:
        values: eigenvalues of F'F `[D]`.
        weights: squares of F'y in the basis of its eigenvectors `[D]`.
        square: y'y.
        count: N.
    """
    alpha = beta = 1.0
    for _ in range(_STEPS):
        spread = alpha + beta * values
        gamma = float((beta * values / spread).sum())
        old = alpha / beta
        alpha = float(np.clip(gamma / max(_size(weights, spread, beta), _TINY), *_PRECISIONS))
        beta = float(
            np.clip((count - gamma) / max(_residual(values, weights, square, spread, beta), _TINY), *_PRECISIONS)
        )
        settled = abs(np.log(alpha / beta / old)) < _SETTLED
        if settled:
            break
    spread = alpha + beta * values
    evidence = (
        len(values) / 2 * np.log(alpha)
        + count / 2 * np.log(beta)
        - beta / 2 * _residual(values, weights, square, spread, beta)
        - alpha / 2 * _size(weights, spread, beta)
        - np.log(spread).sum() / 2
        - count / 2 * np.log(2 * np.pi)
    )
    return float(evidence / count)


def _size(weights: Reals, spread: Reals, beta: float) -> float:
    return float(beta**2 * (weights / spread**2).sum())


def _residual(values: Reals, weights: Reals, square: float, spread: Reals, beta: float) -> float:
    fitted = 2 * beta * (weights / spread).sum() - beta**2 * (values * weights / spread**2).sum()
    return max(float(square - fitted), 0.0)
