"""Compares views of the source for masks that a U-Net learns from whole images.

`python -m benchmarks.pixels --out FOLDER --write . PROJECT/out/NAME...`: scenarios of masks whose model is in full
mode, embedded. The network trains as the stage `train` does it, for each seed without views, with views, and with views
of which half have light and dark exchanged. Settled on the target's TRAINING masks, and so only for pairs declared for
development: no test mask is read. Every answer is the mean of the probabilities over seeds; intervals are by group.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.choice import table
from benchmarks.methods import no_labels, params_of
from benchmarks.sections import write_section
from benchmarks.views import trained
from isthmus.core.accuracy import LEAST_PROBABILITY
from isthmus.core.files import read_json, write_json
from isthmus.data.augment.photometric import EXCHANGED, mean_skewness, opposite
from isthmus.data.shards import cells_of
from isthmus.evaluation.masks import TrueMasks, predicted_masks
from isthmus.evaluation.metrics import group_weights, interval, softmax
from isthmus.evaluation.scoring.masks import class_iou, confusions, mean_defined, resampled_counts
from isthmus.evaluation.trained import read_samples
from isthmus.models.embedding import read_facts
from isthmus.stages import train

RESAMPLES = 1000
ANSWERS = {"source-only": None, "views": 0.0, "views, half exchanged": EXCHANGED}  # -> share exchanged, None: no views


def measured(folder: Path, out: Path, seeds: int) -> dict[str, Any]:
    """Trains and compares one scenario, `out/S` of a project; what is in `out` already is not done again."""
    done = out / f"{folder.name}.json"
    if not done.is_file():
        out.mkdir(parents=True, exist_ok=True)
        write_json(done, {"scenario": folder.name, "seeds": seeds} | _compared(folder, seeds))
    found: dict[str, Any] = read_json(done)
    return found


def _compared(folder: Path, seeds: int) -> dict[str, Any]:
    params = params_of(
        train.Params, folder.parents[1] / "params.yaml", scenario=folder.name, method="domain_randomisation"
    )
    params = params.model_copy(update={"model": params.model.model_copy(update={"views": 0})})
    with tempfile.TemporaryDirectory() as work:
        data = train.read_data(
            params, folder / "manifest.parquet", folder / "prepared", folder / "features", no_labels(Path(work))
        )
    skewed = [mean_skewness(data.inputs.take, rows) for rows in (np.concatenate(data.source_train), data.target_train)]
    masks, classes = TrueMasks(folder / "prepared", folder / "masks_target"), len(params.scenario.classes)
    rows = data.target_train[masks.scored(data.target_train)]
    grid = read_facts(folder / "features").grid
    groups = read_samples(folder / "manifest.parquet", folder / "prepared").group[rows]
    weights = group_weights(groups, RESAMPLES, 0)
    drawn, scores = {}, {}
    for answer, share in ANSWERS.items():
        own = data if share is None else replace(data, looks=1, exchanged=share)
        cells = cells_of(rows, data.cells)
        found = [trained(params, own, folder, seed, "domain_randomisation")[cells] for seed in range(seeds)]
        mean = np.mean([softmax(logits) for logits in found], axis=0)
        logits = np.log(np.maximum(mean, LEAST_PROBABILITY)).astype(np.float32)
        answers = predicted_masks(logits, np.arange(len(rows)), (grid[0], grid[1]), masks.side)
        counts = confusions(answers, masks.take(rows), classes)[None]
        drawn[answer] = mean_defined(class_iou(resampled_counts(counts, weights)[:, 0])[..., 1:])
        apart = drawn[answer] - drawn["source-only"]
        score = float(mean_defined(class_iou(counts[0].sum(axis=0))[1:]))
        scores[answer] = [score, *interval(apart[~np.isnan(apart)])]
    return {"images": len(rows), "skewness": skewed, "exchanges": opposite(*skewed), "scores": scores}


def report(results: list[dict[str, Any]]) -> str:
    """Returns all scenarios as Markdown, one row each."""
    rows = []
    for r in results:
        shown = [f"{score:.3f} ({low:+.3f} to {high:+.3f})" for score, low, high in r["scores"].values()]
        skewness = ", ".join(f"{value:+.2f}" for value in r["skewness"])
        first = f"{r['scores']['source-only'][0]:.3f}"
        rows.append((r["scenario"], str(r["images"]), skewness, "yes" if r["exchanges"] else "no", first, *shown[1:]))
    head = ("scenario", "images", "skewness of source, target", "exchanges", *ANSWERS)
    return (
        f"IoU of the foreground on the target's TRAINING masks, seeds averaged: {results[0]['seeds']}; in brackets the"
        " 95% interval by group of the difference to source-only. `exchanges`: what the skewness of grey values asks"
        f" for.\n\n{table(head, *rows)}"
    )


def main() -> None:
    """Measures the scenarios of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pixels", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for results")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/benchmarks.md gets the table")
    parser.add_argument("folders", nargs="+", type=Path, metavar="PROJECT/out/NAME")
    given = parser.parse_args()
    results = []
    for folder in given.folders:
        results.append(measured(folder.resolve(), given.out, given.seeds))
        print(folder.name, {answer: round(v[0], 3) for answer, v in results[-1]["scores"].items()}, flush=True)
    text = report(results)
    print(text)
    if given.write:
        write_section(given.write / "docs" / "benchmarks.md", "pixels", text, keep_rows=True)


if __name__ == "__main__":
    main()
