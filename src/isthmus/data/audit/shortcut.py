"""Shortcuts: can something that is not the picture tell the domain or the class?

A network takes the easiest cue there is (Geirhos et al., Shortcut Learning in Deep Neural Networks, Nature Machine
Intelligence 2, 2020, 665-673). Three cues are tried, each alone: the size of the file, the ratio of width to height,
and the four corners of the image (mean and spread of grey). A small tree learns to guess from it, cross-validated so
that no group (patient, scene, lot) is on both sides, and is judged by balanced accuracy: chance is 1 / K for K answers,
however uneven they are. A 99.9 % bootstrap interval over groups says whether it is more than luck
(cues without a meaning were called shortcuts in 0 to 2 % of trials with 8 to 2,000 groups).

Two devices nearly always differ in all three, so that the domain can be told is expected. That the class can be told by
the size of the file or by its shape is a warning; by corners it may also mean that the texture of the class fills the
frame, as rolled scale does: a person must look.

Cost: at most `LARGEST` images a domain, chosen by id, whatever the number of images.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

LARGEST = 2000  # [image] of one domain
CUES = ("file_size", "aspect_ratio", "corners")
MATTERS = 0.1  # [share of the way from chance to always right] a cue below it is not a shortcut, however certain
# what a person can do about each cue, as the error and the report say it
ADVICE = {
    "file_size": "The model does not see the file size but its cause: compression, sharpness or resolution. Save all"
    " classes the same way. If the image explains it (a rough texture compresses badly), it is not a shortcut",
    "aspect_ratio": "Resize all images to one shape before training, or crop them (roi, spacing, tiles)",
    "corners": "Look at the corners: crop rulers, stamps, text and frames (roi). If the texture of the class fills the"
    " whole frame, it is not a shortcut",
}
_FOLDS = 5
_DEPTH = 4
_LEAF = 5  # [image]
_RESAMPLES = 2000
_INTERVAL = (0.05, 99.95)  # percentiles: six or more questions at once, and rows of one fold share their tree


def shortcuts(images: pd.DataFrame, target: str, seed: int) -> dict[str, Any]:
    """Returns how well each cue predicts domain and class; each entry is what `told_by` returns.

    `{"domain": {cue: entry}, "class": {source domain: {cue: entry}}}`.

    Args:
        images: columns `image_id, domain, group, label` (null for the target), `file_bytes, height, width, corners`.
        target: the target's name; its labels are not known here, so no class is predicted in it.
        seed: of trees and resamples.
    """
    chosen = images.sort_values("image_id").groupby("domain").head(LARGEST)
    sources = chosen[(chosen["domain"] != target) & chosen["label"].notna()]  # none where answers are masks
    return {
        "domain": _each_cue(chosen, chosen["domain"], seed),
        "class": {str(d): _each_cue(rows, rows["label"], seed) for d, rows in sources.groupby("domain")},
    }


def told_by(
    cue: NDArray[np.float64], answers: NDArray[np.int64], groups: NDArray[Any], seed: int
) -> dict[str, float | int | bool | None]:
    """Returns how well a cue alone predicts the labels.

    `balanced_accuracy` with `low` and `high` (99.9 % interval), `chance`, `skill` = (balanced accuracy - chance) /
    (1 - chance) with `skill_low`, `found`: the interval lies above chance and the skill is `MATTERS` or more. All
    but `chance` are None where an answer has fewer than two groups: then nothing can be said.

    Args:
        cue: `[N, F]`.
        answers: `[N]`, 0 to K - 1, each of them there.
        groups: `[N]`, what must not be on both sides of a fold.
        seed: of trees and resamples.
    """
    count = int(answers.max()) + 1
    chance = 1 / count
    folds = min(_FOLDS, *(len(set(groups[answers == k])) for k in range(count)))
    if count < 2 or folds < 2:
        names = ("balanced_accuracy", "low", "high", "skill", "skill_low", "found")
        return {"chance": round(chance, 4), **dict.fromkeys(names)}
    predicted = _guessed(cue, answers, groups, folds, seed)
    low, high = np.percentile(_resampled(predicted, answers, groups, count, seed), _INTERVAL)
    value = float(np.mean([(predicted[answers == k] == k).mean() for k in range(count)]))
    skill, skill_low = ((v - chance) / (1 - chance) for v in (value, float(low)))
    numbers = {"balanced_accuracy": value, "low": low, "high": high, "skill": skill, "skill_low": skill_low}
    return {
        "chance": round(chance, 4),
        **{name: round(float(number), 4) for name, number in numbers.items()},
        "found": skill_low > 0 and skill >= MATTERS,
    }


def _each_cue(rows: pd.DataFrame, answers: pd.Series, seed: int) -> dict[str, Any]:
    codes = pd.factorize(answers, sort=True)[0].astype(np.int64)
    groups = rows["group"].to_numpy()
    cues = {
        "file_size": rows[["file_bytes"]].to_numpy(np.float64),
        "aspect_ratio": (rows["width"] / rows["height"]).to_numpy(np.float64)[:, None],
        "corners": np.stack(list(rows["corners"])).astype(np.float64),
    }
    return {name: told_by(cues[name], codes, groups, seed) for name in CUES}


def _guessed(
    cue: NDArray[np.float64], answers: NDArray[np.int64], groups: NDArray[Any], folds: int, seed: int
) -> NDArray[np.int64]:
    """Returns what a tree that never saw a row's group guesses for it."""
    from sklearn.tree import DecisionTreeClassifier

    predicted, fold = np.empty_like(answers), _folds(answers, groups, folds)
    for k in range(folds):
        tree = DecisionTreeClassifier(
            max_depth=_DEPTH, min_samples_leaf=_LEAF, class_weight="balanced", random_state=seed
        )
        predicted[fold == k] = tree.fit(cue[fold != k], answers[fold != k]).predict(cue[fold == k])
    return predicted


