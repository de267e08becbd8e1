"""Compares fixed answers for masks: source-only, views of the source with and without exchanged light and dark, means.

`python -m benchmarks.views --out FOLDER --write . PROJECT/out/NAME...`: scenarios whose images are embedded with
`views: 1`. A head is trained for each kind of view and seed as the stage `train` does it. Settled on the target's
TRAINING masks, and so only for pairs declared for development: no test mask is read. Every answer is the mean of the
probabilities over its networks and seeds, source-only too, and differences are to source-only averaged likewise.
"""

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.methods import no_labels, params_of
from benchmarks.sections import table, write_section
from isthmus.core.accuracy import LEAST_PROBABILITY
from isthmus.core.device import make_deterministic
from isthmus.core.files import read_json, write_json
from isthmus.data.augment.photometric import photometric_view
from isthmus.data.manifest import INDEX, MANIFEST, read_table
from isthmus.data.shards import CellRows, cells_of, open_shard
from isthmus.evaluation.masks import TrueMasks, predicted_masks
from isthmus.evaluation.metrics import group_weights, interval, softmax
from isthmus.evaluation.scoring.masks import Counts, class_iou, confusions, mean_defined, mean_iou, resampled_counts
from isthmus.evaluation.trained import read_samples
from isthmus.models.embedding import encode, read_facts, stored_encoder, view_prefix
from isthmus.stages import train

SEEDS, RESAMPLES, BATCH = (0, 1, 2), 1000, 16
VIEWS = {  # network -> views of the source beside the source itself: light and dark exchanged in none, all or half
    "source_only": (),
    "mixed": ("mixed",),
    "plain": ("plain",),
    "both": ("plain", "exchanged"),
}
ADAPTED = ("dann", "mmd")  # they see the target; for change alone: on nuclei and cracks they are far below views
ANSWERS = {  # answer -> the networks whose mean it is
    "source-only": ("source_only",),
    "views, half exchanged": ("mixed",),
    "views, none exchanged": ("plain",),
    "views of both": ("both",),
    "source-only + half": ("source_only", "mixed"),
    "source-only + none": ("source_only", "plain"),
    "half + none": ("mixed", "plain"),
    "source-only + half + none": ("source_only", "mixed", "plain"),
    "dann": ("dann",),
    "mmd": ("mmd",),
    "source-only + dann": ("source_only", "dann"),
    "source-only + mmd": ("source_only", "mmd"),
    "dann + mmd": ("dann", "mmd"),
    "source-only + dann + mmd": ("source_only", "dann", "mmd"),
}
SHIPPED = "views, half exchanged"
AGAINST = ("source-only", SHIPPED)
RULES = {  # answer that depends on the pair, without its labels -> the answer where True, and where False
    "guard: half, or none": ("harms_source", "views, none exchanged", "views, half exchanged"),
    "nearer: half, or none": ("nearer", "views, half exchanged", "views, none exchanged"),
}
FAMILY = {"seg_nuclei": "nuclei", "seg_cracks": "cracks", "change_landsat": "change"}  # of pairs that settle


def family_of(scenario: str) -> str:
    """Returns the family of a pair, '' for one that is only looked at."""
    return FAMILY.get(scenario.removesuffix("_back"), "")


def measured(folder: Path, out: Path) -> dict[str, Any]:
    """Trains and compares one scenario; what is there already is not done again.

    Args:
        folder: `out/S` of a project, embedded.
        out: for views, logits and results.
    """
    done = out / "result.json"
    if not done.is_file():
        out.mkdir(parents=True, exist_ok=True)
        write_json(done, {"scenario": folder.name} | _compared(folder, out))
    found: dict[str, Any] = read_json(done)
    return found


