"""What is wrong or odd with the raw images: contradictions, duplicates, broken files, and counts of the rest."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from isthmus.core.errors import DataError


class Bad(NamedTuple):
    """One file that is not used, and why."""

    path: str
    domain: str
    reason: str


WITHOUT = "is used without its {}: "  # how the reason of a target image begins that is used and not scored
_MASK = ["mask", "mask_sha256", "boxes"]
_SHOWN = 20  # bad files in one message


def contradictions(frame: pd.DataFrame, target: str, noun: str = "masks") -> list[Bad]:
    """Returns identical files that cannot all be right: of the source, two classes or masks; of all, two later images.

    Args:
        frame: columns `image_id`, `domain`, `path`, `class_name`, `mask_sha256`, `second_sha256`; one row a file and
            part.
        target: the target's name; its contradictory classes stay, as two rows of `labels_target`.
        noun: what `mask_sha256` is of.
    """
    source = frame[frame["domain"] != target]
    bad = set()
    for rows, column, what in (
        (source, "class_name", "are in {} classes: {}"),
        (source, "mask_sha256", f"have {{}} different {noun}"),
        (frame, "second_sha256", "have {} different second images"),
    ):
        odd = rows[rows.groupby("image_id")[column].transform("nunique") > 1]
        for _, same in odd.groupby("image_id"):
            names = sorted(set(same[column]))
            reason = f"identical files {what.format(len(names), ', '.join(names))}"
            bad |= {Bad(path, domain, reason) for path, domain in zip(same["path"], same["domain"], strict=True)}
    return sorted(bad)


def one_mask(frame: pd.DataFrame, target: str, noun: str = "mask") -> tuple[pd.DataFrame, list[Bad]]:
    """Returns a frame in which identical target files have one mask, and those that have none for they had several.

    Args:
        frame: as of `contradictions`, with `mask` and `boxes`.
        target: the target's name.
        noun: what `mask_sha256` is of.
    """
    bad: list[Bad] = []
    here = frame[(frame["domain"] == target) & frame["image_id"].duplicated(keep=False)]
    for _, same in here.groupby("image_id"):
        masks = same.loc[same["mask_sha256"] != "", _MASK]
        if (several := masks["mask_sha256"].nunique()) > 1:
            why = f"{WITHOUT.format(noun)}identical files have {several} different {plural(noun)}"
            bad += [Bad(path, target, why) for path in same["path"]]
        if len(masks):
            frame.loc[same.index, _MASK] = [""] * len(_MASK) if several > 1 else list(masks.iloc[0])
    return frame, bad


def plural(noun: str) -> str:
    """Returns several of what lies beside an image.

    >>> plural("mask"), plural("boxes")
    ('masks', 'boxes')
    """
    return noun if noun.endswith("s") else f"{noun}s"


def check_bad_share(bad: list[Bad], files: int, allowed: float) -> None:
    """Stops a run whose raw folder is mostly broken.

    Raises:
        DataError: with the first of the bad files and their number.
    """
    share = len(bad) / max(files, 1)
    if share > allowed:
        lines = [f"  {b.path}: {b.reason}" for b in bad[:_SHOWN]]
        more = [f"  ... and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else []
        raise DataError(
            "\n".join(
                [
                    f"{len(bad)} of {files} files cannot be used ({share:.1%}); 'ingest.max_bad_share' in params.yaml"
                    f" allows {allowed:.1%}:",
                    *lines,
                    *more,
                    "Repair or remove them, or raise 'ingest.max_bad_share', then run 'dvc repro' again",
                ]
            )
        )


def audit(manifest: pd.DataFrame, bad: list[Bad], files: int, target: str, classes: list[str]) -> dict[str, Any]:
    """Returns counts of everything; nothing in it depends on a label of the target or names a file.

    Args:
        manifest: `data/manifest.py: MANIFEST`.
        bad: files that are not used.
        files: all files that were found.
        target: the target's name.
        classes: names of the classes.
    """
    by_domain = {str(domain): rows for domain, rows in manifest.groupby("domain")}
    extra = {domain: int((rows["copies"] - 1).sum()) for domain, rows in by_domain.items()}
    return {
        "files": files,
        "images": {domain: len(rows) for domain, rows in by_domain.items()},
        "groups": {domain: int(rows["group"].nunique()) for domain, rows in by_domain.items()},
        "splits": {domain: _counts(rows["split"]) for domain, rows in by_domain.items()},
        "classes": {
            domain: {name: _counts(rows.loc[rows["label"] == number, "split"]) for number, name in enumerate(classes)}
            for domain, rows in by_domain.items()
            if domain != target
        },
        "sizes": {
            domain: _counts(
                rows["height"].astype(str) + "x" + rows["width"].astype(str) + "x" + rows["channels"].astype(str)
            )
            for domain, rows in by_domain.items()
        },
        "dtypes": {domain: _counts(rows["dtype"]) for domain, rows in by_domain.items()},
        "duplicates": sum(extra.values()),
        "duplicates_within": extra,
        "duplicates_across": _across(manifest),
        "groups_trained_and_tested": _trained_and_tested(manifest, target),
        "bad": len(bad),
        "bad_share": round(len(bad) / max(files, 1), 6),
        "bad_by_reason": dict(sorted(Counter(re.sub(r"\s*[(:].*", "", b.reason) for b in bad).items())),
        "bad_by_domain": dict(sorted(Counter(b.domain for b in bad).items())),
    }


def assumed_counts(files: Iterable[tuple[str, str, str]]) -> dict[str, dict[str, int]]:
    """Returns what files do not say and their reader took for granted -> domain -> how many files.

    Args:
        files: path, domain and what was assumed, empty for nothing; a file of several images may come several times.
    """
    counts: dict[str, dict[str, int]] = {}
    for _, domain, assumed in sorted(set(files)):
        if assumed:
            here = counts.setdefault(assumed, {})
            here[domain] = here.get(domain, 0) + 1
    return counts


def near_counts(near: list[tuple[str, str]], domain: dict[str, str], domains: list[str]) -> dict[str, Any]:
    """Returns how many images have a near-duplicate within their domain, and how many pairs cross domains.

    Args:
        near: pairs of image ids.
        domain: of each image that is used; pairs with another one do not count.
        domains: all domains.
    """
    kept = [pair for pair in near if pair[0] in domain and pair[1] in domain]
    within = {name for pair in kept if domain[pair[0]] == domain[pair[1]] for name in pair}
    return {
        "near_duplicates_within": {d: sum(domain[name] == d for name in within) for d in domains},
        "near_duplicates_across": sum(domain[one] != domain[other] for one, other in kept),
    }


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(value): int(count) for value, count in sorted(values.value_counts().items())}


def _trained_and_tested(manifest: pd.DataFrame, target: str) -> int:
    """Returns how many groups are trained on as source and tested on as target; only a user's own splits do that."""
    role = manifest["domain"] == target
    trained = manifest.loc[~role & (manifest["split"] == "train"), "group"]
    return len(set(trained) & set(manifest.loc[role & (manifest["split"] == "test"), "group"]))


def _across(manifest: pd.DataFrame) -> int:
    """Returns how many images have the same bytes as one of another domain."""
    domains = manifest.groupby(["sha256", "part"])["domain"].nunique()
    return int((domains > 1).sum())
