"""Refuses splits that leak or that a later stage cannot use, and says which groups are where and what to do.

An empty split is not filled up. Which groups would fill it depends on all the others, so that a sample would move
when some are added, and what was tested on yesterday would be trained on today (docs/decisions/0007-empty-splits.md).
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from isthmus.core.errors import DataError
from isthmus.data.ingest.split import Splits, assign_splits, group_key, group_text
from isthmus.data.ingest.table import Found
from isthmus.data.names import shown_name
from isthmus.data.scenario import Scenario

NEEDED = ("train", "val", "cal", "test")
NEEDED_OF_TARGET = ("train", "test")
_SHOWN = 20  # problems in one message
_GROUPS_SHOWN = 12  # names of groups in one line
_SEEDS = 100  # that are tried for one that fills every split
_SURE = 0.95


def check_known_groups(
    found: Sequence[Found], names: Mapping[str, str], scenario: Scenario, splits: Splits, seed: int
) -> None:
    """Checks the splits before anything is decoded, where the user gives the group of every file.

    Groups that hold the same bytes or near-duplicates are not joined yet, so `ingest` checks again. Nothing is checked
    where a file's own content is its group, or frames are cut into blocks.

    Args:
        found: files of the scenario.
        names: path -> the name that messages may hold.
        scenario: whose files these are.
        splits: their shares, as params.yaml sets them.
        seed: of the project; the scenario's own goes first.

    Raises:
        DataError: as `check_splits`.
    """
    blocks = 1 if scenario.tiles is None else scenario.tiles.blocks
    if blocks > 1 or not all(f.group for f in found):
        return
    answers, target = scenario.annotation_config(), scenario.target
    place = {name: number for number, name in enumerate(scenario.classes)}
    known = [answers.labelled and f.domain != target for f in found]
    group = [group_key(group_text(str(f.group))) for f in found]
    frame = pd.DataFrame(
        {
            "domain": [f.domain for f in found],
            "group": group,
            "named": [shown_name(str(f.group), scenario.kind, key) for f, key in zip(found, group, strict=True)],
            "given": [f.split for f in found],
            "path": [names[f.path] for f in found],
            "label": pd.array([place[str(f.label)] if k else None for f, k in zip(found, known, strict=True)], "Int32"),
        }
    )
    frame["split"] = assign_splits(frame, target, splits, seed if scenario.split_seed is None else scenario.split_seed)
    check_splits(frame, scenario.domains, answers.learnt(scenario.classes), splits)


def check_splits(frame: pd.DataFrame, domains: list[str], classes: list[str], splits: Splits) -> None:
    """Checks that no group crosses splits and that every split a stage needs has images.

    Args:
        frame: columns `domain`, `group`, `named` (the group as the user calls it), `given` (the user's split or None),
            `split`, `path`, `label` (class index; null for the target).
        domains: all domains, the target last.
        classes: names of the classes.
        splits: their shares, as params.yaml sets them.

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
        trained = set(once.loc[[s == "train" for s in split], "label"].dropna())  # defects too, which none need be
        if full and trained >= set(range(classes)):
            return f"With these groups 'split_seed: {seed}' of the scenario in params.yaml fills every split"
    return f"No 'split_seed' below {_SEEDS} fills every split with these groups"


def _names(rows: pd.DataFrame) -> str:
    names = sorted(set(rows["named"]))
    more = f" and {len(names) - _GROUPS_SHOWN} more" if len(names) > _GROUPS_SHOWN else ""
    return f"group {', '.join(names[:_GROUPS_SHOWN])}{more}"
