"""Compares finished scenarios of boxes with a head that was trained on the target's own boxes.

`python -m benchmarks.boxes --project FOLDER --write .` reads what the stages of a project left in `out/*`, and trains
one more head on each scenario: the same features and model, STEPS steps on the TARGET's training split, evaluated on
its test split. That is what boxes of the target would be worth, and no result of a method.
"""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.finished import compared, run, told
from benchmarks.finished import finished as of_metric
from benchmarks.finished import result_of as of_scenario
from benchmarks.methods import params_of
from isthmus.data.manifest import INDEX, MANIFEST, read_table
from isthmus.data.masks import source_cells
from isthmus.data.shards import CellRows, cells_of
from isthmus.evaluation.boxes import TrueBoxes, detections
from isthmus.evaluation.scoring.boxes import ap, ap50, average_precisions, match_boxes
from isthmus.evaluation.selection.choice import SOURCE_ONLY
from isthmus.evaluation.trained import read_samples
from isthmus.models.embedding import read_facts
from isthmus.stages import train
from isthmus.training.data import training_data, with_cells

STEPS = 1000


def finished(project: Path) -> list[Path]:
    """Returns the folders of scenarios that were evaluated on boxes; see `benchmarks.finished`."""
    return of_metric(project, "ap50", "with boxes of the target")


def on_target(project: Path, folder: Path) -> tuple[float, float]:
    """Trains on the target's training boxes; returns AP50 and AP on its test split [share].

    Args:
        project: with `params.yaml`.
        folder: `out/S` of a finished scenario.
    """
    params = params_of(train.Params, project / "params.yaml", scenario=folder.name, method=SOURCE_ONLY)
    own = {"epochs": 1, "min_steps": STEPS, "max_steps": STEPS, "views": 0}
    params = params.model_copy(update={"model": params.model.model_copy(update=own)})
    features, classes = folder / "features", len(params.scenario.classes)
    grid = read_facts(features).grid
    with tempfile.TemporaryDirectory() as work:
        prepared = Path(work) / "prepared"  # as if the target's boxes were the source's
        prepared.mkdir()
        for path in (folder / "prepared" / "index.parquet", folder / "prepared" / "facts.json"):
            shutil.copy(path, prepared)
        shutil.copy(folder / "masks_target" / "boxes.parquet", prepared)
        index = read_table(prepared / "index.parquet", INDEX)
        manifest = read_table(folder / "manifest.parquet", MANIFEST).set_index("image_id")
        cells = CellRows(features, index)
        images = training_data(
            manifest.loc[index["image_id"]].reset_index(),
            cells,
            params.scenario.domains,
            images=False,
            shift_pixels=0,
            classes=classes,
            most_steps=STEPS,
        )
        images = replace(images, source_train=[images.target_train], source_val=images.target_train[:0])
        data = with_cells(images, cells, source_cells(prepared, index, grid, classes)[0])
        session = train.open_session(params, data, prepared, features, Path(work), 0, SOURCE_ONLY)
        session.method.fit(session)
        logits, extents = (np.load(next(Path(work).glob(f"epochs/*.{n}.npy"))) for n in ("logits", "extents"))
    truth = TrueBoxes(folder / "prepared", folder / "masks_target")
    test = read_samples(folder / "manifest.parquet", folder / "prepared").rows([params.scenario.target], "test")
    places = [cells_of(test[n : n + 1], grid[0] * grid[1]) for n in range(len(test))]
    found = [detections(logits[here], extents[here], grid, truth.side) for here in places]
    precisions = average_precisions(match_boxes(found, truth.take(test), classes), np.ones((1, len(test))))
    return float(ap50(precisions)[0]), float(ap(precisions)[0])


def result_of(folder: Path, ceiling: tuple[float, float]) -> dict[str, Any]:
    """Returns what one scenario's files say, AP50 and AP of each method; see `benchmarks.finished`."""
    return of_scenario(folder, _scores, "source_only_source_test_ap50", ceiling)


def _scores(truth: dict[str, Any], method: str) -> tuple[float, float]:
    own = truth["methods"][method]
    return own["ap50"]["mean"], own["ap"]["mean"]


def report(results: list[dict[str, Any]]) -> str:
    """Returns all scenarios as Markdown, one row each."""
    return (
        "AP50 / AP on the target's test split, in the prepared images. Methods: mean over seeds; `*`: refused by the"
        " guards. Gain: of the choice over source-only in AP50, 95% interval by group. On the source: AP50 of its test"
        f" split. Trained on target: the same model on the target's own training boxes, {STEPS:,} steps, one seed."
        f"\n\n{compared(results, 'source_only on source')}"
    )


def results_of(project: Path) -> list[dict[str, Any]]:
    """Returns the result of each finished scenario of a project."""
    return told(finished(project), lambda folder: result_of(folder, on_target(project, folder)))


if __name__ == "__main__":
    run("boxes", __doc__, results_of, report)
