"""Makes pairs out of one labelled domain: half of it stays, the other half is corrupted and becomes the target.

`python -m benchmarks.pseudo_pairs --params params.yaml --to out/pseudo steel=out/steel blood=out/blood`: from the
source images of each scenario three pairs, `NAME_optics` (lost resolution, sensor noise, flat contrast), `NAME_tone`
(another tone curve, channel gains, uneven light and surface) and `NAME_resolution` (half the resolution alone: a small
shift). No label of a real target is needed, so such pairs may serve for development everywhere; the source's test
images are left out, for they are the test images of the reversed pair. The target's class shares are made uneven, from
all to a third of a class, because equal shares flatter every validator that rewards even predictions.
`NAME_tone_uneven` and `NAME_resolution_uneven` are thinned out by class once more. `NAME_uneven`, of the pairs that
are named after `--uneven` only, is the pair itself with such shares among its target's training images: their labels
are read, so only a development pair may be named there. Writes what `benchmarks.pool` reads, images too where the
backbone trains, and `params.yaml` with the scenarios beside it."""

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from numpy.typing import NDArray
from torch.nn import functional

from isthmus.core.device import make_deterministic, pick_device
from isthmus.core.files import read_json, write_json
from isthmus.core.seeds import derive_seed
from isthmus.data.ingest.split import Splits, assign_splits
from isthmus.data.manifest import INDEX, MANIFEST, TARGET_LABELS, read_table, write_table
from isthmus.data.preprocess.domain_statistics import moments_of
from isthmus.data.shards import SECOND_VIEW, Rows
from isthmus.models.descriptors import describe
from isthmus.models.embedding import encode, stored_encoder

KINDS = ("optics", "tone", "resolution")
UNEVEN = "_uneven"
UNEVEN_KINDS = ("tone", "resolution")  # the class shares of these are thinned out once more
DEVELOPMENT_PAIRS = ("industrial", "medical", "remote_sensing", "steel")
RAREST = 1 / 3  # share of its images that the least frequent target class keeps


