"""Compares finished scenarios of boxes with a head that was trained on the target's own boxes.

`python -m benchmarks.boxes --project FOLDER --write .` reads what the stages of a project left in `out/*`, and trains
one more head on each scenario: the same features and model, STEPS steps on the TARGET's training split, evaluated on
its test split. That is what boxes of the target would be worth, and no result of a method.
"""

import argparse
import contextlib
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.choice import table
from benchmarks.methods import params_of
from benchmarks.sections import write_section
from isthmus.core.errors import DataError
from isthmus.core.files import read_json
from isthmus.data.manifest import INDEX, MANIFEST, read_table
from isthmus.data.masks import source_cells
from isthmus.data.shards import CellRows, cells_of
from isthmus.evaluation.boxes import TrueBoxes, detections
from isthmus.evaluation.scoring.boxes import ap, ap50, average_precisions, match_boxes
from isthmus.evaluation.selection.choice import ENSEMBLE, SOURCE_ONLY
from isthmus.evaluation.trained import read_samples
from isthmus.models.embedding import read_facts
from isthmus.stages import train
from isthmus.training.data import training_data, with_cells

STEPS = 1000
FILES = ("truth.json", "choice.json", "metrics.json")  # of a scenario that is finished


def finished(project: Path) -> list[Path]:
    """Returns the folders of scenarios that were evaluated on boxes, in the order of their names.

    Raises:
        DataError: there is none.
    """
    folders = [path.parent for path in sorted(project.glob(f"out/*/{FILES[0]}"))]
    found = [
        folder
        for folder in folders
        if all((folder / name).is_file() for name in FILES) and read_json(folder / FILES[0]).get("metric") == "ap50"
    ]
    if not found:
        raise DataError(
            f"{project / 'out'}: no scenario with boxes of the target is finished. Run 'dvc repro report@NAME'"
        )
    return found


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
    """Returns what one scenario's files say: AP50 and AP of each method, and the gain.

    Args:
        folder: `out/S` of a finished scenario.
        ceiling: of `on_target`.
    """
    truth, choice, metrics = (read_json(folder / name) for name in FILES)
    methods = truth["methods"]
    return {
        "scenario": folder.name,
        "images": truth["count"],
        "methods": {name: (scores["ap50"]["mean"], scores["ap"]["mean"]) for name, scores in methods.items()},
        "chosen": truth["chosen"],
        "refused": [c["method"] for c in choice["candidates"] if c["refused"]],
        "source": metrics.get("source_only_source_test_ap50"),
        "gain": methods[truth["chosen"]]["minus_source_only"],
        "verdict": methods[truth["chosen"]]["transfer"],
        "ceiling": ceiling,
    }


def report(results: list[dict[str, Any]]) -> str:
    """Returns all scenarios as Markdown, one row each."""
    trained = sorted({name for r in results for name in r["methods"]} - {ENSEMBLE, SOURCE_ONLY})
    methods = [SOURCE_ONLY, *trained]
    rows = []
    for r in results:
        cells = [
            _pair(*r["methods"][m]) + ("*" if m in r["refused"] else "") if m in r["methods"] else "" for m in methods
        ]
        gain = "{mean:+.3f} ({low:+.3f} to {high:+.3f})".format(**r["gain"])
        chosen = f"{r['chosen']} {_pair(*r['methods'][r['chosen']])}"
        source = "" if r["source"] is None else f"{r['source']:.3f}"
        rows.append((r["scenario"], r["images"], *cells, chosen, gain, r["verdict"], source, _pair(*r["ceiling"])))
    head = ("scenario", "test images", *methods, "the choice", "gain of the choice", "verdict", "source_only on source")
    return (
        "AP50 / AP on the target's test split, in the prepared images. Methods: mean over seeds; `*`: refused by the"
        " guards. Gain: of the choice over source-only in AP50, 95% interval by group. On the source: AP50 of its test"
        f" split. Trained on target: the same model on the target's own training boxes, {STEPS:,} steps, one seed."
        f"\n\n{table((*head, 'trained on target'), *rows)}"
    )


def _pair(ap50_: float, ap_: float) -> str:
    return f"{ap50_:.3f} / {ap_:.3f}"


def main() -> None:
    """Evaluates the finished scenarios of the project that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.boxes", description=__doc__)
    parser.add_argument(
        "--project", type=Path, required=True, help="folder with params.yaml and finished scenarios in out/"
    )
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/benchmarks.md gets the table")
    given = parser.parse_args()
    results = []
    for folder in finished(project := given.project.resolve()):
        with Path(os.devnull).open("w", encoding="utf-8") as silent, contextlib.redirect_stdout(silent):
            results.append(result_of(folder, on_target(project, folder)))
        print(f"{folder.name}: {results[-1]['chosen']} {results[-1]['gain']['mean']:+.3f}", flush=True)
    text = report(results)
    print(text)
    if given.write:
        write_section(given.write / "docs" / "benchmarks.md", "boxes", text)


if __name__ == "__main__":
    main()
