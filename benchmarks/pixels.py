"""Compares views of the source for masks that a U-Net learns from whole images.

`python -m benchmarks.pixels --out FOLDER --write . PROJECT/out/NAME...`: scenarios of masks whose model is in full
mode, embedded. The network trains as the stage `train` does it, for each seed without views, with views, and with views
of which half have light and dark exchanged. Settled on the target's TRAINING masks, and so only for pairs declared for
development: no test mask is read. Every answer is the mean of the probabilities over seeds; intervals are by group.

`python -m benchmarks.pixels --finished PROJECT/out/NAME...` prints the same scores of what the stage `train` left,
mean IoU and IoU of the foreground, and trains nothing.

`python -m benchmarks.pixels --precision bf16 --seeds 2 --out FOLDER PROJECT/out/NAME...` trains both methods again with
this precision of the forward pass, and compares IoU of the foreground with what the stage `train` left.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from isthmus.evaluation.scoring.masks import class_iou, confusions, mean_defined, mean_iou, resampled_counts
from isthmus.evaluation.selection.choice import SOURCE_ONLY
from isthmus.evaluation.trained import open_trained, read_samples
from isthmus.models.embedding import read_facts
from isthmus.stages import train

RESAMPLES = 1000
METHODS = [SOURCE_ONLY, "domain_randomisation"]
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
    groups = read_samples(folder / "manifest.parquet", folder / "prepared").group[rows]
    weights = group_weights(groups, RESAMPLES, 0)
    drawn, scores = {}, {}
    for answer, share in ANSWERS.items():
        own = data if share is None else replace(data, looks=1, exchanged=share)
        cells = cells_of(rows, data.cells)
        found = [trained(params, own, folder, seed, "domain_randomisation")[cells] for seed in range(seeds)]
        counts = _counts(folder, found, masks, rows, classes)
        drawn[answer] = mean_defined(class_iou(resampled_counts(counts, weights)[:, 0])[..., 1:])
        apart = drawn[answer] - drawn["source-only"]
        scores[answer] = [_foreground(counts), *interval(apart[~np.isnan(apart)])]
    return {"images": len(rows), "skewness": skewed, "exchanges": opposite(*skewed), "scores": scores}


def at_precision(folder: Path, out: Path, seeds: int, precision: str) -> dict[str, dict[str, list[float]]]:
    """Trains both methods again at a precision; what is in `out` already is not done again.

    Args:
        folder: `out/S` of a project, trained with the seeds 0 to `seeds` - 1 at least.
        out: for logits of the target's training images.
        seeds: how many.
        precision: as in `models: precision`.

    Returns:
        method -> IoU of the foreground on the target's TRAINING masks by seed, `stored` and `again`; `means`: both, of
        the mean of the probabilities over seeds; `apart`: 95% interval by group of their difference; `seconds` of
        processor time by seed.
    """
    out.mkdir(parents=True, exist_ok=True)
    return {method: _again(folder, out, seeds, precision, method) for method in METHODS}


def _again(folder: Path, out: Path, seeds: int, precision: str, method: str) -> dict[str, list[float]]:
    params = params_of(train.Params, folder.parents[1] / "params.yaml", scenario=folder.name, method=method)
    params = params.model_copy(update={"model": params.model.model_copy(update={"precision": precision})})
    with tempfile.TemporaryDirectory() as work:
        data = train.read_data(
            params, folder / "manifest.parquet", folder / "prepared", folder / "features", no_labels(Path(work))
        )
    samples, classes = read_samples(folder / "manifest.parquet", folder / "prepared"), params.scenario.classes
    masks = TrueMasks(folder / "prepared", folder / "masks_target")
    rows = data.target_train[masks.scored(data.target_train)]
    cells = cells_of(rows, data.cells)
    run = open_trained(folder / "train", [method], classes, len(samples.label))[method]
    logits: dict[str, list[NDArray[np.float32]]] = {"stored": [], "again": []}
    seconds = []
    for seed in range(seeds):
        kept = out / f"{folder.name}-{method}-{seed}-{precision}.npy"
        if not kept.is_file():
            start = time.process_time()
            np.save(kept, trained(params, data, folder, seed, method)[cells])
            write_json(kept.with_suffix(".json"), {"seconds": time.process_time() - start})
        seconds.append(float(read_json(kept.with_suffix(".json"))["seconds"]))
        logits["stored"].append(run.logits(seed, run.facts.epochs[-1])[cells])
        logits["again"].append(np.load(kept))
    weights = group_weights(samples.group[rows], RESAMPLES, 0)
    result, means, drawn = {}, [], []
    for when, found in logits.items():
        result[when] = [_foreground(_counts(folder, [one], masks, rows, len(classes))) for one in found]
        counts = _counts(folder, found, masks, rows, len(classes))
        means.append(_foreground(counts))
        drawn.append(mean_defined(class_iou(resampled_counts(counts, weights)[:, 0])[..., 1:]))
    apart = drawn[1] - drawn[0]
    return result | {"means": means, "apart": [*interval(apart[~np.isnan(apart)])], "seconds": seconds}


def _foreground(counts: NDArray[np.int64]) -> float:
    """Returns the IoU of the foreground of counts `[1, images, K, K]`."""
    return float(mean_defined(class_iou(counts[0].sum(axis=0))[1:]))


def _counts(
    folder: Path, found: Sequence[NDArray[np.float32]], masks: TrueMasks, rows: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Returns true against predicted pixels of the mean over seeds, `[1, images, K, K]`.

    Args:
        folder: `out/S`.
        found: logits of the cells of these images, one array a seed.
        masks: of the target.
        rows: places of the images.
        classes: K.
    """
    mean = np.mean([softmax(logits) for logits in found], axis=0)
    logits = np.log(np.maximum(mean, LEAST_PROBABILITY)).astype(np.float32)
    across, down = read_facts(folder / "features").grid
    answers = predicted_masks(logits, np.arange(len(rows)), (across, down), masks.side)
    return confusions(answers, masks.take(rows), classes)[None]


