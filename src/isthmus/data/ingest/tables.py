"""Rows of decoded files -> the tables of a scenario: manifest, locations, target labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from isthmus.core.errors import DataError
from isthmus.core.progress import track
from isthmus.data.audit.label_noise import label_facts
from isthmus.data.audit.limits import Limits, check_limits
from isthmus.data.audit.near_duplicates import near_pairs
from isthmus.data.audit.pixel_facts import PixelFacts, pixel_summary
from isthmus.data.audit.shortcut import shortcuts
from isthmus.data.audit.small_images import Pictures
from isthmus.data.audit.summary import (
    WITHOUT,
    Bad,
    assumed_counts,
    audit,
    check_bad_share,
    contradictions,
    near_counts,
    one_mask,
    plural,
)
from isthmus.data.bounds import Bounds
from isthmus.data.ingest.boxed import coco_faults
from isthmus.data.ingest.identity import read_key
from isthmus.data.ingest.scan import Row, image_id, mostly, read_image_facts, scan
from isthmus.data.ingest.split import (
    Splits,
    assign_splits,
    dealt_split,
    group_key,
    group_text,
    joined_groups,
    realised_shares,
)
from isthmus.data.ingest.split_check import check_splits
from isthmus.data.ingest.table import Found
from isthmus.data.ingest.volumes import volumes
from isthmus.data.manifest import COMPANIONS, LOCATIONS, MANIFEST
from isthmus.data.masks import MaskConfig
from isthmus.data.names import private_reason, shown_name
from isthmus.data.scenario import Scenario
from isthmus.data.workers import in_order


class IngestConfig(Limits):
    """How raw files become rows, and what stops the run."""

    max_bad_share: float = Field(0.2, ge=0, le=1, description="[share] of files that may be broken")
    splits: Splits = Splits()
    files: Bounds = Bounds()
    workers: int = Field(2, ge=1, le=64, description="processes that decode")
    near_duplicates: float = Field(
        0.05,
        ge=0,
        le=0.5,
        description="[share of contrast] by which the thumbnails of two near-duplicates may differ;"
        " near-duplicates of a "
        "domain form one group; 0: exact copies only",
    )
    identity_key: Path | None = Field(
        None,
        description="key file outside git, with which the PatientID of a DICOM file (else its study) is hashed when it "
        "becomes the group; absolute or from ~; needed only for DICOM without 'group'",
    )


@dataclass(frozen=True)
class Ingested:
    """The tables of a scenario, each as its contract in `data/manifest.py` says."""

    manifest: pd.DataFrame
    locations: pd.DataFrame
    companions: pd.DataFrame
    target_labels: pd.DataFrame
    audit: dict[str, Any]
    bad: list[Bad]


def ingest(raw: Path, scenario: Scenario, config: IngestConfig, seed: int) -> Ingested:
    """Finds, decodes, audits and splits the images of a scenario.

    Raises:
        DataError: the raw folder does not hold what the scenario says, or too much of it is broken.
    """
    seen, answers = scan(raw, scenario), scenario.annotation_config()
    found, bad = seen.found, seen.bad
    files = len(found) + len(bad)
    rows: list[Row] = []
    unscored: list[Bad] = []  # target images without their masks: no count depends on what those hold
    if answers.boxes:
        faults = _box_faults(raw, [*found, *bad], found, scenario)
        bad += [fault for fault in faults if fault.domain != scenario.target]
        unscored += [fault for fault in faults if fault.domain == scenario.target]
    key = None if config.identity_key is None else read_key(config.identity_key)
    with Pictures() as pictures:
        read = partial(
            read_image_facts, raw, key=key, tiles=scenario.tiles, bounds=config.files, answers=answers,
            classes=scenario.classes, target=scenario.target,
        )  # fmt: skip
        decoded = in_order(read, found, config.workers)
        for result in track(decoded, "decode", len(found), "file"):
            if isinstance(result, Bad):
                bad.append(result._replace(reason=private_reason(result.reason, result.path, scenario.kind)))
            else:
                rows += [_without_pixels(row, pictures) for row in result]
                unscored += [_unscored(row.found, row.beside.refused, scenario) for row in result if row.beside.refused]
        taken = None if scenario.volumes is None else volumes(rows, scenario.volumes, raw)
        if taken is not None:
            rows, bad = [row for volume in taken.rows for row in volume], [*bad, *taken.bad]
        frame, two_masks = one_mask(_frame(rows), scenario.target, answers.noun)
        near = _near(frame, pictures, config.near_duplicates)
    contradicting = contradictions(frame, scenario.target, plural(answers.noun))
    bad = [_shown(b, seen.names, scenario) for b in sorted([*bad, *contradicting])]
    unscored = [_shown(b, seen.names, scenario) for b in [*unscored, *two_masks]]
    check_bad_share(bad, files, config.max_bad_share)
    twice = frame["path"].isin({b.path for b in contradicting})
    names = _names(frame, scenario)
    two_labels = sorted(set(frame.loc[twice, "image_id"]))
    frame = frame[~twice]
    _check_used(frame, bad, scenario)
    split_seed = seed if scenario.split_seed is None else scenario.split_seed
    tables = _tables(frame, near, scenario, config.splits, split_seed)
    manifest, locations, companions = (tables[schema.names] for schema in (MANIFEST, LOCATIONS, COMPANIONS))
    counts = audit(manifest, bad, files, scenario.target, scenario.classes)
    counts |= near_counts(near, dict(zip(frame["image_id"], frame["domain"], strict=True)), scenario.domains)
    if taken is not None:
        counts["volumes"] = taken.counts()
    counts |= {"files_not_in_table": seen.unlisted, "lines_of_other_domains": seen.elsewhere, "beside": seen.beside}
    counts["assumed"] = assumed_counts((row.found.path, row.found.domain, row.assumed) for row in rows)
    counts |= _odd(frame, manifest, near, scenario, config, seed)
    if answers.cells:
        counts["boxes" if answers.boxes else "mask_pixels"] = _mask_pixels(tables, scenario)
    counts["labels"]["two_labels"] = two_labels
    check_limits(config, counts, names)
    return Ingested(manifest, locations, companions, _target_labels(frame, scenario), counts, sorted({*bad, *unscored}))


def _check_used(frame: pd.DataFrame, bad: list[Bad], scenario: Scenario) -> None:
    """Checks that each domain has an image left: the share of bad files is of all domains together."""
    problems = []
    for domain in scenario.domains:
        if (frame["domain"] == domain).any():
            continue
        reasons = [b.reason for b in bad if b.domain == domain]
        problems.append(
            f"domain '{domain}': none of its images can be used ({len(reasons)} files are refused{mostly(reasons)})."
            " Repair or replace them"
        )
    if problems:
        raise DataError("\n".join(problems) + "\nThen run 'dvc repro' again")


def _shown(bad: Bad, names: dict[str, str], scenario: Scenario) -> Bad:
    """Returns it with the name that may be shown; files with annotations are not among those that may be images."""
    name = names.get(bad.path) or shown_name(bad.path, scenario.kind, "a file with annotations")
    return bad._replace(path=name)


def _box_faults(raw: Path, images: Sequence[Found | Bad], found: Sequence[Found], scenario: Scenario) -> list[Bad]:
    """Returns what COCO files hold of images that are not there, as of the target where it has its boxes from them."""
    domains: dict[str, str] = {}
    for f in found:
        if f.mask and f.mask.endswith(".json") and domains.get(f.mask) != scenario.target:
            domains[f.mask] = f.domain
    paths = [image.path for image in images]
    return [b for name, domain in sorted(domains.items()) for b in coco_faults(raw, name, domain, paths, scenario.kind)]


def _unscored(found: Found, why: str, scenario: Scenario) -> Bad:
    beside = [path for path in (found.path, found.mask) if path]
    for path in beside:
        why = private_reason(why, path, scenario.kind)
    return Bad(found.path, found.domain, f"{WITHOUT.format(scenario.annotation_config().noun)}{why}")


def _mask_pixels(tables: pd.DataFrame, scenario: Scenario) -> dict[str, dict[str, int]]:
    """Returns source domain -> class -> pixels of its masks, or boxes; the target's are not looked at.

    Raises:
        DataError: a class has no pixel, or no box, in the training images of the source.
    """
    source = tables[tables["domain"] != scenario.target]
    counts = np.stack([np.asarray(row, np.int64) for row in source["pixels"]])
    trained = counts[(source["split"] == "train").to_numpy()].sum(axis=0)
    if scenario.annotation_config().boxes:
        return _box_counts(source, counts, trained, scenario)
    if missing := [name for name, count in zip(scenario.classes, trained, strict=True) if not count]:
        config = scenario.annotation_config()
        assert isinstance(config, MaskConfig)
        said = ", ".join(
            f"{v} {name}" for v, name in zip(config.value_of(scenario.classes), scenario.classes, strict=True)
        )
        raise DataError(
            f"no pixel of class {', '.join(missing)} in the masks of the source's training images. The values are read"
            f" as {said}; not scored: {config.ignore}. Correct 'annotations.values' or 'annotations.ignore' of the"
            " scenario in params.yaml, or add images, then run 'dvc repro' again"
        )
    return _by_domain(source, counts, scenario.classes)


def _box_counts(
    source: pd.DataFrame, counts: NDArray[np.int64], trained: NDArray[np.int64], scenario: Scenario
) -> dict[str, dict[str, int]]:
    if missing := [name for name, count in zip(scenario.classes[1:], trained[1:], strict=True) if not count]:
        raise DataError(
            f"no box of class {', '.join(missing)} in the source's training images. The first of 'classes',"
            f" {scenario.classes[0]}, is what lies outside of boxes. Correct 'classes' or 'annotations.names' of the"
            " scenario in params.yaml, or add images, then run 'dvc repro' again"
        )
    return _by_domain(source, counts[:, 1:], scenario.classes[1:])


def _by_domain(source: pd.DataFrame, counts: NDArray[np.int64], classes: list[str]) -> dict[str, dict[str, int]]:
    return {
        str(domain): {n: int(c) for n, c in zip(classes, counts[rows].sum(axis=0), strict=True)}
        for domain, rows in source.reset_index(drop=True).groupby("domain").indices.items()
    }


def _names(frame: pd.DataFrame, scenario: Scenario) -> dict[str, str]:
    """Returns image id -> its files, as messages may name them."""
    ids, paths = list(frame["image_id"]), list(frame["path"])
    rows = pd.DataFrame({"id": ids, "name": [shown_name(p, scenario.kind, i) for p, i in zip(paths, ids, strict=True)]})
    return {str(i): " and ".join(names) for i, names in rows.drop_duplicates().groupby("id")["name"]}


def _odd(
    frame: pd.DataFrame,
    manifest: pd.DataFrame,
    near: list[tuple[str, str]],
    scenario: Scenario,
    config: IngestConfig,
    seed: int,
) -> dict[str, Any]:
    """Returns what is odd with pixels, labels and splits, and what gives domain or class away."""
    facts = frame.drop_duplicates("image_id")[["image_id", *PixelFacts._fields]]
    images = manifest.merge(facts, on="image_id", validate="1:1")
    return {
        "pixels": pixel_summary(images, config.saturated_above),
        "labels": label_facts(images, near, scenario.target, scenario.classes),
        "shares": realised_shares(images, scenario.target, config.splits),
        "shortcuts": shortcuts(images, scenario.target, seed),
    }


def _frame(rows: list[Row]) -> pd.DataFrame:
    columns = {
        "image_id": [image_id(r.found.domain, r.sha256, r.part) for r in rows],
        "path": [r.found.path for r in rows],
        "domain": [r.found.domain for r in rows],
        "class_name": [r.found.label for r in rows],
        "given": [r.found.split for r in rows],
        "named": [r.found.group for r in rows],
        "group": [group_key(_entity(r) + _block(r)) for r in rows],
        "whole": [_entity(r) for r in rows],
        "mask": [(r.found.mask or "") if r.beside.mask_sha256 else "" for r in rows],
        "mask_sha256": [r.beside.mask_sha256 for r in rows],
        "boxes": [r.beside.boxes for r in rows],
        "second": [r.found.second or "" for r in rows],
        "second_sha256": [r.beside.second_sha256 for r in rows],
        "pixels": [r.beside.pixels for r in rows],
        "block": [r.block for r in rows],
        "series": [r.slice.series if r.slice else "" for r in rows],
        **{
            name: [getattr(r, name) for r in rows]
            for name in ("sha256", "part", "height", "width", "channels", "dtype", "file_bytes", "small")
        },
        **{name: [getattr(r.facts, name) for r in rows] for name in PixelFacts._fields},
    }
    return pd.DataFrame(columns).sort_values(["image_id", "path"], kind="stable").reset_index(drop=True)


def _entity(row: Row) -> str:
    """Returns what an image belongs to: the user's group, the person whom its file names, or its own bytes."""
    if row.found.group:
        return group_text(row.found.group)
    return f"person {row.person}" if row.person else f"bytes {row.sha256}"


