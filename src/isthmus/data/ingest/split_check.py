"""Refuses splits that leak or that a later stage cannot use, and says which groups are where and what to do.

An empty split is not filled up. Which groups would fill it depends on all the others, so that a sample would move
when some are added, and what was tested on yesterday would be trained on today (docs/decisions/0007-empty-splits.md).
"""

import math
from collections.abc import Iterator

import pandas as pd

from isthmus.core.errors import DataError
from isthmus.data.ingest.split import Splits, assign_splits

NEEDED = ("train", "val", "cal", "test")
NEEDED_OF_TARGET = ("train", "test")
_SHOWN = 20  # problems in one message
_GROUPS_SHOWN = 12  # names of groups in one line
_SEEDS = 100  # that are tried for one that fills every split
_SURE = 0.95


def check_splits(frame: pd.DataFrame, domains: list[str], classes: list[str], splits: Splits) -> None:
    """Checks that no group crosses splits and that every split a stage needs has images.

    Args:
        frame: columns `domain`, `group`, `named` (the group as the user calls it), `given` (the user's split or None),
            `split`, `path`, `label` (class index; null for the target).
        domains: all domains, the target last.
        classes: names of the classes.
        splits: shares that were asked for.

    Raises:
        DataError: all problems at once.
    """
    target = domains[-1]
    problems = list(_leaks(frame))
    empty = [problem for domain in domains for problem in _empty(frame, domain, target, splits)]
    untrained = list(_untrained(frame, target, classes))
    if empty or untrained:
        untrained.append(_other_seed(frame, domains, len(classes), splits))
    problems += empty + untrained
    if problems:
        raise DataError("\n".join(problems[:_SHOWN]) + "\nThen run 'dvc repro' again")


def _leaks(frame: pd.DataFrame) -> Iterator[str]:
    crossing = frame[frame.groupby(["domain", "group"])["split"].transform("nunique") > 1]
    for (domain, _), rows in crossing.groupby(["domain", "group"]):
        ways = ", ".join(f"{split}: {members['path'].iloc[0]}" for split, members in rows.groupby("split"))
        yield (
            f"leak in domain '{domain}': one group ({_names(rows)}; joined by lot, patient or scene, by the same bytes"
            f" or by near-duplicates) is in {rows['split'].nunique()} splits ({ways}). Give the group one split in the"
            " table's column 'split'"
        )


def _empty(frame: pd.DataFrame, domain: str, target: str, splits: Splits) -> Iterator[str]:
    rows = frame[frame["domain"] == domain]
    there = rows["split"].value_counts().to_dict()
    needed = NEEDED_OF_TARGET if domain == target else NEEDED
    if empty := [split for split in needed if split not in there]:
        shares = (splits.target if domain == target else splits.source).model_dump()
        got = "; ".join(
            f"{split} {there[split]} images of {_names(rows[rows['split'] == split])}"
            for split in needed
            if split in there
        )
        count = rows["group"].nunique()
        yield (
            f"domain '{domain}': no image in split {', '.join(empty)} (got {got or 'none'}; {count} groups in all)."
            f" {_why(count, [shares[split] for split in empty])} Add groups, give {', '.join(empty)} a larger share in"
            " 'ingest.splits' in params.yaml, or name splits in a table's column 'split'"
        )


def _why(groups: int, shares: list[float]) -> str:
    """Returns how likely an empty split is, and with how many groups it is not.

    >>> _why(10, [0.1])
    'A hash of each group draws its split: with 10 groups a share of 0.1 stays empty in 35% of draws, with 29 in 5%.'
    """
    least = min(shares)
    if not 0 < least < 1:
        return "Its share is 0." if least == 0 else ""
    enough = math.ceil(math.log(1 - _SURE) / math.log(1 - least))
    return (
        f"A hash of each group draws its split: with {groups} groups a share of {least:g} stays empty in"
        f" {(1 - least) ** groups:.0%} of draws, with {enough} in {1 - _SURE:.0%}."
    )


def _untrained(frame: pd.DataFrame, target: str, classes: list[str]) -> Iterator[str]:
    source = frame[frame["domain"] != target]
    trained = set(source.loc[source["split"] == "train", "label"].dropna())
    for number, name in enumerate(classes):
        rows = source[source["label"] == number]
        if number not in trained:
            yield (
                f"class '{name}': none of its {len(rows)} source images fell into split 'train' (they are of"
                f" {_names(rows)}). Add groups of it, or change 'ingest.splits' in params.yaml"
            )


def _other_seed(frame: pd.DataFrame, domains: list[str], classes: int, splits: Splits) -> str:
    """Returns the least seed that gives every split its groups, for the error message."""
    once = frame.drop_duplicates(["domain", "group", "given", "label"])
    for seed in range(_SEEDS):
        split = assign_splits(once, domains[-1], splits, seed)
        drawn = once.assign(split=split).groupby("domain")["split"].agg(set)
        full = all(drawn[d] >= set(NEEDED_OF_TARGET if d == domains[-1] else NEEDED) for d in domains)
        trained = once.loc[[s == "train" for s in split], "label"].dropna().nunique()
        if full and trained == classes:
            return f"With these groups 'split_seed: {seed}' of the scenario in params.yaml fills every split"
    return f"No 'split_seed' below {_SEEDS} fills every split with these groups"


def _names(rows: pd.DataFrame) -> str:
    names = sorted(set(rows["named"]))
    more = f" and {len(names) - _GROUPS_SHOWN} more" if len(names) > _GROUPS_SHOWN else ""
    return f"group {', '.join(names[:_GROUPS_SHOWN])}{more}"