def _compared(folder: Path, out: Path) -> dict[str, Any]:
    params = params_of(
        train.Params, folder.parents[1] / "params.yaml", scenario=folder.name, method="domain_randomisation"
    )
    scenario, samples = params.scenario, read_samples(folder / "manifest.parquet", folder / "prepared")
    index = read_table(folder / "prepared" / "index.parquet", INDEX)
    masks = TrueMasks(folder / "prepared", folder / "masks_target")
    _write_views(folder, out, index, scenario.target)
    rows = {
        "target": samples.rows([scenario.target], "train"),
        "source": np.concatenate([samples.rows(scenario.source, split) for split in ("val", "cal", "test")]),
    }
    rows = {name: places[masks.scored(places)] for name, places in rows.items()}
    logits = _logits(params, folder, out, index, rows)
    grid, classes = read_facts(folder / "features").grid, len(scenario.classes)
    counts: dict[str, dict[str, Counts]] = {name: {} for name in rows}
    for where, places in rows.items():
        for answer, networks in ANSWERS.items():
            if not set(networks) <= set(logits[where]):
                continue
            mean = np.mean([softmax(one) for name in networks for one in logits[where][name]], axis=0)
            known = np.log(np.maximum(mean, LEAST_PROBABILITY)).astype(np.float32)
            found = predicted_masks(known, np.arange(len(places)), (grid[0], grid[1]), masks.side)
            counts[where][answer] = confusions(found, masks.take(places), classes)[None]
    groups = {name: samples.group[places] for name, places in rows.items()}
    source = _scores(counts["source"], groups["source"])
    nearer = _nearer(folder, out, index, rows["target"], scenario.target)
    return {
        "images": len(rows["target"]),
        "groups": len(set(groups["target"])),
        "target": _scores(counts["target"], groups["target"]),
        "source": source,
        "nearer_share": nearer,
        "nearer": nearer > 0.5,
        "harms_source": source[SHIPPED]["foreground"]["source-only"][1] < 0,
    }


def _write_views(folder: Path, out: Path, index: pd.DataFrame, target: str) -> None:
    """Writes features of two views of each source image, `plain` and `exchanged`, and links those of `mixed`.

    `embed` has written one of the two for each image already (`view1-`), with the same gamma, gain and offset.
    """
    make_deterministic(1)
    encoder = stored_encoder(folder / "features", 2).eval()
    for shard in sorted(set(index.loc[index["domain"] != target, "shard"])):
        mixed = folder / "features" / f"{view_prefix(1)}{shard}.npy"
        if (out / f"mixed-{shard}.npy").is_symlink():
            continue
        images, there = open_shard(folder / "prepared" / "shards" / f"{shard}.npy"), open_shard(mixed)
        is_plain, other = [], []
        for first in range(0, len(images), BATCH):
            batch = images[first : first + BATCH]
            plain, exchanged = (photometric_view(batch, 1, share) for share in (0.0, 1.0))
            same = (photometric_view(batch, 1) == plain).all(axis=(1, 2, 3))
            missing = np.where(same[:, None, None, None], exchanged, plain)
            other.append(encode(encoder, missing, torch.device("cpu")))
            is_plain.append(same)
        here, missing = np.concatenate(is_plain)[:, None, None], np.concatenate(other)
        np.save(out / f"plain-{shard}.npy", np.where(here, there, missing))
        np.save(out / f"exchanged-{shard}.npy", np.where(here, missing, there))
        (out / f"mixed-{shard}.npy").symlink_to(mixed)


def _logits(
    params: train.Params, folder: Path, out: Path, index: pd.DataFrame, rows: dict[str, NDArray[np.int64]]
) -> dict[str, dict[str, list[NDArray[Any]]]]:
    """Returns where -> network -> of each seed the logits of the cells of these images `[n * T, K]`."""
    plain = params.model_copy(update={"model": params.model.model_copy(update={"views": 0})})
    with tempfile.TemporaryDirectory() as work:
        data = train.read_data(
            plain, folder / "manifest.parquet", folder / "prepared", folder / "features", no_labels(Path(work))
        )
    found: dict[str, dict[str, list[NDArray[Any]]]] = {where: {} for where in rows}
    for name in (*VIEWS, *(ADAPTED if params.scenario.task == "change" else ())):
        kept = out / f"logits-{name}.npz"
        if not kept.is_file():
            own, method = data, name
            if views := VIEWS.get(name, ()):
                method = "domain_randomisation"
                target = params.scenario.target
                own = replace(data, views=tuple(_rows(folder, out, view, index, target) for view in views))
            options = params_of(
                train.Params, folder.parents[1] / "params.yaml", scenario=folder.name, method=method
            ).method
            arrays = {}
            for seed in SEEDS:
                logits = trained(plain.model_copy(update={"method": options}), own, folder, seed, method)
                arrays |= {f"{where}-{seed}": logits[cells_of(places, data.cells)] for where, places in rows.items()}
            np.savez(kept, **arrays)
        with np.load(kept) as stored:
            for where in rows:
                found[where][name] = [stored[f"{where}-{seed}"] for seed in SEEDS]
    return found