def finished(folder: Path) -> dict[str, list[float]]:
    """Returns answer -> mean IoU, IoU of the foreground, and the interval of the former's difference to source-only.

    Args:
        folder: `out/S` of a project, trained; of the target's TRAINING masks.
    """
    params = params_of(train.Params, folder.parents[1] / "params.yaml", scenario=folder.name, method=SOURCE_ONLY)
    scenario, samples = params.scenario, read_samples(folder / "manifest.parquet", folder / "prepared")
    masks = TrueMasks(folder / "prepared", folder / "masks_target")
    rows = samples.rows([scenario.target], "train")
    rows = rows[masks.scored(rows)]
    weights = group_weights(samples.group[rows], RESAMPLES, 0)
    runs = open_trained(folder / "train", METHODS, scenario.classes, len(samples.label))
    drawn, scores = {}, {}
    for method in METHODS:
        facts = runs[method].facts
        cells = cells_of(rows, facts.cells)
        found = [runs[method].logits(seed, facts.epochs[-1])[cells] for seed in facts.seeds]
        counts = _counts(folder, found, masks, rows, len(scenario.classes))
        drawn[method] = mean_iou(resampled_counts(counts, weights)[:, 0])
        apart, total = drawn[method] - drawn[SOURCE_ONLY], counts[0].sum(axis=0)
        scores[method] = [
            float(mean_iou(total)), _foreground(counts), *interval(apart[~np.isnan(apart)]),
        ]  # fmt: skip
    return scores


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
        "IoU of the foreground on the target's TRAINING masks, from the mean of the probabilities over"
        f" {results[0]['seeds']} seed(s). In brackets: 95% interval, bootstrap by group, of the difference to"
        f" source-only. `exchanges`: whether light and dark are exchanged, by the skewness of grey values."
        f"\n\n{table(head, *rows)}"
    )


def main() -> None:
    """Measures the scenarios of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pixels", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/pixels"), help="folder for results")
    parser.add_argument("--finished", action="store_true", help="score what was trained; trains nothing")
    parser.add_argument("--precision", help="train both methods again in this precision, and compare")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/benchmarks.md gets the table")
    parser.add_argument("folders", nargs="+", type=Path, metavar="PROJECT/out/NAME")
    given = parser.parse_args()
    if given.finished:
        for folder in given.folders:
            for method, found in finished(folder.resolve()).items():
                print(folder.name, method, *(f"{value:.3f}" for value in found), flush=True)
        return
    if given.precision:
        for folder in given.folders:
            for method, found in at_precision(folder.resolve(), given.out, given.seeds, given.precision).items():
                rounded = {name: [round(value, 3) for value in values] for name, values in found.items()}
                print(folder.name, method, rounded, flush=True)
        return
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