def _block(row: Row) -> str:
    """Returns which block of a large frame an image is a tile of; empty for the first, and where there are none."""
    return f" block {row.block}" if row.block else ""


def _without_pixels(row: Row, pictures: Pictures) -> Row:
    """Returns a row whose small picture lies in `pictures`: its place there stands in its stead."""
    assert not isinstance(row.small, int)
    return replace(row, small=pictures.add(row.small))


def _near(frame: pd.DataFrame, pictures: Pictures, tolerance: float) -> list[tuple[str, str]]:
    """Returns pairs of ids of images that look alike and are not the same bytes."""
    if tolerance == 0:
        return []
    unique = frame.drop_duplicates("image_id")
    ids, shas, seen = list(unique["image_id"]), list(unique["sha256"]), pictures.chosen(list(unique["small"]))
    return [(ids[i], ids[j]) for i, j in near_pairs(seen, tolerance) if shas[i] != shas[j]]


def _tables(
    frame: pd.DataFrame, near: list[tuple[str, str]], scenario: Scenario, splits: Splits, seed: int
) -> pd.DataFrame:
    """Returns a row an image with the columns of all tables, and those of its files' counts."""
    frame = frame.copy()
    place = {
        name: (domain, group) for name, domain, group in frame[["image_id", "domain", "group"]].itertuples(index=False)
    }
    alike = [
        (place[name][1], f"near {k}")
        for k, pair in enumerate(near)
        if all(name in place for name in pair) and place[pair[0]][0] == place[pair[1]][0]
        for name in pair
    ]
    if scenario.volumes is not None:  # no slice of a volume is trained on while another one is tested on
        alike += [(group, f"series {series}") for group, series in frame[["group", "series"]].itertuples(index=False)]
    joined = joined_groups(
        [*frame["group"], *(group for group, _ in alike)],
        [*(frame["sha256"] + frame["block"].map(" {}".format)), *(link for _, link in alike)],
    )
    frame["group"] = [joined[group] for group in frame["group"]]
    if scenario.tiles is not None and scenario.tiles.blocks > 1:
        frame["given"] = _dealt(frame, scenario, splits, seed)
    frame["split"] = assign_splits(frame, scenario.target, splits, seed)
    number = {name: place for place, name in enumerate(scenario.classes)}
    source = frame["domain"] != scenario.target
    labelled = scenario.annotation_config().labelled
    known = source & labelled
    labels = [number[name] if here else None for name, here in zip(frame["class_name"], known, strict=True)]
    frame["label"] = pd.array(labels, dtype="Int32")
    learnt = scenario.annotation_config().learnt(scenario.classes)
    check_splits(_to_say(frame, scenario), scenario.domains, learnt, splits)
    frame["copies"] = frame.groupby("image_id")["path"].transform("count")
    return frame.drop_duplicates("image_id").reset_index(drop=True)


