"""Labels of target images that a person gave: one CSV file a scenario, `data/labels/<scenario>.csv`, under DVC.

Each label serves one purpose for good: `measure` (the image was drawn at random; its label enters the measured accuracy
and nothing else) or `train` (training uses it, measuring may not). The stage `labels` writes them into
two files, so that no stage can open the wrong part.
"""

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd
import pyarrow as pa

from isthmus.core.errors import DataError
from isthmus.core.files import write_text
from isthmus.core.plugins import did_you_mean
from isthmus.data.csv_lines import read_csv
from isthmus.data.scenario import Scenario

Purpose = Literal["measure", "train"]
MEASURE: Purpose = "measure"
TRAIN: Purpose = "train"
GIVEN_LABELS = pa.schema([("image_id", pa.string()), ("label", pa.int32())])  # label: index into classes
_COLUMNS = ("image_id", "class", "purpose", "who", "date")


class Given(NamedTuple):
    """One label; `label` is the name of a class, `date` ISO 8601."""

    image_id: str
    label: str
    purpose: Purpose
    who: str
    date: str


def labels_file(folder: Path, scenario: str) -> Path:
    """Returns where a scenario's labels are kept, in the folder that dvc.yaml names."""
    return folder / f"{scenario}.csv"


def read_given(path: Path) -> dict[str, Given]:
    """Reads the labels of a scenario, by image; none where nobody gave any.

    Raises:
        DataError: DVC has the file and it is not here, or it is not what `isthmus label --take` writes.
    """
    pointer = path.with_name(f"{path.name}.dvc")
    if not path.is_file():
        if pointer.is_file():
            raise DataError(
                f"{path}: is not here, and DVC has it. Run 'dvc checkout {pointer}' or 'dvc pull {pointer}'"
            )
        return {}
    columns, lines = read_csv(path)
    if tuple(columns) != _COLUMNS:
        raise DataError(
            f"{path}: columns are {', '.join(columns) or 'none'}; expected {', '.join(_COLUMNS)}. Only 'isthmus label"
            f" --take' writes this file: 'dvc checkout {pointer}' restores it"
        )
    given: dict[str, Given] = {}
    for number, cells in lines:
        purpose = next((purpose for purpose in (MEASURE, TRAIN) if purpose == cells["purpose"]), None)
        if purpose is None or cells["image_id"] in given:
            what = "is the second one of its image" if purpose else f"has the purpose '{cells['purpose']}'"
            raise DataError(
                f"{path}: line {number}: {what}. Allowed: one line an image, {MEASURE} or {TRAIN}. Only 'isthmus label"
                f" --take' writes this file: 'dvc checkout {pointer}' restores it"
            )
        given[cells["image_id"]] = Given(cells["image_id"], cells["class"], purpose, cells["who"], cells["date"])
    return given


def write_given(path: Path, given: Mapping[str, Given]) -> None:
    """Writes the labels in the order of ids, atomically."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(given[image_id] for image_id in sorted(given))
    write_text(path, stream.getvalue())


def drawing_order(image_ids: Iterable[str]) -> list[str]:
    """Returns images in the order in which they are drawn for measuring: by a hash of their ids, always the same.

    An id is itself a hash of the image's bytes, so the first n are a uniform draw without replacement, whatever the
    images show and whoever asks. It has no seed: nobody can draw again until the result pleases. Images that come later
    fall between the others, and the first n of the larger pool are a uniform draw from it.
    """
    return sorted(image_ids, key=lambda image_id: hashlib.sha256(f"drawn {image_id}".encode()).digest())


def pool_of(manifest: pd.DataFrame, target: str) -> list[str]:
    """Returns the images that may be labelled: the target's training split; nothing learns from its test split."""
    here = (manifest["domain"] == target) & (manifest["split"] == "train")
    return [str(image_id) for image_id in manifest.loc[here, "image_id"]]


def for_purpose(
    given: Mapping[str, Given], purpose: Purpose, manifest: pd.DataFrame, scenario: Scenario, where: Path
) -> pd.DataFrame:
    """Returns the labels of one purpose as `GIVEN_LABELS`, of images that still are in the pool.

    Raises:
        DataError: a label is none of the scenario's classes.
    """
    pool = set(pool_of(manifest, scenario.target))
    wanted = [given[i] for i in sorted(given) if given[i].purpose == purpose and i in pool]
    if unknown := sorted({entry.label for entry in wanted} - set(scenario.classes)):
        raise DataError(
            f"{where}: class '{unknown[0]}' is none of the scenario's.{did_you_mean(unknown[0], scenario.classes)}"
            f" There are: {', '.join(scenario.classes)}. Name it under 'classes' in params.yaml again, or take the"
            " answers anew with 'isthmus label --take FILE --replace'"
        )
    labels = [scenario.classes.index(entry.label) for entry in wanted]
    return pd.DataFrame({"image_id": [entry.image_id for entry in wanted], "label": pd.array(labels, dtype="Int32")})


class Parted(NamedTuple):
    """What the stage `labels` writes, as `GIVEN_LABELS`, and how many labels it leaves out.

    Attributes:
        measure: labels to measure with.
        train: labels to train with.
        gone: labels of images that have left the pool.
        shared: labels to train with whose group has measured images.
    """

    measure: pd.DataFrame
    train: pd.DataFrame
    gone: int
    shared: int


def parted(file: Path, images: pd.DataFrame, scenario: Scenario) -> Parted:
    """Returns a scenario's labels by what they may be used for.

    Args:
        file: from `labels_file`.
        images: `MANIFEST`.
        scenario: whose labels they are.

    Raises:
        DataError: the file cannot be used, or a label is none of the scenario's classes.
    """
    given = read_given(file)
    measured, learned = (for_purpose(given, use, images, scenario, file) for use in (MEASURE, TRAIN))
    apart = of_other_groups(learned, measured, images)
    return Parted(measured, apart, len(given) - len(measured) - len(learned), len(learned) - len(apart))


def of_other_groups(given: pd.DataFrame, than: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Returns the labels of images whose group (patient, scene, lot) has no image in the other table.

    Args:
        given: `GIVEN_LABELS`.
        than: `GIVEN_LABELS`, whose groups are left out.
        manifest: `MANIFEST`.
    """
    group = manifest.set_index("image_id")["group"]
    shared = given["image_id"].map(group).isin(than["image_id"].map(group))
    return given[~shared].reset_index(drop=True)
