"""Which target images are explained: right and wrong ones where labels exist, else the surest and the least sure."""

import numpy as np
import pandas as pd


def cases(predictions: pd.DataFrame, target: str, count: int) -> pd.DataFrame:
    """Returns up to `count` rows of the target's test split with a column `case`.

    Where labels exist: `wrong`, the surest mistakes first, and as many `right` ones, the surest first, each time one a
    predicted class in turn, so that one class does not fill the list. Else `surest` and `least sure`.

    Args:
        predictions: columns `image_id, domain, split, predicted, confidence, correct`.
        target: the domain.
        count: [image] at most; half of each case.
    """
    rows = predictions[(predictions["domain"] == target) & (predictions["split"] == "test")]
    known = rows[rows["correct"].notna()]
    if len(known):
        correct = known["correct"].astype(bool)
        parts = (("wrong", known[~correct], False), ("right", known[correct], False))
    else:
        parts = (("least sure", rows, True), ("surest", rows, False))
    taken: list[pd.DataFrame] = []
    for number, (case, part, ascending) in enumerate(parts):
        wanted = (count - sum(map(len, taken))) // (len(parts) - number)
        free = part[~part.index.isin([place for found in taken for place in found.index])]
        taken.append(_in_turn(free, wanted, ascending).assign(case=case))
    return pd.concat(taken).reset_index(drop=True)


def _in_turn(rows: pd.DataFrame, count: int, ascending: bool) -> pd.DataFrame:
    """Returns rows by confidence, one a predicted class in turn; equal ones by id."""
    ordered = rows.sort_values(["confidence", "image_id"], ascending=[ascending, True])
    turn = ordered.groupby("predicted").cumcount().to_numpy()
    return ordered.iloc[np.argsort(turn, kind="stable")[:count]]
