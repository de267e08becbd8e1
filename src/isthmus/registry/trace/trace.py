"""From an alias back to the bytes of each image, and from an image or a group to the models that saw it."""

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from isthmus.core.errors import DataError, StoreError
from isthmus.core.files import md5_file, read_json, sha256_bytes, sha256_file
from isthmus.core.progress import track
from isthmus.data.ingest.split import group_key
from isthmus.data.manifest import INDEX, MANIFEST, read_table
from isthmus.registry.ledger.consistency import disagreement
from isthmus.registry.ledger.ledger import last_done
from isthmus.registry.publish.model_reference import resolve
from isthmus.registry.publish.publish import CHAMPION
from isthmus.registry.store.stores import open_store
from isthmus.registry.store.tracking import Store

TRAINED = "train"  # the split whose images entered the weights; the others chose, calibrated and judged
_IMAGE_COLUMNS = ["sha256", "part", "image_id", "domain", "split", "group"]  # no name, no path, no label


@dataclass(frozen=True)
class Version:
    """One version in the registry: registered name, number, MLflow's ids of model and run."""

    model: str
    number: str
    model_id: str
    run: str


@dataclass(frozen=True)
class Trace:
    """The chain of one model.

    Attributes:
        asked: as it was asked for: `isthmus-steel@champion`.
        version: what that is now.
        lineage: `lineage.json` of its run: commits, lock entries, md5 of the raw data.
        images: columns sha256, part, image_id, domain, split, group: every image that was prepared.
        checks: sentence -> whether it holds, of the chain itself.
        differs: how the registry's champion differs from the one in the record of promotions; empty where it does not.
    """

    asked: str
    version: Version
    lineage: dict[str, Any]
    images: pd.DataFrame
    checks: dict[str, bool]
    differs: str = ""

    def as_json(self) -> dict[str, Any]:
        """Returns the whole chain as JSON types, an entry an image."""
        version = {"model": self.version.model, "version": self.version.number, "model_id": self.version.model_id}
        return version | {
            "asked": self.asked,
            "run": self.version.run,
            "lineage": self.lineage,
            "checks": self.checks,
            "differs": self.differs,
            "images": self.images.to_dict("records"),
        }

    def text(self) -> str:
        """Returns the chain for a person."""
        facts, counts = self.lineage, self.images.value_counts(["domain", "split"], sort=False)
        lines = [
            self.asked,
            f"  version   {self.version.model} {self.version.number} (models:/{self.version.model_id})",
            f"  run       {self.version.run}",
            f"  commit    {facts['git_commit']}",
            f"  snapshot  {facts['snapshot']}" + (" (with uncommitted changes)" if _changed(facts) else ""),
            f"  dvc.lock  {len(facts['lock_entries'])} entries, sha256 {facts['lock_key']}",
            f"  raw data  {facts['raw']['path']}, md5 {facts['raw']['md5']}",
            f"  images    {len(self.images)} with their sha256, trained on {sum(self.images['split'] == TRAINED)}",
            *(f"            {' '.join(where)}: {count}" for where, count in zip(counts.index, counts, strict=True)),
            *(f"  {'holds ' if holds else 'BROKEN'}    {sentence}" for sentence, holds in self.checks.items()),
            *([f"  DIFFERS   {self.differs}"] if self.differs else []),
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Sighting:
    """One version that saw what was asked about: its images by split, and their groups."""

    version: Version
    aliases: list[str]
    images: pd.DataFrame

    def text(self) -> str:
        """Returns one line for a person."""
        counts = ", ".join(f"{split} {count}" for split, count in self.images["split"].value_counts().items())
        how = "trained on it" if (self.images["split"] == TRAINED).any() else "did not train on it"
        named = f" ({', '.join(self.aliases)})" if self.aliases else ""
        groups = ", ".join(sorted(set(self.images["group"])))
        return f"{self.version.model} {self.version.number}{named}: {how}; images by split: {counts}; group {groups}"

    def as_json(self) -> dict[str, Any]:
        """Returns it as JSON types."""
        return {
            "model": self.version.model,
            "version": self.version.number,
            "model_id": self.version.model_id,
            "aliases": self.aliases,
            "images": self.images.to_dict("records"),
        }


def sightings_text(found: list[Sighting]) -> str:
    """Returns the answer to `who_saw` for a person."""
    if found:
        return "\n".join(sighting.text() for sighting in found)
    return (
        "no model in this registry saw it.\nA group that shares identical or similar images with another is recorded"
        " under the other's key: to check all of a patient, lot or scene, use --image for each of its files"
    )


def trace(project: Path, asked: str) -> Trace:
    """Follows a model back to its images.

    Args:
        project: its root.
        asked: `NAME@ALIAS`, `NAME/VERSION` or `NAME` (its champion); NAME is a registered name or a scenario.

    Raises:
        StoreError: there is no such model, alias or version, or its run lacks what a trace needs.
    """
    store = open_store(project)
    version = find_version(store, asked)
    with tempfile.TemporaryDirectory() as folder:
        place = fetched(store, version, "lineage.json", Path(folder))
        manifest = fetched(store, version, "manifest.parquet", Path(folder))
        lineage = read_json(place)
        images = _images(store, version, Path(folder))
        champion = store.aliases(version.model).get(CHAMPION)
        differs = disagreement(last_done(store, version.model), version.model, champion)
        return Trace(asked, version, lineage, images, _checks(lineage, manifest), differs)


def who_saw(project: Path, *, image: str | None = None, group: str | None = None) -> list[Sighting]:
    """Returns every version in the registry that saw an image, or an image of a group.

    Args:
        project: its root.
        image: path of a file, or a sha256.
        group: value of the scenario's group (a patient, lot or scene), or its key as `trace` shows it.

    Raises:
        DataError: neither or both are given, or `image` is no file and no sha256.
    """
    if (image is None) == (group is None):
        raise DataError("ask about one thing: --image FILE or sha256, or --group VALUE")
    wanted = _sha256_of(image) if image is not None else ""
    keys = set() if group is None else {group, group_key(f"group {group}")}
    store, found = open_store(project), []
    versions = store.versions()
    for name, number in track(versions, "trace", len(versions), "version"):
        version = Version(name, number, store.model_of(name, number) or "", store.run_of(name, number) or "")
        with tempfile.TemporaryDirectory() as folder:
            if store.fetch_file(version.run, "manifest.parquet", Path(folder)) is None:
                continue  # published before images were listed, or by somebody else
            images = _images(store, version, Path(folder))
        seen = images[images["sha256"] == wanted] if image is not None else images[images["group"].isin(keys)]
        if len(seen):
            aliases = sorted(alias for alias, at in store.aliases(name).items() if at == number)
            found.append(Sighting(version, aliases, seen))
    return found


def seen_by(store: Store, model: str, version: str, sha256: set[str]) -> int | None:
    """Returns how many of these images a version was trained on; None where its run does not list them."""
    found = Version(model, version, "", store.run_of(model, version) or "")
    with tempfile.TemporaryDirectory() as folder:
        if store.fetch_file(found.run, "manifest.parquet", Path(folder)) is None:
            return None
        images = _images(store, found, Path(folder))
    return int(images.loc[images["split"] == TRAINED, "sha256"].isin(sha256).sum())


def find_version(store: Store, asked: str) -> Version:
    """Returns the version that `NAME@ALIAS`, `NAME/VERSION` or `NAME` means, with the run that made it.

    Raises:
        ConfigError: it names no model.
        StoreError: there is none.
    """
    address = resolve(store, asked)
    run = store.run_of(address.model, address.version) or ""
    return Version(address.model, address.version, address.model_id, run)


def fetched(store: Store, version: Version, name: str, folder: Path) -> Path:
    """Downloads a file of a version's run.

    Raises:
        StoreError: the run has no such file.
    """
    path = store.fetch_file(version.run, name, folder)
    if path is None:
        raise StoreError(
            f"{version.model} {version.number}: run {version.run} has no {name}, which a trace needs."
            " It was published by an older version: publish its results again"
        )
    return path


def _images(store: Store, version: Version, folder: Path) -> pd.DataFrame:
    manifest = read_table(fetched(store, version, "manifest.parquet", folder), MANIFEST)
    prepared = read_table(fetched(store, version, "index.parquet", folder), INDEX)["image_id"]
    # what could not be prepared was seen by no model
    return manifest.loc[manifest["image_id"].isin(prepared), _IMAGE_COLUMNS].reset_index(drop=True)


def _checks(lineage: dict[str, Any], manifest: Path) -> dict[str, bool]:
    canonical = json.dumps(lineage["lock_entries"], sort_keys=True, separators=(",", ":"))
    outs = [out for entry in lineage["lock_entries"].values() for out in entry.get("outs", [])]
    return {
        "the lock entries are those of the version's key": sha256_bytes(canonical.encode()) == lineage["lock_key"],
        "the list of images is the one in the lock entries": md5_file(manifest) in {out["md5"] for out in outs},
    }


def _changed(lineage: dict[str, Any]) -> bool:
    return bool(lineage["snapshot"] != lineage["git_commit"])


def _sha256_of(image: str) -> str:
    if re.fullmatch(r"[0-9a-fA-F]{64}", image):
        return image.lower()
    path = Path(image)
    if not path.is_file():
        raise DataError(f"--image {image}: no such file, and no sha256 (64 hex digits)")
    return sha256_file(path)