def corrupted(images: NDArray[np.uint8], kind: str, seed: int) -> NDArray[np.uint8]:
    """Returns images `[N, H, W, C]` as another camera might have taken them; one camera for all of them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255.0
    size = x.shape[-2:]
    if kind == "optics":
        small = functional.interpolate(x, scale_factor=0.35, mode="bilinear", antialias=True)
        x = functional.interpolate(small, size=size, mode="bilinear")
        x = 0.5 + 0.5 * (x - 0.5) + 0.08 * torch.randn(x.shape, generator=generator)
    elif kind == "resolution":
        small = functional.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
        x = functional.interpolate(small, size=size, mode="bilinear")
    else:
        gains = 0.6 + 0.6 * torch.rand(x.shape[1], generator=generator)
        light = torch.linspace(0.55, 1.25, size[1]).view(1, 1, 1, -1)
        coarse = torch.randn(len(x), 1, 12, 12, generator=generator)
        surface = functional.interpolate(coarse, size=size, mode="bicubic")
        x = x.clamp(0, 1) ** 1.8 * gains.view(1, -1, 1, 1) * light + 0.07 * surface
    return (x.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def make_pair(folder: Path, to: Path, kind: str, seed: int, with_images: bool) -> tuple[str, str]:
    """Writes the pair's manifest, labels, index, features and, if asked, images; returns the names of its domains."""
    index = read_table(folder / "prepared" / "index.parquet", INDEX)
    manifest = (
        read_table(folder / "manifest.parquet", MANIFEST).set_index("image_id").loc[index["image_id"]].reset_index()
    )
    mine = (manifest["label"].notna() & (manifest["split"] != "test")).to_numpy()
    index, manifest = index[mine].reset_index(drop=True), manifest[mine].reset_index(drop=True)
    rng = np.random.default_rng(seed)
    groups = manifest["group"].unique()
    to_target = set(rng.permutation(groups)[: len(groups) // 2])
    is_target = manifest["group"].isin(to_target).to_numpy()
    labels = manifest["label"].to_numpy(int)
    stays = ~is_target | kept(labels, rng)
    source = str(manifest["domain"].iloc[0])
    target = f"{source}_{kind}"
    features, described = frozen_features(folder, index, is_target & stays, kind, seed)
    rows, table = index[stays].copy(), manifest[stays].copy()
    rows["domain"] = table["domain"] = np.where(is_target[stays], target, source)
    rows["shard"], rows["row"] = "all", np.arange(len(rows))
    table["split"] = assign_splits(table[["domain", "group"]].assign(given=None), target, Splits(), 0)
    write_table(
        to / "labels_target.parquet", table.loc[table["domain"] == target, ["image_id", "label"]], TARGET_LABELS
    )
    table["label"] = table["label"].astype("Int32").mask(table["domain"] == target)
    write_table(to / "manifest.parquet", table, MANIFEST)
    write_table(to / "prepared" / "index.parquet", rows, INDEX)
    facts: dict[str, Any] = {"domains": [source, target]}
    if with_images:
        images = Rows(folder / "prepared" / "shards", index).take(np.arange(len(index)))
        changed = is_target & stays
        images[changed] = corrupted(images[changed], kind, derive_seed(seed, "corruption"))
        (to / "prepared" / "shards").mkdir(parents=True, exist_ok=True)
        np.save(to / "prepared" / "shards" / "all.npy", images[stays])
        facts = read_json(folder / "prepared" / "facts.json") | facts | _moments(images[stays], table)
    write_json(to / "prepared" / "facts.json", facts)
    (to / "features").mkdir(parents=True, exist_ok=True)
    np.save(to / "features" / "all.npy", features[stays])
    (to / "features" / SECOND_VIEW).mkdir(exist_ok=True)
    np.save(to / "features" / SECOND_VIEW / "all.npy", described[stays])
    for name in ("backbone.safetensors", "embed.json"):
        shutil.copy(folder / "features" / name, to / "features" / name)
    return source, target


def _moments(images: NDArray[np.uint8], table: pd.DataFrame) -> dict[str, dict[str, list[float]]]:
    """Returns mean and std of each domain's training images, as `prepare` writes them."""
    train = table["split"] == "train"
    found = {d: moments_of(images[(train & (table["domain"] == d)).to_numpy()]) for d in table["domain"].unique()}
    return {"mean": {d: m.mean() for d, m in found.items()}, "std": {d: m.std() for d, m in found.items()}}


def kept(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Returns which images stay, bool `[N]`: all of one class, a third of another, so that shares are uneven."""
    share = np.linspace(RAREST, 1.0, labels.max() + 1)[rng.permutation(labels.max() + 1)]
    stays: NDArray[np.bool_] = rng.random(len(labels)) < share[labels]
    return stays


def make_uneven(folder: Path, to: Path, seed: int) -> None:
    """Writes the pair once more with uneven class shares among the target's training images.

    A target image that leaves keeps its row and goes to the split `test`, which nothing trains or is scored on here.
    """
    manifest = read_table(folder / "manifest.parquet", MANIFEST)
    held = read_table(folder / "labels_target.parquet", TARGET_LABELS).drop_duplicates("image_id", keep=False)
    label = manifest["image_id"].map(held.set_index("image_id")["label"])
    mine = ((manifest["split"] == "train") & label.notna() & manifest["label"].isna()).to_numpy()
    stays = kept(label[mine].to_numpy(np.int64), np.random.default_rng(seed))
    leaves = np.flatnonzero(mine)[~stays]
    manifest.loc[manifest.index[leaves], "split"] = "test"
    write_table(to / "manifest.parquet", manifest, MANIFEST)
    write_table(to / "labels_target.parquet", held, TARGET_LABELS)
    for name in ("prepared", "features"):
        if not (to / name).exists():
            (to / name).symlink_to((folder / name).resolve())


def frozen_features(
    folder: Path, index: pd.DataFrame, corrupt: NDArray[np.bool_], kind: str, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns frozen features `[N, D]` and descriptors `[N, D']` of these rows; of corrupted ones computed anew."""
    device = pick_device("auto")
    encoder = stored_encoder(folder / "features", 2).eval().to(device)
    everything = np.arange(len(index))
    features = Rows(folder / "features", index).take(everything)
    described = Rows(folder / "features" / SECOND_VIEW, index).take(everything)
    images = Rows(folder / "prepared" / "shards", index)
    places = np.flatnonzero(corrupt)
    for start in range(0, len(places), 32):
        part = places[start : start + 32]
        batch = corrupted(images.take(part), kind, derive_seed(seed, "corruption"))
        features[part], described[part] = encode(encoder, batch, device), describe(batch)
    return features, described


def main() -> None:
    """Makes the pairs of the scenarios that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pseudo_pairs", description=__doc__)
    parser.add_argument("--params", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--uneven", nargs="*", default=[], metavar="SCENARIO=FOLDER")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO=FOLDER")
    given = parser.parse_args()
    make_deterministic(1)
    torch.set_grad_enabled(False)
    document = yaml.safe_load(given.params.read_text())
    for name, _, folder in (text.partition("=") for text in given.scenarios):
        for kind in KINDS:
            pair = f"{name}_{kind}"
            trains = document["models"][document["scenarios"][name]["model"]]["mode"] == "full"
            source, target = make_pair(Path(folder), given.to / pair, kind, derive_seed(0, pair), trains)
            document["scenarios"][pair] = document["scenarios"][name] | {"source": [source], "target": target}
            print(f"{pair}: {source} -> {target}", flush=True)
            if kind in UNEVEN_KINDS:
                make_uneven(given.to / pair, given.to / (pair + UNEVEN), derive_seed(0, pair + UNEVEN))
                document["scenarios"][pair + UNEVEN] = document["scenarios"][pair]
    for name, _, folder in (text.partition("=") for text in given.uneven):
        if name not in DEVELOPMENT_PAIRS:
            parser.error(f"--uneven: '{name}' is no development pair. Allowed: {', '.join(DEVELOPMENT_PAIRS)}")
        make_uneven(Path(folder), given.to / (name + UNEVEN), derive_seed(0, name + UNEVEN))
        document["scenarios"][name + UNEVEN] = document["scenarios"][name]
        print(name + UNEVEN, flush=True)
    (given.to / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))


if __name__ == "__main__":
    main()
