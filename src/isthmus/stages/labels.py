"""Reads the labels that a person gave to a few target images, and parts them by what they may be used for.

measure: `GIVEN_LABELS`, of images drawn at random; only `evaluate` reads it.
train: `GIVEN_LABELS`, of images that training uses; never in `measure`, nor of a group (patient, scene, lot) that is.
Both are empty where nobody gave labels. Images that have left the target's training split since are left out.
"""

from pathlib import Path
from typing import ClassVar

from isthmus.core.config import Config
from isthmus.core.progress import log
from isthmus.data.labels.given import (
    GIVEN_LABELS,
    MEASURE,
    TRAIN,
    for_purpose,
    labels_file,
    of_other_groups,
    read_given,
)
from isthmus.data.manifest import MANIFEST, read_table, write_table
from isthmus.data.scenario import Scenario
from isthmus.stages._cli import stage


class Params(Config):
    """Sections of `params.yaml` that this stage reads."""

    SECTIONS: ClassVar[dict[str, str]] = {"scenario": "scenarios.{scenario}"}

    scenario: Scenario


def run(params: Params, *, scenario: str, labels: Path, manifest: Path, measure: Path, train: Path) -> None:
    """Writes the two parts."""
    file = labels_file(labels, scenario)
    given = read_given(file)
    images = read_table(manifest, MANIFEST)
    measured, learned = (for_purpose(given, use, images, params.scenario, file) for use in (MEASURE, TRAIN))
    apart = of_other_groups(learned, measured, images)
    write_table(measure, measured, GIVEN_LABELS)
    write_table(train, apart, GIVEN_LABELS)
    if given:
        gone, shared = len(given) - len(measured) - len(learned), len(learned) - len(apart)
        left = f"; {gone} are of images that are no longer in the target's training split" if gone else ""
        left += f"; {shared} are not trained on, for their groups have measured images" if shared else ""
        log(f"labels: {len(measured)} for measuring, {len(apart)} for training{left}")


if __name__ == "__main__":
    stage(run)
