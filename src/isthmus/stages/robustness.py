"""Damages test images of the source, and of a labelled target, and counts errors of chosen model and source-only.

Writes `robustness.json`: `{"measured": false}` where `robustness.images` is 0, the default, for the backbone must run
on every damaged image; else, by domain, errors clean and by corruption and severity, the mean corruption error against
source-only and the error that damage adds (`scoring/robustness.py`). What labels say of the target is read from
`predictions.parquet`, after the choice. Finished cells are kept in `checkpoints` until the stage ends, keyed by inputs
and code, so that a run that was cut off goes on.
"""

import shutil
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from isthmus.core import engine
from isthmus.core.code.fingerprint import Code
from isthmus.core.config import Config
from isthmus.core.files import hash_files, read_json, sha256_bytes, write_json
from isthmus.core.progress import track
from isthmus.core.seeds import derive_seed
from isthmus.data.manifest import INDEX, read_table
from isthmus.data.scenario import Scenario
from isthmus.data.shards import Rows
from isthmus.evaluation.scoring.corruptions import SEVERITIES, corrupted, suite
from isthmus.evaluation.scoring.predict import PREDICTIONS
from isthmus.evaluation.scoring.robustness import Errors, robustness_document
from isthmus.evaluation.selection.choice import SOURCE_ONLY, Part, parts
from isthmus.stages._cli import stage


class RobustnessConfig(Config):
    """The section `robustness`."""

    images: int = Field(0, ge=0, description="[image] of each domain's test split that are damaged; 0: not measured")
    threads: int = Field(2, ge=1, description="of the CPU")


class Params(Config):
    """Sections of `params.yaml` that this stage reads."""

    SECTIONS: ClassVar[dict[str, str]] = {"scenario": "scenarios.{scenario}"}

    scenario: Scenario
    robustness: RobustnessConfig
    seed: int


def run(
    params: Params,
    *,
    prepared: Path,
    features: Path,
    trained: Path,
    choice: Path,
    predictions: Path,
    checkpoints: Path,
    robustness: Path,
) -> None:
    """Loads both models, damages and counts cell by cell, writes the errors."""
    if not params.robustness.images or not params.scenario.annotation_config().labelled:
        write_json(robustness, {"measured": False})
        return
    made, table = read_json(choice), read_table(predictions, PREDICTIONS)
    chosen = made["chosen"]
    compared = {method: parts(made, method) for method in (SOURCE_ONLY, chosen["method"])}
    seed = derive_seed(params.seed, "robustness")
    rows = _labelled_rows(table, params.scenario, params.robustness.images)
    pixels = Rows(prepared / "shards", read_table(prepared / "index.parquet", INDEX))
    weights = [
        trained / part.method / "seeds" / str(part.seed) / "epochs" / f"{part.epoch:03d}.safetensors"
        for of in compared.values()
        for part in of
    ]
    key = hash_files([prepared, features / "embed.json", features / "backbone.safetensors", *weights])
    code = Code().fingerprint("robustness")
    key = sha256_bytes(f"{key} {code} {params.robustness.images} {seed} {table['label'].tolist()}".encode())
    kept = checkpoints / f"robustness-{key[:32]}"
    models = _Models(key, trained, features, tuple((m, tuple(of)) for m, of in compared.items()), chosen["seed"])
    kinds = suite(params.scenario.kind)
    work = [(d, "clean", 0) for d in rows] + [(d, c, s) for d in rows for c in kinds for s in SEVERITIES]
    files = {cell: kept / "{}-{}-{}.json".format(*cell) for cell in work}
    left = [cell for cell in work if not files[cell].is_file()]
    labels = table["label"].to_numpy()
    jobs = [(*cell, rows[cell[0]], labels[rows[cell[0]]]) for cell in left]
    count = partial(_wrong, models, pixels, params.scenario.kind, seed, params.robustness.threads)
    for cell, wrong in zip(left, track(engine.in_order(count, jobs), "robustness", len(left), "cell"), strict=True):
        write_json(files[cell], wrong)
    errors = {cell: read_json(file) for cell, file in files.items()}
    clean = {domain: errors[domain, "clean", 0] for domain in rows}
    cells: dict[str, dict[str, Errors]] = {
        domain: {m: {c: [errors[domain, c, s][m] for s in SEVERITIES] for c in kinds} for m in compared}
        for domain in rows
    }
    counts = {domain: len(places) for domain, places in rows.items()}
    write_json(robustness, robustness_document(chosen["method"], SOURCE_ONLY, clean, cells, counts))
    shutil.rmtree(kept, ignore_errors=True)


class _Models(NamedTuple):
    """What the compared models are read from, under the hash of it."""

    key: str
    trained: Path
    features: Path
    compared: tuple[tuple[str, tuple[Part, ...]], ...]
    seed: int


@lru_cache(maxsize=1)  # once for all units that a process computes
def _loaded(models: _Models) -> dict[str, Any]:
    from isthmus.models.trained import load_candidate  # torch takes 2 s, and by default nothing is measured

    return {m: load_candidate(models.trained, of, models.features, models.seed) for m, of in models.compared}


def _wrong(
    models: _Models,
    pixels: Rows,
    kind: str,
    seed: int,
    threads: int,
    cell: tuple[str, str, int, NDArray[np.int64], NDArray[Any]],
) -> dict[str, float]:
    """Returns the share of wrong answers of each model on damaged images; a unit of work (`core/engine.py`).

    Args:
        models: compared.
        pixels: of all images.
        kind: of imagery.
        seed: of the damage.
        threads: of the CPU.
        cell: domain, corruption, severity (0: none), places of the images and their labels.
    """
    from isthmus.core.device import make_deterministic
    from isthmus.evaluation.scoring.wrong_answers import wrong_shares

    make_deterministic(threads)
    domain, name, severity, places, labels = cell
    images = pixels.take(places)
    if severity:
        images = corrupted(images, name, suite(kind)[name], severity, seed)
    return wrong_shares(_loaded(models), images, domain, labels)


def _labelled_rows(table: pd.DataFrame, scenario: Scenario, count: int) -> dict[str, NDArray[np.int64]]:
    """Returns domain -> places of its first labelled test images; ids are hashes, so that they are a fair sample."""
    test = (table["split"] == "test") & table["label"].notna()
    found = {d: np.flatnonzero(test & (table["domain"] == d))[:count] for d in scenario.domains}
    return {domain: places for domain, places in found.items() if len(places)}


if __name__ == "__main__":
    from isthmus.stages import robustness  # by this name workers of an engine find the functions of this file

    stage(robustness.run)
