"""Compares finished scenarios of masks with a head that was trained on the target's own masks.

`python -m benchmarks.masks --project FOLDER --write .` reads what the stages of a project left in `out/*`, and trains
one more head on each scenario: the same features, bottleneck and loss with Dice, STEPS steps of BATCH cells of the
TARGET's training split, evaluated on its test split; in full mode the same network by the settings of its model. That
is what masks of the target would be worth, and no result of a method.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.finished import compared, run, told
from benchmarks.finished import finished as of_metric
from benchmarks.finished import result_of as of_scenario
from benchmarks.methods import no_labels, params_of
from isthmus.data.manifest import INDEX, MANIFEST, read_table
from isthmus.data.masks import CellShares, cell_shares
from isthmus.data.shards import CellRows
from isthmus.evaluation.masks import TrueMasks, predicted_masks
from isthmus.evaluation.scoring.masks import class_iou, confusions, mean_defined, mean_iou
from isthmus.evaluation.selection.choice import SOURCE_ONLY
from isthmus.evaluation.trained import read_samples
from isthmus.models.embedding import read_facts
from isthmus.stages import train
from isthmus.training.data import TrainingData, training_data, with_cells

STEPS, BATCH, BOTTLENECK = 1500, 64, 256


def finished(project: Path) -> list[Path]:
    """Returns the folders of scenarios that were evaluated on masks; see `benchmarks.finished`."""
    return of_metric(project, "mean_iou", "with masks of the target")


def on_target(project: Path, folder: Path) -> tuple[float, float]:
    """Trains on the target's training masks; returns mean IoU and IoU of the foreground on its test split [share].

    Args:
        project: with `params.yaml`.
        folder: `out/S` of a finished scenario.
    """
    params = params_of(train.Params, project / "params.yaml", scenario=folder.name, method=SOURCE_ONLY)
    own: dict[str, Any] = {"views": 0}
    if params.model.mode == "frozen":
        own |= {"epochs": 1, "min_steps": STEPS, "max_steps": STEPS, "batch_size": BATCH, "bottleneck": BOTTLENECK}
    params = params.model_copy(update={"model": params.model.model_copy(update=own)})
    masks = TrueMasks(folder / "prepared", folder / "masks_target")
    data = _target_data(params, folder, masks)
    with tempfile.TemporaryDirectory() as work:
        session = train.open_session(params, data, folder / "prepared", folder / "features", Path(work), 0, SOURCE_ONLY)
        session.method.fit(session)
        (path,) = Path(work).glob("epochs/*.logits.npy")
        logits = np.load(path)
    test = read_samples(folder / "manifest.parquet", folder / "prepared").rows([params.scenario.target], "test")
    rows, side = read_facts(folder / "features").grid
    found = predicted_masks(logits, test, (rows, side), masks.side)
    counts = confusions(found, masks.take(test), len(params.scenario.classes)).sum(axis=0)
    return float(mean_iou(counts)), float(mean_defined(class_iou(counts)[1:]))


def _target_data(params: train.Params, folder: Path, masks: TrueMasks) -> TrainingData:
    """Returns the target's training rows in the place of the source's, with their masks."""
    index = read_table(folder / "prepared" / "index.parquet", INDEX)
    if params.model.mode == "full":
        return _target_images(params, folder, index)
    manifest = read_table(folder / "manifest.parquet", MANIFEST).set_index("image_id")
    cells, grid = CellRows(folder / "features", index), read_facts(folder / "features").grid
    images = training_data(
        manifest.loc[index["image_id"]].reset_index(),
        cells,
        params.scenario.domains,
        images=False,
        shift_pixels=0,
        classes=len(params.scenario.classes),
        most_steps=STEPS,
    )
    target = images.target_train
    shares = np.zeros((len(index), grid[0] * grid[1], len(params.scenario.classes)), np.float32)
    for row in target:  # one by one: all masks of a scenario may need more memory than there is
        shares[row] = cell_shares(masks.take(row[None]), grid[0], grid[1], shares.shape[2])[0][0]
    return with_cells(replace(images, source_train=[target], source_val=target[:0]), cells, shares)


def _target_images(params: train.Params, folder: Path, index: pd.DataFrame) -> TrainingData:
    """Returns the target's training images in the place of the source's, with their masks."""
    with tempfile.TemporaryDirectory() as work:
        data = train.read_data(
            params, folder / "manifest.parquet", folder / "prepared", folder / "features", no_labels(Path(work))
        )
    shares = CellShares(
        folder / "masks_target", index, read_facts(folder / "features").grid, len(params.scenario.classes)
    )
    own = data.target_train[shares.scored(data.target_train)]
    return replace(data, source_train=[own], source_val=own[:0], cell_shares=shares)


def result_of(folder: Path, ceiling: tuple[float, float]) -> dict[str, Any]:
    """Returns mean IoU and IoU of the foreground of each method; see `benchmarks.finished`."""
    return of_scenario(folder, _scores, "source_test_mean_iou", ceiling)


def _scores(truth: dict[str, Any], method: str) -> tuple[float, float]:
    return truth["methods"][method]["mean_iou"]["mean"], _foreground(truth, method)


def report(results: list[dict[str, Any]]) -> str:
    """Returns all scenarios as Markdown, one row each."""
    return (
        "Mean IoU / IoU of the foreground (mean over all classes but the first) on the target's test split. Methods:"
        " mean over seeds; `*`: refused by the guards. Gain: of the choice over source-only in mean IoU, 95% interval"
        " by group. On the source: mean IoU of its test split. Trained on target: the same head on the target's own"
        f" training masks, {STEPS:,} steps of {BATCH} cells, one seed; in full mode by the model's settings."
        f"\n\n{compared(results, 'the choice on the source')}"
    )


def _foreground(truth: dict[str, Any], method: str) -> float:
    scores = truth["methods"][method]["per_class"]
    iou = [scores[name]["iou"] for name in truth["classes"][1:]]
    return float(mean_defined(np.array([np.nan if value is None else value for value in iou])))


def results_of(project: Path) -> list[dict[str, Any]]:
    """Returns the result of each finished scenario of a project."""
    return told(finished(project), lambda folder: result_of(folder, on_target(project, folder)))


if __name__ == "__main__":
    run("masks", __doc__, results_of, report)
