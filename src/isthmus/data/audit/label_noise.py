"""What may be wrong with the labels of the source. The target's are not looked at here: only `evaluate` opens them."""

from typing import Any

import pandas as pd


def label_facts(images: pd.DataFrame, near: list[tuple[str, str]], target: str, classes: list[str]) -> dict[str, Any]:
    """Returns what the labels of each source domain look like.

    `missing`: domain -> classes without an image. `imbalance`: domain -> images of its largest class for each image of
    its smallest one that is there [ratio]. `near_two_labels`: pairs of ids, near-duplicates of which one is labelled as
    this and one as that.

    Args:
        images: columns `image_id, domain, label` (class index; null for the target).
        near: pairs of ids of near-duplicates.
        target: the target's name.
        classes: names of the classes.
    """
    source = images[(images["domain"] != target) & images["label"].notna()]  # none where answers are masks
    counts = {str(d): rows["label"].value_counts() for d, rows in source.groupby("domain")}
    label = {i: int(v) for i, v in zip(source["image_id"], source["label"], strict=True)}
    two = [list(pair) for pair in near if all(i in label for i in pair) and label[pair[0]] != label[pair[1]]]
    return {
        "missing": {d: [name for k, name in enumerate(classes) if k not in n.index] for d, n in counts.items()},
        "imbalance": {d: round(float(n.max() / n.min()), 4) for d, n in counts.items()},
        "near_two_labels": sorted(two),
    }
