"""Bring the images of a scenario to one shape and write them as shards.

prepared: `index.parquet` (`data/manifest.py: INDEX`, in the manifest's order, images the kind refuses left out),
`shards/*.npy` (`[N, H, W, C]` in the kind's dtype, uint8 for photographs and inspection lines) and `facts.json`
(classes, shape, what was fitted, mean and std of each domain's training images, refused images with reasons).
"""

from pathlib import Path
from typing import ClassVar

from isthmus.core.config import Config
from isthmus.core.files import atomic_folder
from isthmus.core.progress import say
from isthmus.data.manifest import LOCATIONS, MANIFEST, read_table
from isthmus.data.prepare import prepare
from isthmus.data.scenario import Scenario
from isthmus.data.workers import processors
from isthmus.stages._cli import stage


class Params(Config):
    """What `prepare` reads of `params.yaml`."""

    SECTIONS: ClassVar[dict[str, str]] = {"scenario": "scenarios.{scenario}"}

    scenario: Scenario


def run(params: Params, *, raw: Path, manifest: Path, locations: Path, prepared: Path) -> None:
    """Writes index, shards and facts; an older folder is replaced as a whole."""
    kind = params.scenario.kind_config("params.yaml: preprocess.").build()
    images, places = read_table(manifest, MANIFEST), read_table(locations, LOCATIONS)
    with atomic_folder(prepared) as folder:
        # how many processes there are changes the speed and not a byte
        facts = prepare(raw, images, places, params.scenario, kind, folder, processors())
    counts = ", ".join(f"{domain} {count}" for domain, count in facts["count"].items())
    say(f"prepare: {counts} images of {facts['height']} x {facts['width']}; {len(facts['quarantine'])} refused")


if __name__ == "__main__":
    stage(run)