def _rows(folder: Path, out: Path, view: str, index: pd.DataFrame, target: str) -> CellRows:
    """Returns the cells of a view; those of the target, of which there are no views, are the images' own."""
    source = index["domain"] != target
    here = index.assign(shard=index["shard"].where(~source, f"{view}-" + index["shard"]))
    links = out / "rows"
    links.mkdir(exist_ok=True)
    for shard in set(here["shard"]):
        link = links / f"{shard}.npy"
        if not link.is_symlink():
            own = out / f"{shard}.npy"
            link.symlink_to(own.resolve() if own.is_file() else (folder / "features" / f"{shard}.npy").resolve())
    return CellRows(links, here)


def trained(params: train.Params, data: Any, folder: Path, seed: int, method: str) -> NDArray[np.float32]:
    """Returns the logits of all cells `[N * T, K]` that one seed of a method has at its last epoch."""
    make_deterministic(1)
    with tempfile.TemporaryDirectory() as work:
        session = train.open_session(params, data, folder / "prepared", folder / "features", Path(work), seed, method)
        session.method.fit(session)
        found: NDArray[np.float32] = np.load(next(Path(work).glob("epochs/*.logits.npy")))
    return found


def _nearer(folder: Path, out: Path, index: pd.DataFrame, rows: NDArray[np.int64], target: str) -> float:
    """Returns the share of target images whose nearest source image, by mean features, is an exchanged one."""
    manifest = read_table(folder / "manifest.parquet", MANIFEST).set_index("image_id").loc[index["image_id"]]
    own = np.flatnonzero(((index["domain"] != target) & (manifest["split"] == "train").to_numpy()).to_numpy())
    near = {}
    wanted = _unit(_rows(folder, out, "plain", index, target), rows)
    for view in ("plain", "exchanged"):
        near[view] = (wanted @ _unit(_rows(folder, out, view, index, target), own).T).max(axis=1)
    return float((near["exchanged"] > near["plain"]).mean())


