"""Trains the pool that the choice is measured on: every feature method, with and without standardisation, all seeds.

`python -m benchmarks.pool --params params.yaml --pool out/pool steel=out/steel steel_reverse=out/steel`: for each
pair a folder with what `ingest`, `prepare` and `embed` wrote (only read). Each candidate runs through the stage
`train`; what already exists is not run again. A pair named `NAME_reverse` has source and target swapped: the labels
of the new source come from `labels_target.parquet`, those of the old source become the new target's, and test images
stay test images. `METHOD.raw` is METHOD without standardisation; source_only and zscore have one variant each. In
full mode (images) there are no `.raw` variants; `--only` names some methods."""

import argparse
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import yaml

from benchmarks.methods import feature_methods, params_of
from isthmus.core import plugins
from isthmus.core.files import read_json
from isthmus.data.ingest.split import Splits, assign_splits
from isthmus.data.manifest import MANIFEST, TARGET_LABELS, read_table, write_table
from isthmus.stages import train

REVERSE, RAW = "_reverse", ".raw"


def variants(methods: Sequence[str], mode: str) -> list[str]:
    """Returns the candidates' names: each method, and `METHOD.raw` where its switch is heeded in frozen mode."""
    fixed = {m for m in methods if getattr(plugins.load("adapt.methods", m).Adaptation, "standardises", None)}
    return sorted([*methods, *(m + RAW for m in methods if m not in fixed and mode == "frozen")])


def params_for(params: Path, pair: str, work: Path, methods: Sequence[str], rule: Path | None = None) -> Path:
    """Writes a `params.yaml` with this pair's scenario, swapped if it is a reverse, and one method section each.

    The section `select` is that of `rule`, if one is given.
    """
    document = yaml.safe_load(params.read_text())
    if rule is not None:
        document["select"] = yaml.safe_load(rule.read_text())["select"]
    scenario = dict(document["scenarios"][pair.removesuffix(REVERSE)])
    if pair.endswith(REVERSE):
        (source,) = scenario["source"]
        scenario |= {"source": [scenario["target"]], "target": source}
    document["scenarios"] = {pair: scenario}
    document["methods"] = {m: {} for m in methods}
    work.mkdir(parents=True, exist_ok=True)
    for name, standardise in (("params.yaml", True), ("params.raw.yaml", False)):
        document["methods"] = {m: {"standardise": standardise} for m in methods}
        (work / name).write_text(yaml.safe_dump(document, sort_keys=False))
    return work / "params.yaml"


def inputs_of(pair: str, folder: Path, work: Path, seed: int) -> Path:
    """Returns the folder with this pair's manifest, prepared images, features and target labels; swaps if need be."""
    if not pair.endswith(REVERSE):
        return folder
    manifest = read_table(folder / "manifest.parquet", MANIFEST)
    held = read_table(folder / "labels_target.parquet", TARGET_LABELS).drop_duplicates("image_id", keep=False)
    known = held.set_index("image_id")["label"]
    was_target = manifest["label"].isna()
    manifest["label"] = manifest["label"].astype("Int32")
    labels = manifest.loc[~was_target, ["image_id", "label"]]
    manifest.loc[was_target, "label"] = manifest.loc[was_target, "image_id"].map(known).astype("Int32")
    manifest.loc[~was_target, "label"] = pd.NA
    # An image of the new source without a label (two labels contradict) has no part in anything: `cal` is not read.
    new_target = manifest.loc[~was_target, "domain"].iloc[0]
    frame = manifest[["domain", "group"]].assign(given=["test" if s == "test" else "train" for s in manifest["split"]])
    # Another seed than the pair's own: what it called the target's `train` lies below one threshold of the same hash,
    # so the new source would have no `val`.
    split = pd.Series(assign_splits(frame, new_target, Splits(), seed + 1), index=manifest.index)
    manifest["split"] = split.mask(was_target & manifest["label"].isna(), "cal")
    swapped = work / "inputs"
    swapped.mkdir(parents=True, exist_ok=True)
    write_table(swapped / "manifest.parquet", manifest, MANIFEST)
    write_table(swapped / "labels_target.parquet", labels, TARGET_LABELS)
    for name in ("prepared", "features"):
        if not (swapped / name).exists():
            (swapped / name).symlink_to((folder / name).resolve())
    return swapped


def train_pair(params: Path, pair: str, folder: Path, pool: Path, methods: Sequence[str]) -> None:
    """Trains every candidate of one pair that is not there yet, into `pool/PAIR/train/CANDIDATE`."""
    work = pool / pair
    document = yaml.safe_load(params.read_text())
    model = document["scenarios"][pair.removesuffix(REVERSE)]["model"]
    names = variants(methods, document["models"][model]["mode"])
    own = params_for(params, pair, work, methods)
    inputs = inputs_of(pair, folder, work, document["seed"])
    for name in names:
        done = work / "train" / name
        if (done / "run.json").is_file():
            continue
        method = name.removesuffix(RAW)
        chosen = own if method == name else work / "params.raw.yaml"
        start = time.monotonic()
        train.run(
            params_of(train.Params, chosen, scenario=pair, method=method),
            scenario=pair,
            method=method,
            manifest=inputs / "manifest.parquet",
            prepared=inputs / "prepared",
            features=inputs / "features",
            checkpoints=work / "checkpoints",
            trained=done,
        )
        for weights in done.glob("seeds/*/epochs/*.safetensors"):
            weights.unlink()  # the choice reads logits and embeddings; weights of all epochs would be gigabytes
        print(f"{pair} {name}: {time.monotonic() - start:.1f} s", flush=True)
    shutil.rmtree(work / "checkpoints", ignore_errors=True)
    assert {read_json(work / "train" / n / "run.json")["scenario"] for n in names} == {pair}


def main() -> None:
    """Trains the pool of the pairs that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pool", description=__doc__)
    parser.add_argument("--params", type=Path, required=True, help="params.yaml that has the scenarios")
    parser.add_argument("--pool", type=Path, required=True, help="folder that the candidates are kept in")
    parser.add_argument("--only", nargs="+", help="methods; default: all that take features")
    parser.add_argument("pairs", nargs="+", metavar="PAIR=FOLDER")
    given = parser.parse_args()
    for pair, _, folder in (text.partition("=") for text in given.pairs):
        train_pair(given.params, pair, Path(folder), given.pool, given.only or feature_methods())


if __name__ == "__main__":
    main()