def _folds(answers: NDArray[np.int64], groups: NDArray[Any], folds: int) -> NDArray[np.int64]:
    """Returns the fold of each row: whole groups, dealt out like cards after sorting by their most frequent answer.

    scikit-learn's `StratifiedGroupKFold` takes 7 s for 1,500 groups, this a millisecond. A group's name is a hash, so
    that its place among those of one answer is a draw.
    """
    names, codes = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), int(answers.max()) + 1), np.int64)
    np.add.at(counts, (codes, answers), 1)
    dealt = np.empty(len(names), np.int64)
    dealt[np.argsort(counts.argmax(axis=1), kind="stable")] = np.arange(len(names)) % folds
    return dealt[codes]


def _resampled(
    predicted: NDArray[np.int64], answers: NDArray[np.int64], groups: NDArray[Any], count: int, seed: int
) -> NDArray[np.float64]:
    """Returns the balanced accuracy of each bootstrap resample of whole groups; an absent answer is left out."""
    codes = np.unique(groups, return_inverse=True)[1]
    size = int(codes.max()) + 1
    total, right = np.zeros((size, count)), np.zeros((size, count))
    np.add.at(total, (codes, answers), 1)
    np.add.at(right, (codes, answers), predicted == answers)
    drawn = _drawn(size, seed)
    there = drawn @ total
    recall = np.divide(drawn @ right, there, out=np.full_like(there, np.nan), where=there > 0)
    return np.asarray(np.nanmean(recall, axis=1))


@lru_cache(maxsize=1)  # the cues of one question have the same groups, and drawing takes longer than the rest
def _drawn(size: int, seed: int) -> NDArray[np.float64]:
    """Returns how often each resample takes each group, `[_RESAMPLES, size]`."""
    drawn = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=_RESAMPLES)
    return drawn.astype(np.float64)