def _unit(cells: CellRows, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    mean = np.stack(
        [cells.take(cells_of(rows[n : n + 1], cells.cells)).astype(np.float32).mean(0) for n in range(len(rows))]
    )
    unit: NDArray[np.float32] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return unit


def _scores(counts: dict[str, Counts], groups: NDArray[Any]) -> dict[str, Any]:
    """Returns of each answer both scores, and 95% intervals by group of the difference to two others' (`AGAINST`)."""
    weights = group_weights(groups, RESAMPLES, 0)
    scores = {"foreground": lambda found: mean_defined(class_iou(found)[..., 1:]), "mean_iou": mean_iou}
    result: dict[str, Any] = {answer: {} for answer in counts}
    for name, score in scores.items():
        drawn = {answer: score(resampled_counts(found, weights))[:, 0] for answer, found in counts.items()}
        whole = {answer: float(score(found[0].sum(axis=0))) for answer, found in counts.items()}
        for answer in counts:
            result[answer][name] = {"score": whole[answer]}
            for against in AGAINST:
                apart = drawn[answer] - drawn[against]
                result[answer][name][against] = interval(apart[~np.isnan(apart)])
    return result


def report(results: list[dict[str, Any]]) -> str:
    """Returns all answers as Markdown: a row an answer, and what is settled with each family left out."""
    results = [_with_rules(result) for result in results]
    parts = []
    for name, title in (("foreground", "IoU of the foreground"), ("mean_iou", "Mean IoU")):
        for against in AGAINST:
            rows = [
                (answer, *(_cell(r["target"].get(answer, {}).get(name), against) for r in results),
                 _shown(_mean(results, answer, name)))
                for answer in (*ANSWERS, *RULES)
            ]  # fmt: skip
            head = (f"{title}, against {against}", *(r["scenario"] for r in results), "mean over families")
            parts.append(table(head, *rows))
        parts.append(_left_out(results, name))
    shares = ", ".join(f"{r['scenario']} {r['nearer_share']:.2f}" for r in results)
    harmed = ", ".join(r["scenario"] for r in results if r["harms_source"]) or "none"
    return (
        "On the target's TRAINING masks, three seeds averaged; in brackets the 95% interval by group of the difference"
        " to another answer, averaged likewise; **bold**: above it, *italic*: below it, by more than the interval."
        " Families are those of nuclei, cracks and change; lesions and fields are simulated and only looked at.\n\n"
        + "\n\n".join(parts)
        + f"\n\nShare of target images nearer to exchanged source images: {shares}. Views with half exchanged lower the"
        f" source's own held-out IoU of the foreground by more than the interval on: {harmed}."
    )


def _with_rules(result: dict[str, Any]) -> dict[str, Any]:
    own = {rule: result["target"][yes if result[key] else no] for rule, (key, yes, no) in RULES.items()}
    return result | {"target": result["target"] | own}


def _shown(score: float) -> str:
    return "" if np.isnan(score) else f"{score:.3f}"


def _cell(found: dict[str, Any] | None, against: str) -> str:
    if found is None:
        return ""
    low, high = found[against]
    text = f"{found['score']:.3f} ({low:+.3f} to {high:+.3f})"
    mark = "**" if low > 0 else "*" if high < 0 else ""
    return f"{mark}{text}{mark}" if low or high else f"{found['score']:.3f}"


def _mean(results: list[dict[str, Any]], answer: str, name: str, without: str = "") -> float:
    """Returns the mean over families of the mean over their pairs; NaN where one of these lacks the answer."""
    by_family: dict[str, list[float]] = {}
    for r in results:
        if (family := family_of(r["scenario"])) and family != without:
            found = r["target"].get(answer)
            by_family.setdefault(family, []).append(found[name]["score"] if found else np.nan)
    return float(np.mean([np.mean(scores) for scores in by_family.values()]))


def _left_out(results: list[dict[str, Any]], name: str) -> str:
    rows = []
    families = sorted({family_of(r["scenario"]) for r in results} - {""})
    for family in families if len(families) > 1 else []:
        others = {a: _mean(results, a, name, family) for a in (*ANSWERS, *RULES)}
        settled = max((a for a in others if not np.isnan(others[a])), key=lambda answer: others[answer])
        here = [r["target"] for r in results if family_of(r["scenario"]) == family]
        score = {a: float(np.mean([own[a][name]["score"] for own in here])) for a in (*ANSWERS, *RULES) if a in here[0]}
        best = max(score, key=lambda answer: score[answer])
        rows.append(
            (family, settled, f"{score[settled]:.3f}", f"{score['source-only']:.3f}", f"{best} {score[best]:.3f}")
        )
    return table(("family left out", "settled on the others", "its score there", "source-only", "best there"), *rows)


def _quietly(folders: list[Path], out: Path) -> Iterator[dict[str, Any]]:
    for folder in folders:
        with Path(os.devnull).open("w", encoding="utf-8") as silent, contextlib.redirect_stdout(silent):
            found = measured(folder, out / folder.name)
        print(folder.name, {a: round(v["foreground"]["score"], 3) for a, v in found["target"].items()}, flush=True)
        yield found


def main() -> None:
    """Measures the scenarios of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.views", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for views, logits and results")
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/benchmarks.md gets the tables")
    parser.add_argument("folders", nargs="+", type=Path, metavar="PROJECT/out/NAME")
    given = parser.parse_args()
    text = report(list(_quietly([folder.resolve() for folder in given.folders], given.out)))
    print(text)
    if given.write:
        write_section(given.write / "docs" / "benchmarks.md", "views", text)


if __name__ == "__main__":
    main()
