"""How far apart two sets of features are, and what that means. No label is used.

Most that import this file want `standardise` or the verdict alone, so the measures import SciPy's and scikit-learn's
parts, 0.7 s of start-up, themselves. All measures take float64 `[N, D]` features,
standardised by the source.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.evaluation.jackknife import BLOCKS, standard_error

Features = NDArray[np.float64]

PERMUTATIONS = 200
PROJECTIONS = 100
FOLDS = 5
WIDEST = 2048  # columns that are compared as they are
_BANDWIDTHS = 5  # sigma^2 = a * mean squared distance, a = 2, 1, 1/2, 1/4, 1/8
_NO_SHIFT_P = 0.05
_NEAR = 0.2  # proxy A-distance above the control's that a classifier reaches by chance in sets of this size
_FEW = 50  # images of a domain under which finding no shift says nothing: as `watch.min_images`
_FAR = 1.0  # proxy A-distance at which a linear classifier is wrong on a quarter of the images


def narrow(rows: Features, seed: int) -> Features:
    """Returns rows `[N, D]` as they are, or projected at random to `WIDEST` columns where D is larger.

    A Gaussian random projection keeps squared distances within about sqrt(8 / WIDEST), 6%, in the mean (Johnson and
    Lindenstrauss, 1984); the covariances of a wide backbone would need tens of GiB.
    """
    if rows.shape[1] <= WIDEST:
        return rows
    generator = np.random.default_rng(seed)
    out = np.zeros((len(rows), WIDEST))
    for start in range(0, rows.shape[1], WIDEST):  # in blocks: the whole projection need not fit into memory
        part = rows[:, start : start + WIDEST]
        out += part @ generator.normal(0.0, WIDEST**-0.5, (part.shape[1], WIDEST))
    return out


def standardise(features: Features, by: Features) -> Features:
    """Returns features with the mean and standard deviation of `by` taken out; constant columns stay at zero spread."""
    spread = by.std(axis=0)
    result: Features = (features - by.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return result


def mmd(one: Features, other: Features, seed: int) -> tuple[float, float]:
    """Returns the unbiased squared maximum mean discrepancy and its permutation p-value.

    Gretton et al., "A Kernel Two-Sample Test", JMLR 2012, equation 3, with the mean of five Gaussian kernels
    exp(-d^2 / sigma^2), sigma^2 = a * mean squared distance, a in 2^-3 .. 2^1 (many kernels: Long et al., ICML 2015).
    The estimate can be slightly negative. Images of one group are exchanged singly, so that with few large groups
    the p-value is too small: read it beside the within-source control.
    """
    kernel = _kernel(np.concatenate([one, other]))
    observed = np.zeros((1, len(kernel)))
    observed[0, : len(one)] = 1
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.repeat(observed, PERMUTATIONS, axis=0), axis=1)
    values = _mmd_of(kernel, np.concatenate([observed, shuffled]))
    reached = int((values[1:] >= values[0]).sum())
    return float(values[0]), (1 + reached) / (1 + PERMUTATIONS)


def mmd_error(one: Features, other: Features, seed: int) -> float | None:
    """Returns the standard error of the squared MMD: the jackknife over `BLOCKS` blocks left out of both sides at once.

    It is what looking at a subsample costs, and at other images of the same kind. The bandwidths stay those of all
    images. Single images are left out, not groups: with few large groups it is too small. None with fewer than
    two images a side and block.
    """
    if min(len(one), len(other)) < 2 * BLOCKS:
        return None
    rng = np.random.default_rng(seed)
    dealt = [rng.permutation(len(side)) % BLOCKS for side in (one, other)]
    block = np.concatenate([dealt[0], dealt[1] + BLOCKS])
    kernel = _kernel(np.concatenate([one, other]))
    member = np.eye(2 * BLOCKS)[block]
    sums, diagonal, count = member.T @ kernel @ member, member.T @ np.diag(kernel), member.sum(axis=0)
    left_out = []
    for b in range(BLOCKS):
        here = np.arange(2 * BLOCKS) % BLOCKS != b
        a, z = here & (np.arange(2 * BLOCKS) < BLOCKS), here & (np.arange(2 * BLOCKS) >= BLOCKS)
        m, n = count[a].sum(), count[z].sum()
        within = (sums[np.ix_(a, a)].sum() - diagonal[a].sum()) / (m * (m - 1))
        other_within = (sums[np.ix_(z, z)].sum() - diagonal[z].sum()) / (n * (n - 1))
        left_out.append(float(within + other_within - 2 * sums[np.ix_(a, z)].sum() / (m * n)))
    return standard_error(left_out)


def proxy_a_distance(one: Features, other: Features, seed: int) -> float | None:
    """Returns 2 (1 - 2 err) of a linear classifier that separates the two; None with fewer than two images a side.

    Ben-David et al., "Analysis of Representations for Domain Adaptation", NIPS 2006: 0 where the domains
    cannot be separated, 2 where each image can. err is the balanced error of a logistic regression over five-fold
    cross-validation, so that unequal sizes do not count as shift; below-chance values are 0.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = min(FOLDS, len(one), len(other))
    if folds < 2:
        return None
    side = np.repeat([0, 1], [len(one), len(other)])
    # Columns have unit spread: dividing by sqrt(D) gives rows of unit length, so that C means the same for any D.
    rows = np.concatenate([one, other]) / np.sqrt(one.shape[1])
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32)
    model = LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000)
    told = cross_val_predict(model, rows, side, cv=splitter)
    error = 1 - np.mean([(told[side == k] == k).mean() for k in (0, 1)])
    return float(max(0.0, 2 * (1 - 2 * error)))