def _dealt(frame: pd.DataFrame, scenario: Scenario, splits: Splits, seed: int) -> list[str]:
    """Returns the split of each tile, the user's or that of its block."""
    assert scenario.tiles is not None
    blocks = scenario.tiles.blocks
    return [
        given
        if isinstance(given, str)
        else dealt_split(whole, block, blocks, seed, splits.shares(domain == scenario.target))
        for given, whole, block, domain in frame[["given", "whole", "block", "domain"]].itertuples(index=False)
    ]


def _to_say(frame: pd.DataFrame, scenario: Scenario) -> pd.DataFrame:
    """Returns the frame with groups and files as messages may name them: of medical images neither name nor path."""
    path = [shown_name(p, scenario.kind, i) for p, i in zip(frame["path"], frame["image_id"], strict=True)]
    named = [
        shown_name(name if isinstance(name, str) else here, scenario.kind, group)
        for name, here, group in zip(frame["named"], path, frame["group"], strict=True)
    ]
    return frame.assign(named=named, path=path)


def _target_labels(frame: pd.DataFrame, scenario: Scenario) -> pd.DataFrame:
    labelled = frame[(frame["domain"] == scenario.target) & frame["class_name"].notna()]
    number = {name: place for place, name in enumerate(scenario.classes)}
    labels = pd.DataFrame({"image_id": labelled["image_id"], "label": [number[n] for n in labelled["class_name"]]})
    return labels.drop_duplicates().sort_values(["image_id", "label"]).reset_index(drop=True)
