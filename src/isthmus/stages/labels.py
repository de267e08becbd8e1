"""Reads the labels that a person gave to a few target images, and parts them by what they may be used for.

measure: `GIVEN_LABELS`, of images drawn at random; only `evaluate` reads it.
train: `GIVEN_LABELS`, of images that training uses; never in `measure`, nor of a group (patient, scene, lot) that is.
Both are empty where nobody gave labels. Images that have left the target's training split since are left out.
"""

from pathlib import Path
from typing import ClassVar

from isthmus.core.config import Config
from isthmus.core.progress import log
from isthmus.data.labels.given import GIVEN_LABELS, labels_file, parted
from isthmus.data.manifest import MANIFEST, read_table, write_table
from isthmus.data.scenario import Scenario
from isthmus.stages._cli import stage


class Params(Config):
    """Sections of `params.yaml` that this stage reads."""

    SECTIONS: ClassVar[dict[str, str]] = {"scenario": "scenarios.{scenario}"}

    scenario: Scenario


def run(params: Params, *, scenario: str, labels: Path, manifest: Path, measure: Path, train: Path) -> None:
    """Writes the two parts."""
    found = parted(labels_file(labels, scenario), read_table(manifest, MANIFEST), params.scenario)
    write_table(measure, found.measure, GIVEN_LABELS)
    write_table(train, found.train, GIVEN_LABELS)
    if len(found.measure) + len(found.train) + found.gone + found.shared:
        left = f"; {found.gone} are of images that are no longer in the target's training split" if found.gone else ""
        left += f"; {found.shared} are not trained on, for their groups have measured images" if found.shared else ""
        log(f"labels: {len(found.measure)} for measuring, {len(found.train)} for training{left}")


if __name__ == "__main__":
    stage(run)
