"""Bring the images of a scenario to one shape and write them as shards.

prepared: `index.parquet` (`data/manifest.py: INDEX`, in the manifest's order, images the kind refuses left out),
`shards/*.npy` (`[N, H, W, C]` in the kind's dtype, uint8 for photographs and inspection lines) and `facts.json`
(classes, shape, resolved options of the kind, what was fitted, mean and std of each domain's training images, refused
images with reasons).
Of tasks with masks also `masks/*.npy` (uint8 `[N, H, W]`, `data/masks.py`), those of the source.
Of tasks with boxes also `boxes.parquet` (`BOXES`), those of the source.
masks_target: the same of the target, which `evaluate` alone opens; an empty folder for other tasks.
What `preprocess` leaves open (size; of photographs crop and interpolation) is as the model's
weights want it.
A run that was cut off is taken up again below `checkpoints`, in a folder named by its inputs, params and code.
"""

import shutil
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from isthmus.core.code.fingerprint import Code
from isthmus.core.config import Config
from isthmus.core.engine import processors
from isthmus.core.files import atomic_folder, hash_files, sha256_bytes
from isthmus.core.progress import log
from isthmus.data.manifest import COMPANIONS, LOCATIONS, MANIFEST, read_table
from isthmus.data.preprocess.prepare import prepare
from isthmus.data.scenario import Scenario
from isthmus.stages._cli import stage


class Params(Config):
    """What `prepare` reads of `params.yaml`."""

    SECTIONS: ClassVar[dict[str, str]] = {
        "scenario": "scenarios.{scenario}",
        "backbone": "models.[scenarios.{scenario}.model].backbone",
    }
    scenario: Scenario
    backbone: dict[str, Any] = Field(
        default_factory=dict, description="whose weights set what `preprocess` does not; empty: defaults of the kind"
    )


def run(
    params: Params,
    *,
    raw: Path,
    manifest: Path,
    locations: Path,
    companions: Path,
    checkpoints: Path,
    prepared: Path,
    masks_target: Path,
) -> None:
    """Writes index, shards and facts; an older folder is replaced as a whole."""
    # Here and not above: torch takes seconds, and each worker process imports this file.
    from isthmus.models.preprocessing import with_defaults_of_weights

    scenario = with_defaults_of_weights(params.scenario, params.backbone)
    kind = scenario.kind_config("params.yaml: preprocess.").build()
    images, places = read_table(manifest, MANIFEST), read_table(locations, LOCATIONS)
    beside = read_table(companions, COMPANIONS)
    work = checkpoints / _key(scenario, [manifest, locations, companions])
    work.mkdir(parents=True, exist_ok=True)
    with atomic_folder(prepared) as folder, atomic_folder(masks_target) as apart:
        # how many processes there are changes the speed and not a byte
        facts = prepare(raw, images, places, beside, scenario, kind, folder, apart, work, processors())
    shutil.rmtree(work)
    counts = ", ".join(f"{domain} {count}" for domain, count in facts["count"].items())
    log(f"prepare: {counts} images of {facts['height']} x {facts['width']}; {len(facts['quarantine'])} refused")


def _key(scenario: Scenario, tables: list[Path]) -> str:
    # The raw files are in the manifest by their hashes, which `prepare` checks as it reads them.
    inputs, code = hash_files(tables), Code().fingerprint("prepare", scenario.kind)
    return f"prepare-{sha256_bytes(f'{inputs}{code}{scenario.model_dump_json()}'.encode())[:32]}"


if __name__ == "__main__":
    stage(run)
