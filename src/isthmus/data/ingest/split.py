"""Which images stay together, and who is trained on: by hash, so that no sample moves when others come or go."""

import hashlib
from collections.abc import Iterable

import pandas as pd
from pydantic import Field, model_validator

from isthmus.core.config import Config
from isthmus.core.seeds import uniform_from

_TOLERANCE = 1e-9  # of a sum of shares that are written in decimals


class _Shares(Config):
    @model_validator(mode="after")
    def _sum_to_one(self) -> "_Shares":
        total = sum(self.model_dump().values())
        if abs(total - 1) > _TOLERANCE:
            raise ValueError(f"shares must sum to 1 (sum is {total:g})")
        return self


class SourceShares(_Shares):
    """Shares of the source's groups."""

    train: float = Field(0.6, gt=0, le=1, description="training, with labels")
    val: float = Field(0.15, ge=0, lt=1, description="source floor, label-free estimators")
    cal: float = Field(0.1, ge=0, lt=1, description="temperature, conformal sets")
    test: float = Field(0.15, ge=0, lt=1, description="evaluation alone")


class TargetShares(_Shares):
    """Shares of the target's groups."""

    train: float = Field(0.7, gt=0, le=1, description="adaptation and validators, without labels")
    test: float = Field(0.3, ge=0, lt=1, description="evaluation alone")


class Splits(Config):
    """Shares of both roles."""

    source: SourceShares = SourceShares()
    target: TargetShares = TargetShares()

    def shares(self, target: bool) -> dict[str, float]:
        """Returns split -> share, of the target or of a source."""
        return (self.target if target else self.source).model_dump()


def group_key(value: str) -> str:
    """Returns the keyed hash that stands for a lot, patient or scene in the manifest, 16 hex digits."""
    return hashlib.blake2b(value.encode(), digest_size=8, key=b"isthmus group").hexdigest()


def group_text(group: str) -> str:
    """Returns what `group_key` hashes of a group that the user gave."""
    return f"group {group}"


def joined_groups(groups: Iterable[str], contents: Iterable[str]) -> dict[str, str]:
    """Returns group -> the group it belongs to, after groups that hold the same bytes became one.

    The smallest key of a cluster stands for it.

    >>> joined_groups(["a", "b", "c"], ["same", "same", "other"])
    {'a': 'a', 'b': 'a', 'c': 'c'}
    """
    parent: dict[str, str] = {}

    def root(group: str) -> str:
        while (above := parent.setdefault(group, group)) != group:
            parent[group] = parent[above]
            group = above
        return group

    first: dict[str, str] = {}
    for group, content in zip(groups, contents, strict=True):
        low, high = sorted((root(group), root(first.setdefault(content, group))))
        parent[high] = low
    return {group: root(group) for group in sorted(parent)}


def split_by_hash(group: str, seed: int, shares: dict[str, float]) -> str:
    """Returns the split of a group: where its number in [0, 1) falls among the cumulated shares.

    A group has one number for source and target, so that a patient or lot seen by both is, with the default
    shares, never trained on as source and tested on as target.

    >>> split_by_hash("0123", 0, {"train": 1.0})
    'train'
    """
    place, total, upper = uniform_from(group, seed), sum(shares.values()), 0.0
    for name, share in shares.items():
        upper += share / total
        if place < upper:
            return name
    return name


def dealt_split(frame: str, block: int, blocks: int, seed: int, shares: dict[str, float]) -> str:
    """Returns the split of one block of a large frame.

    A frame has few blocks and always as many, so they are not drawn one by one as groups are, but dealt out: each split
    with a share gets at least one, in an order that a hash of the frame gives.

    Args:
        frame: what tells the frame from others.
        block: its number, from 0.
        blocks: of the frame.
        seed: of the split.
        shares: of the splits.

    >>> [dealt_split("scene", block, 4, 0, {"train": 0.7, "test": 0.3}) for block in range(4)].count("test")
    1
    """
    wanted = {name: share for name, share in shares.items() if share > 0}
    counts = {name: max(1, int(blocks * share)) for name, share in wanted.items()}
    largest = max(wanted, key=lambda name: wanted[name])
    counts[largest] = max(1, blocks - sum(count for name, count in counts.items() if name != largest))
    names = [name for name, count in counts.items() for _ in range(count)]
    order = sorted(range(blocks), key=lambda number: uniform_from(frame, number, seed))
    return names[min(order.index(block), len(names) - 1)]


def assign_splits(frame: pd.DataFrame, target: str, splits: Splits, seed: int) -> list[str]:
    """Returns the split of each row.

    The user's own split wins. Splits that the user's table does not name are carved out of its `train` rows in
    proportion: a source that names `train` and `test` gets `val` and `cal` from `train`, and `test` stays.

    Args:
        frame: columns `domain`, `group`, `given` (the user's split or None).
        target: the target's name.
        splits: shares of both roles.
        seed: of the split.
    """
    named = {domain: set(rows["given"].dropna()) for domain, rows in frame.groupby("domain")}
    out = []
    for domain, group, given in frame[["domain", "group", "given"]].itertuples(index=False):
        shares = splits.shares(domain == target)
        if isinstance(given, str) and given != "train":
            out.append(given)
            continue
        if isinstance(given, str):
            shares = {k: v for k, v in shares.items() if k == "train" or k not in named[domain]}
        out.append(split_by_hash(group, seed, shares))
    return out


def realised_shares(images: pd.DataFrame, target: str, splits: Splits) -> dict[str, dict[str, dict[str, float]]]:
    """Returns domain -> split -> `images`, `groups` (realised) and `wanted` (of groups) [share].

    Args:
        images: columns `domain`, `group`, `split`.
        target: the target's name.
        splits: what was asked for; a split of the user's own table may differ.
    """
    out: dict[str, dict[str, dict[str, float]]] = {}
    for domain, rows in images.groupby("domain"):
        wanted = (splits.target if domain == target else splits.source).model_dump()
        groups = rows.groupby("split")["group"].nunique()
        out[str(domain)] = {
            split: {
                "images": round(float((rows["split"] == split).mean()), 4),
                "groups": round(int(groups.get(split, 0)) / rows["group"].nunique(), 4),
                "wanted": share,
            }
            for split, share in wanted.items()
        }
    return out