def coral_distance(one: Features, other: Features) -> float | None:
    """Returns ||C_1 - C_2||_F^2 / (4 D^2); None with fewer than two images a side.

    Sun & Saenko, "Deep CORAL", ECCV 2016 workshops, equation 1, https://arxiv.org/abs/1607.01719.
    """
    if min(len(one), len(other)) < 2:
        return None
    difference = np.atleast_2d(np.cov(one, rowvar=False)) - np.atleast_2d(np.cov(other, rowvar=False))
    return float((difference**2).sum() / (4 * one.shape[1] ** 2))


def sliced_wasserstein(one: Features, other: Features, seed: int) -> float:
    """Returns the mean Wasserstein-1 distance over random directions.

    Rabin et al., "Wasserstein Barycenter and Its Application to Texture Mixing", SSVM 2011 (there squared, order 2).
    """
    from scipy.stats import wasserstein_distance

    directions = np.random.default_rng(seed).normal(size=(one.shape[1], PROJECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    a, b = one @ directions, other @ directions
    return float(np.mean([wasserstein_distance(a[:, i], b[:, i]) for i in range(PROJECTIONS)]))


def compare(one: Features, other: Features, seed: int) -> dict[str, Any]:
    """Returns all four measures of one pair, the standard error of the MMD, and the number of images on each side."""
    value, p_value = mmd(one, other, seed)
    return {
        "mmd2": value,
        "mmd2_error": mmd_error(one, other, seed),
        "mmd_p_value": p_value,
        "proxy_a_distance": proxy_a_distance(one, other, seed),
        "coral": coral_distance(one, other),
        "sliced_wasserstein": sliced_wasserstein(one, other, seed),
        "images": [len(one), len(other)],
    }


def plane(domains: Sequence[Features]) -> tuple[list[Features], list[float]]:
    """Returns 2-D coordinates of each domain's features and the share of variance of the two axes.

    Principal components of the mean of the domains' second moments about the mean of their means, so that a large
    domain does not own the picture. The sign of an axis makes its largest loading positive.
    """
    center = np.mean([rows.mean(axis=0) for rows in domains], axis=0)
    scatter = np.mean([(rows - center).T @ (rows - center) / len(rows) for rows in domains], axis=0)
    values, vectors = np.linalg.eigh(scatter)
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    if axes.shape[1] < 2:
        axes = np.pad(axes, ((0, 0), (0, 1)))
    total = max(float(values.sum()), np.finfo(float).tiny)
    shares = [max(0.0, float(v)) / total for v in [*values[::-1][:2], 0.0][:2]]
    return [(rows - center) @ axes for rows in domains], shares


def advise(
    pooled: dict[str, Any], control: dict[str, Any], zscored: dict[str, Any], single: dict[str, dict[str, Any]]
) -> list[str]:
    """Returns a few sentences on how far the domains lie apart."""
    distance, base = pooled["proxy_a_distance"] or 0.0, control["proxy_a_distance"] or 0.0
    p_value = pooled["mmd_p_value"]
    seen = f"proxy A-distance {distance:.2f} of 2, within the source {base:.2f}; MMD p-value {p_value:.3f}"
    if not shift_is_found(pooled, control):
        if none_can_be_shown(pooled):
            return [
                f"No shift was found in these features ({seen}), but {min(pooled['images'])} images of a domain are too"
                f" few to rule one out; {_FEW} are needed."
            ]
        return [
            f"No shift was found in these features ({seen}). Adaptation is likely not needed: start with source_only."
        ]
    size = "large" if distance >= _FAR else "small" if distance <= base + _NEAR else "moderate"
    advice = [f"A shift was found, a {size} one ({seen})."]
    left = max(0.0, zscored["mmd2"]) / pooled["mmd2"] if pooled["mmd2"] > 0 else 1.0
    advice.append(f"Standardising each domain by itself leaves {left:.0%} of the MMD.")
    if len(single) > 1:
        near = min(sorted(single), key=lambda domain: single[domain]["mmd2"])
        advice.append(f"Of the sources, {near} is nearest to the target.")
    return advice


def shift_is_found(pooled: Mapping[str, Any], control: Mapping[str, Any]) -> bool:
    """Says whether the domains differ more than two halves of the source do: by MMD or by proxy A-distance."""
    distance, base = pooled["proxy_a_distance"] or 0.0, control["proxy_a_distance"] or 0.0
    return bool(pooled["mmd_p_value"] <= _NO_SHIFT_P or distance > base + _NEAR)


def none_can_be_shown(pooled: Mapping[str, Any]) -> bool:
    """Says whether a domain has too few images for a shift that was not found to be ruled out.

    >>> none_can_be_shown({"images": [400, 12]})
    True
    """
    return bool(min(pooled["images"]) < _FEW)


def _kernel(rows: Features) -> Features:
    squared = (rows**2).sum(axis=1)
    distance: Features = squared[:, None] + squared - 2 * rows @ rows.T
    np.maximum(distance, 0.0, out=distance)
    np.fill_diagonal(distance, 0.0)
    count = len(rows)
    mean = distance.sum() / max(count * (count - 1), 1)  # over pairs: the zero diagonal must not shrink the bandwidth
    if mean == 0:
        return np.ones_like(distance)
    # exp(-d/(a m)) for a = 2, 1, 1/2, ...: each kernel is the square of the one before, so one exp is enough.
    one = np.exp(-distance / (2.0 * mean))
    total = one.copy()
    for _ in range(_BANDWIDTHS - 1):
        one *= one
        total += one
    total /= _BANDWIDTHS
    return total


def _mmd_of(kernel: Features, members: Features) -> Features:
    """Returns MMD^2 of each row of `members` `[P, N]`, 1 where an image is of the first set."""
    first = members.sum(axis=1)
    second = len(kernel) - first
    if min(first.min(), second.min()) < 2:
        return np.zeros(len(members))
    product = members @ kernel
    diagonal = np.diag(kernel)
    within = (product * members).sum(axis=1)
    across = product.sum(axis=1) - within
    other = kernel.sum() - within - 2 * across
    own, rest = members @ diagonal, (1 - members) @ diagonal
    result: Features = (
        (within - own) / (first * (first - 1))
        + (other - rest) / (second * (second - 1))
        - 2 * across / (first * second)
    )
    return result
