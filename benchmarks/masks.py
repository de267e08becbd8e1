"""Compares finished scenarios of masks with a head that was trained on the target's own masks.

`python -m benchmarks.masks --project FOLDER --write .` reads what the stages of a project left in `out/*`, and trains
one more head on each scenario: the same features, bottleneck and loss with Dice, STEPS steps of BATCH cells of the
TARGET's training split, evaluated on its test split. That is what masks of the target would be worth, and no result of
a method.
"""

import argparse
import contextlib
import os
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
from isthmus.data.masks import cell_shares
from isthmus.data.shards import CellRows
from isthmus.evaluation.masks import TrueMasks, predicted_masks
from isthmus.evaluation.scoring.masks import class_iou, confusions, mean_defined, mean_iou
from isthmus.evaluation.selection.choice import ENSEMBLE, SOURCE_ONLY
from isthmus.evaluation.trained import read_samples
from isthmus.models.embedding import read_facts
from isthmus.stages import train
from isthmus.training.data import TrainingData, training_data, with_cells

STEPS, BATCH, BOTTLENECK = 1500, 64, 256
FILES = ("truth.json", "choice.json", "metrics.json")  # of a scenario that is finished


def finished(project: Path) -> list[Path]:
    """Returns the folders of scenarios that were evaluated on masks, in the order of their names.

    Raises:
        DataError: there is none.
    """
    folders = [
        p.parent for p in sorted(project.glob(f"out/*/{FILES[0]}")) if all((p.parent / n).is_file() for n in FILES)
    ]
    found = [folder for folder in folders if read_json(folder / FILES[0]).get("metric") == "mean_iou"]
    if not found:
        raise DataError(
            f"{project / 'out'}: no scenario with masks of the target is finished. Run 'dvc repro report@NAME'"
        )
    return found


def on_target(project: Path, folder: Path) -> tuple[float, float]:
    """Trains on the target's training masks; returns mean IoU and IoU of the foreground on its test split [share].

    Args:
        project: with `params.yaml`.
        folder: `out/S` of a finished scenario.
    """
    params = params_of(train.Params, project / "params.yaml", scenario=folder.name, method=SOURCE_ONLY)
    own = {
        "epochs": 1,
        "min_steps": STEPS,
        "max_steps": STEPS,
        "batch_size": BATCH,
        "bottleneck": BOTTLENECK,
        "views": 0,
    }
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


def result_of(folder: Path, ceiling: tuple[float, float]) -> dict[str, Any]:
    """Returns what one scenario's files say: mean IoU and IoU of the foreground of each method, and the gain.

    Args:
        folder: `out/S` of a finished scenario.
        ceiling: of `on_target`.
    """
    truth, choice, metrics = (read_json(folder / name) for name in FILES)
    methods = truth["methods"]
    return {
        "scenario": folder.name,
        "images": truth["count"],
        "methods": {name: (scores["mean_iou"]["mean"], _foreground(truth, name)) for name, scores in methods.items()},
        "chosen": truth["chosen"],
        "refused": [c["method"] for c in choice["candidates"] if c["refused"]],
        "source": metrics.get("source_test_mean_iou"),
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
    head = (
        "scenario",
        "test images",
        *methods,
        "the choice",
        "gain of the choice",
        "verdict",
        "the choice on the source",
    )
    return (
        "Mean IoU / IoU of the foreground (mean over all classes but the first) on the target's test split. Methods:"
        " mean over seeds; `*`: refused by the guards. Gain: of the choice over source-only in mean IoU, 95% interval"
        " by group. On the source: mean IoU of its test split. Trained on target: the same head on the target's own"
        f" training masks, {STEPS:,} steps of {BATCH} cells, one seed."
        f"\n\n{table((*head, 'trained on target'), *rows)}"
    )


def _foreground(truth: dict[str, Any], method: str) -> float:
    scores = truth["methods"][method]["per_class"]
    iou = [scores[name]["iou"] for name in truth["classes"][1:]]
    return float(mean_defined(np.array([np.nan if value is None else value for value in iou])))


def _pair(mean: float, foreground: float) -> str:
    return f"{mean:.3f} / {foreground:.3f}"


def main() -> None:
    """Evaluates the finished scenarios of the project that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.masks", description=__doc__)
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
        write_section(given.write / "docs" / "benchmarks.md", "masks", text)


if __name__ == "__main__":
    main()
