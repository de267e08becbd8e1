"""Measures how far the source lies from the target, on frozen features. No label of the target is used.

Writes a folder:
- `shift.json`: `pairs` (each source domain and `pooled` against the target), `control` (two random halves of the
  source: what the measures say where there is no shift), `zscored` (pooled, each domain standardised by itself),
  `images` (available and used per domain), `map` (share of variance of the two axes), `advice` (sentences),
  `label_shift` (class shares of the target where a fit test passes, by a linear probe on the source's features),
  `transferability` (how well the backbone's features carry the source's labels, with standard errors);
- `map.parquet`: `image_id, x, y, tsne_x, tsne_y` of the images used: principal components with equal weight for each
  domain, and t-SNE of the first images of each (NaN: not among them).

Only training splits are looked at, and of the source val and cal for the probe's scores: the target's test images
stay unseen. A domain with more than
`max_images` is cut to its first ones in the order of `image_id`, which is a hash: a random but fixed subset.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field

from isthmus.core.config import Config
from isthmus.core.errors import DataError
from isthmus.core.files import atomic_folder, write_json
from isthmus.core.seeds import derive_seed
from isthmus.data.manifest import INDEX, read_table, write_table
from isthmus.data.scenario import Scenario
from isthmus.data.shards import Rows
from isthmus.evaluation.scoring.transferability import transferability
from isthmus.evaluation.shift.distances import Features, advise, compare, mmd, narrow, plane, standardise
from isthmus.evaluation.shift.label_shift import Scores, label_shift, probe_scores
from isthmus.evaluation.shift.neighbours import neighbour_map
from isthmus.evaluation.trained import Samples, read_samples
from isthmus.stages._cli import stage

_AXES = ("x", "y", "tsne_x", "tsne_y")
MAP = pa.schema([("image_id", pa.string()), *((name, pa.float32()) for name in _AXES)])
_LEAST = 4  # [image] a domain: two halves of two, below which nothing can be estimated
_DIGITS = 9


class ShiftConfig(Config):
    """How much is looked at."""

    max_images: int = Field(2000, ge=_LEAST, description="[image] a domain; larger domains are cut by id")
    max_transfer_images: int = Field(
        5000, ge=_LEAST, description="[image] of the sources that transferability is measured on; more are cut by id"
    )
    max_prior_difference: float = Field(
        0.15,
        ge=0,
        le=1,
        description="[share] total variation of class shares above which a warning advises against aligning marginals",
    )


class Params(Config):
    """Sections of `params.yaml` that this stage reads."""

    SECTIONS: ClassVar[dict[str, str]] = {"scenario": "scenarios.{scenario}"}

    scenario: Scenario
    shift: ShiftConfig
    seed: int


def run(params: Params, *, manifest: Path, prepared: Path, features: Path, shift: Path) -> None:
    """Reads features of the training splits, compares, draws the maps, advises."""
    scenario, limit = params.scenario, params.shift.max_images
    samples = read_samples(manifest, prepared)
    places = {domain: _places(samples, domain) for domain in scenario.domains}
    used = {domain: rows[:limit] for domain, rows in places.items()}
    read = Rows(features, read_table(prepared / "index.parquet", INDEX))
    raw = {domain: _features(read, rows, params.seed) for domain, rows in used.items()}
    pooled = np.concatenate([raw[domain] for domain in scenario.source])
    rows = {domain: standardise(raw[domain], pooled) for domain in scenario.domains}
    source, target = standardise(pooled, pooled), rows[scenario.target]
    seed = derive_seed(params.seed, "shift")
    single = {domain: compare(rows[domain], target, seed) for domain in scenario.source}
    whole = compare(source, target, seed) if len(single) > 1 else single[scenario.source[0]]
    control = compare(*_halves(source, derive_seed(seed, "halves")), seed)
    own = np.concatenate([standardise(raw[domain], raw[domain]) for domain in scenario.source])
    value, p_value = mmd(own, standardise(raw[scenario.target], raw[scenario.target]), seed)
    zscored = {"mmd2": value, "mmd_p_value": p_value}
    labels = _label_shift(params, samples, read, used, pooled, target)
    points, shares = plane([rows[domain] for domain in scenario.domains])
    document = {
        "target": scenario.target,
        "feature_dim": int(read.shape[-1]),
        "compared_dim": source.shape[1],
        "images": {domain: {"train": len(places[domain]), "used": len(used[domain])} for domain in scenario.domains},
        "max_images": limit,
        "subsampled": any(len(places[domain]) > limit for domain in scenario.domains),
        "pairs": single | {"pooled": whole},
        "control": control,
        "zscored": zscored,
        "map": {"variance": shares},
        "advice": [*advise(whole, control, zscored, single), labels["why"], *filter(None, [labels["warning"]])],
        "label_shift": labels,
        "transferability": _transferability(params, samples, read),
    }
    ids = np.concatenate([samples.image_id[used[domain]] for domain in scenario.domains])
    near = neighbour_map([rows[domain] for domain in scenario.domains], derive_seed(seed, "map"))
    near = [
        np.pad(n, ((0, len(p) - len(n)), (0, 0)), constant_values=np.nan) for n, p in zip(near, points, strict=True)
    ]
    columns = np.concatenate([np.concatenate(points), np.concatenate(near)], axis=1).T
    table = pd.DataFrame({"image_id": ids} | dict(zip(_AXES, columns, strict=True)))
    with atomic_folder(shift) as folder:
        write_table(folder / "map.parquet", table.sort_values("image_id"), MAP)
        write_json(folder / "shift.json", _rounded(document))


def _features(read: Rows, rows: Any, seed: int) -> Features:
    """Returns float64 features `[n, D]` of images."""
    return narrow(read.of_images(rows).astype(np.float64), derive_seed(seed, "narrow"))


def _transferability(params: Params, samples: Samples, read: Rows) -> dict[str, Any]:
    """Measures labelled training images of all sources; ids are hashes, so that the first ones are a fair sample."""
    rows = samples.rows(params.scenario.source, "train")
    used = rows[: params.shift.max_transfer_images]
    features, seed = _features(read, used, params.seed), derive_seed(params.seed, "transferability")
    told = transferability(standardise(features, features), samples.label[used], samples.group[used], seed)
    return told | {"available": len(rows)}


def _label_shift(
    params: Params, samples: Samples, read: Rows, used: dict[str, Any], pooled: Features, target: Features
) -> dict[str, Any]:
    """Scores held-out source rows and the target by a linear probe, and estimates the target's class shares."""
    scenario, seed = params.scenario, derive_seed(params.seed, "label_shift")
    held = np.concatenate([samples.rows(scenario.source, split) for split in ("val", "cal")])
    held = np.sort(held)[: params.shift.max_images]
    trained = np.concatenate([used[domain] for domain in scenario.source])
    labels, rows = samples.label[trained], used[scenario.target]
    if len(np.unique(labels)) < 2 or not len(held):
        empty = Scores(np.zeros((0, len(scenario.classes))), np.zeros(0, np.int64), np.zeros(0, object))
        found = label_shift(
            empty, empty, labels[labels >= 0], scenario.classes, params.shift.max_prior_difference, seed
        )
        if scenario.annotation_config().labelled:
            return found
        return found | {"why": "Class shares of the target are not estimated: its images do not have one class each."}
    known = standardise(_features(read, held, params.seed), pooled)
    source = standardise(pooled, pooled)
    scores = probe_scores(source, labels, known, target, classes=len(scenario.classes))
    return label_shift(
        Scores(scores[0], samples.label[held], samples.group[held]),
        Scores(scores[1], np.zeros(0, np.int64), samples.group[rows]),
        labels,
        scenario.classes,
        params.shift.max_prior_difference,
        seed,
    )


def _places(samples: Samples, domain: str) -> Any:
    rows = samples.rows([domain], "train")
    if len(rows) < _LEAST:
        raise DataError(
            f"manifest: domain '{domain}' has {len(rows)} prepared training images; at least {_LEAST} are needed to"
            " measure a shift. Add images and run 'dvc repro'"
        )
    return rows


def _halves(rows: Features, seed: int) -> tuple[Features, Features]:
    order = np.random.default_rng(seed).permutation(len(rows))
    return rows[order[: len(rows) // 2]], rows[order[len(rows) // 2 :]]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, _DIGITS) if isinstance(value, float) else value


if __name__ == "__main__":
    stage(run)
