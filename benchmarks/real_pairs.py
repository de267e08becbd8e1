"""Real pairs of the mirror, ingested, prepared and embedded once a data set, then taken in each direction.

A data set with several domains becomes one scenario; a pair is two of its domains, with new splits where the direction
is not the data set's own. Pairs of one data set are one family: they are left out together.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from benchmarks.methods import params_of
from isthmus.core.files import write_json
from isthmus.data.ingest.split import Splits, assign_splits
from isthmus.data.manifest import INDEX, MANIFEST, TARGET_LABELS, read_table, write_table
from isthmus.stages import embed, ingest, prepare

METHODS = ("source_only", "zscore", "mcc", "shot")


@dataclass(frozen=True)
class DataSet:
    """Where a data set lies in the mirror, and its domains, the target of its own direction last."""

    folder: str
    kind: str
    domains: tuple[str, ...]
    directions: tuple[tuple[str, str], ...]
    preprocess: dict[str, Any]
    left_out: tuple[str, ...] = ()


def _all(*domains: str) -> tuple[tuple[str, str], ...]:
    return tuple((source, target) for source in domains for target in domains if source != target)


_OFFICE = ("amazon", "caltech10", "dslr", "webcam")
_PACS = (("photo", "sketch"), ("photo", "art_painting"), ("art_painting", "photo"))
DATA_SETS = {
    "steel": DataSet("steel_neu_xsdd", "industrial", ("neu", "xsdd"), _all("neu", "xsdd"), {}),
    "blood": DataSet("wbc_pbc_tecom", "medical", ("pbc", "tecom"), _all("pbc", "tecom"), {}, ("basophil",)),
    "scenes": DataSet("rs_aid_rsscn7", "remote_sensing", ("aid", "rsscn7"), _all("aid", "rsscn7"), {"stretch": "none"}),
    "office": DataSet("office_caltech10", "natural", _OFFICE, _all(*_OFFICE), {}),
    "pacs": DataSet("pacs", "natural", ("photo", "art_painting", "sketch"), _PACS, {}),
    "digits": DataSet("digits_mnist_usps", "natural", ("mnist", "usps"), _all("mnist", "usps"), {}),
}
_OF_DIGIT = 50  # [image] of each digit and domain; more would be most of the time of all pairs
_DIGITS = "jda2013_mnist2000_usps1800_16x16_float64.npz"  # the sample of Long et al., JDA, ICCV 2013


@dataclass(frozen=True)
class Pair:
    """One direction of a data set, ready for the stages after `embed`.

    Attributes:
        folder: holds `manifest.parquet`, `prepared`, `features`, `params.yaml`, `labels.parquet`.
    """

    name: str
    family: str
    folder: Path


def pairs(mirror: Path, out: Path, params: Path, names: list[str]) -> Iterator[Pair]:
    """Yields the pairs of the named data sets, each made where it is not there yet.

    Args:
        mirror: folder with the data sets.
        out: where to work.
        params: whose sections `models`, `methods`, `train`, `select` and `evaluate` are used.
        names: of data sets.
    """
    for family in names:
        work = data_set(mirror, out, params, family)
        for source, target in DATA_SETS[family].directions:
            name = f"{family}_{source}_{target}"
            _pair(work, out / name, params, family, source, target)
            yield Pair(name, family, out / name)


@cache
def data_set(mirror: Path, out: Path, params: Path, family: str) -> Path:
    """Ingests, prepares and embeds a data set; returns its folder."""
    spec, work = DATA_SETS[family], out / "data" / family
    if (work / "features" / "embed.json").is_file():
        return work
    raw = work / "raw"
    if family == "digits":
        mirror = digit_files(mirror / spec.folder / _DIGITS, out / "data" / "digit_files")
    rows = pd.read_csv(mirror / spec.folder / "manifest.csv", dtype=str)
    rows = rows[rows["domain"].isin(spec.domains) & ~rows["label"].isin(spec.left_out)]
    for path in rows["path"]:
        (raw / path).parent.mkdir(parents=True, exist_ok=True)
        if not (raw / path).exists():
            shutil.copyfile(mirror / spec.folder / path, raw / path)
    rows[[c for c in ("path", "domain", "label", "split") if c in rows]].to_csv(raw / "images.csv", index=False)
    _write_params(work, params, family, list(spec.domains[:-1]), spec.domains[-1], sorted(rows["label"].unique()))
    own = work / "params.yaml"
    ingest.run(
        params_of(ingest.Params, own, scenario=family),
        raw=raw,
        manifest=work / "manifest.parquet",
        locations=work / "locations.parquet",
        companions=work / "companions.parquet",
        labels_target=work / "labels_target.parquet",
        audit=work / "audit.json",
        quarantine=work / "quarantine.json",
    )
    tables = {name: work / f"{name}.parquet" for name in ("manifest", "locations", "companions")}
    prepare.run(
        params_of(prepare.Params, own, scenario=family),
        raw=raw,
        **tables,
        checkpoints=work / "checkpoints",
        prepared=work / "prepared",
        masks_target=work / "masks_target",
    )
    embed.run(
        params_of(embed.Params, own, scenario=family),
        prepared=work / "prepared",
        cache=out / "cache",
        features=work / "features",
        model=work / "model.json",
    )
    return work


def digit_files(sample: Path, into: Path) -> Path:
    """Writes the sample as PNG files with a table, as other data sets lie in the mirror; returns its folder."""
    folder = into / DATA_SETS["digits"].folder
    held, rows = np.load(sample), []
    for domain in DATA_SETS["digits"].domains:
        (folder / domain).mkdir(parents=True, exist_ok=True)
        images, labels = held[f"{domain}_x"].reshape(-1, 16, 16), held[f"{domain}_y"]
        for number in np.concatenate([np.flatnonzero(labels == digit)[:_OF_DIGIT] for digit in range(10)]):
            path = f"{domain}/{number:04d}.png"
            Image.fromarray(np.rint(255 * images[number]).astype(np.uint8)).save(folder / path)
            rows.append((path, domain, f"digit_{labels[number]}"))
    pd.DataFrame(rows, columns=["path", "domain", "label"]).to_csv(folder / "manifest.csv", index=False)
    return into


def _write_params(folder: Path, params: Path, name: str, sources: list[str], target: str, classes: list[str]) -> None:
    document = yaml.safe_load(params.read_text())
    spec = DATA_SETS[name.split("_")[0]]
    document["scenarios"] = {
        name: {
            "kind": spec.kind, "raw": "raw", "source": sources, "target": target,
            "target_labels": "table", "classes": classes, "model": "vit", "preprocess": spec.preprocess,
        }
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))


def _pair(work: Path, folder: Path, params: Path, family: str, source: str, target: str) -> None:
    whole = read_table(work / "manifest.parquet", MANIFEST)
    held = read_table(work / "labels_target.parquet", TARGET_LABELS).drop_duplicates("image_id", keep=False)
    label = whole["label"].astype("Int32").fillna(whole["image_id"].map(held.set_index("image_id")["label"]))
    own = DATA_SETS[family].domains[-1] == target and len(DATA_SETS[family].domains) == 2
    given = pd.read_csv(work / "raw" / "images.csv", nrows=1).columns
    split = whole["split"].to_numpy(dtype=object)
    here = whole["domain"].isin([source, target]) & label.notna()
    rows, labels = whole[here].reset_index(drop=True), label[here].reset_index(drop=True).astype("int64")
    if not own:
        kept = ["test" if s == "test" else "train" for s in split[here]] if "split" in given else None
        frame = rows[["domain", "group"]].assign(given=kept)
        # Another seed than the data set's own: what it called the target's `train` lies under one threshold of the
        # same hash, so that the new source would have no `val`.
        rows["split"] = assign_splits(frame, target, Splits(), int(kept is not None))
    rows["label"] = labels.where(rows["domain"] == source).astype("Int32")
    classes = yaml.safe_load((work / "params.yaml").read_text())["scenarios"][family]["classes"]
    _write_params(folder, params, f"{family}_{source}_{target}", [source], target, classes)
    write_table(folder / "manifest.parquet", rows, MANIFEST)
    truth = pd.DataFrame({"image_id": rows["image_id"], "label": labels.astype("Int32")})
    write_table(folder / "labels.parquet", truth, TARGET_LABELS)
    index = read_table(work / "prepared" / "index.parquet", INDEX)
    prepared = folder / "prepared"
    prepared.mkdir(exist_ok=True)
    write_table(prepared / "index.parquet", index[index["image_id"].isin(rows["image_id"])], INDEX)
    write_json(prepared / "facts.json", {})
    for link, to in ((prepared / "shards", work / "prepared" / "shards"), (folder / "features", work / "features")):
        if not link.is_symlink():
            link.symlink_to(Path(os.path.relpath(to, link.parent)))


def labels_of(pair: Pair, image_ids: np.ndarray) -> np.ndarray:
    """Returns the true class of images `[N]`, int64."""
    table = read_table(pair.folder / "labels.parquet", TARGET_LABELS).set_index("image_id")["label"]
    return table.loc[image_ids].to_numpy(dtype=np.int64)
