"""Reads what `train` wrote as arrays, all in the row order of `prepared/index.parquet`."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.config import Config, validated
from isthmus.core.errors import ConfigError, DataError
from isthmus.core.files import read_json
from isthmus.data.manifest import INDEX, MANIFEST, read_table

UNKNOWN = -1  # label of an image whose class may not be known here


@dataclass(frozen=True)
class Samples:
    """Facts of each prepared image, in the order of every array that `train` wrote.

    Attributes:
        image_id: str `[N]`.
        domain: str `[N]`.
        split: str `[N]`.
        group: str `[N]`.
        label: int64 `[N]`, `UNKNOWN` for every target image.
    """

    image_id: NDArray[Any]
    domain: NDArray[Any]
    split: NDArray[Any]
    group: NDArray[Any]
    label: NDArray[np.int64]

    def rows(self, domains: Sequence[str], split: str) -> NDArray[np.int64]:
        """Returns the places of the images of these domains in this split."""
        return np.flatnonzero(np.isin(self.domain, list(domains)) & (self.split == split))


def read_samples(manifest: Path, prepared: Path) -> Samples:
    """Reads the facts of the prepared images.

    Raises:
        DataError: a prepared image is not in the manifest.
    """
    index = read_table(prepared / "index.parquet", INDEX)
    facts = read_table(manifest, MANIFEST).set_index("image_id")
    unknown = index.loc[~index["image_id"].isin(facts.index), "image_id"]
    if len(unknown):
        raise DataError(
            f"{prepared / 'index.parquet'}: {len(unknown)} images are not in {manifest} (first: {unknown.iloc[0]})."
            " Every prepared image must be in the manifest: run 'dvc repro' to prepare again"
        )
    facts = facts.loc[index["image_id"]]
    label = facts["label"].fillna(UNKNOWN).to_numpy(dtype=np.int64)
    domain, split, group = (facts[name].to_numpy(dtype=object) for name in ("domain", "split", "group"))
    return Samples(index["image_id"].to_numpy(dtype=object), domain, split, group, label)


class RunFacts(Config):
    """The part of `run.json` that judging needs."""

    scenario: str
    method: str
    mode: str
    optimises: list[str]
    seeds: list[int]
    epochs: list[int]
    classes: list[str]
    cells: int = 1  # rows of logits an image
    false_alarms: float = 0.0  # [share] of good images that may be called defective (task anomaly)
    left_out: str = ""  # why the method has nothing to do with the model; it has no seeds then
    target_labels: int = 0  # labelled target images that training saw


class Trained:
    """One trained method: logits, embeddings and curves of every seed and kept epoch, read when asked for."""

    def __init__(self, folder: Path, facts: RunFacts, count: int) -> None:
        self.facts = facts
        self._folder = folder
        self._count = count

    def logits(self, seed: int, epoch: int) -> NDArray[np.float32]:
        """Returns float32 `[N, K]`, or `[N * T, K]` of the cells of each image's grid."""
        rows = self._count * self.facts.cells
        return self._array(seed, f"{epoch:03d}.logits.npy", len(self.facts.classes), rows).astype(
            np.float32, copy=False
        )

    def embeddings(self, seed: int, epoch: int) -> NDArray[np.float32]:
        """Returns float32 `[N, B]`, features after the bottleneck."""
        return self._array(seed, f"{epoch:03d}.embeddings.npy", None, self._count).astype(np.float32)

    def extents(self, seed: int, epoch: int) -> NDArray[np.float32]:
        """Returns float32 `[N * T, 4]` of each cell's box, in cells (`data/boxes.py: corners`)."""
        rows = self._count * self.facts.cells
        return self._array(seed, f"{epoch:03d}.extents.npy", 4, rows).astype(np.float32, copy=False)

    def all_logits(self, epoch: int) -> NDArray[np.float32]:
        """Returns float32 `[R, N, K]`, one plane a seed in the order of `facts.seeds`."""
        return np.stack([self.logits(seed, epoch) for seed in self.facts.seeds])

    def maps(self, seed: int, epoch: int) -> NDArray[np.float32]:
        """Returns float32 `[N, T]` of each image's cells, above 0 where one looks like a defect (task anomaly)."""
        return self._array(seed, f"{epoch:03d}.maps.npy", None, self._count).astype(np.float32)

    def curves(self, seed: int) -> list[dict[str, Any]]:
        """Returns the lines of `curves.jsonl`, one an epoch.

        Raises:
            DataError: the file is missing, broken, or ends before the last kept epoch.
        """
        path = self._folder / "seeds" / str(seed) / "curves.jsonl"
        try:
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error}). {_train_again(self.facts.method)}") from None
        if not {*self.facts.epochs} <= {line.get("epoch") for line in lines}:
            raise DataError(
                f"{path}: has {len(lines)} epochs; run.json keeps epochs {self.facts.epochs}."
                f" {_train_again(self.facts.method)}"
            )
        return lines

    def _array(self, seed: int, name: str, width: int | None, count: int) -> NDArray[Any]:
        path = self._folder / "seeds" / str(seed) / "epochs" / name
        try:
            array: NDArray[Any] = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error}). {_train_again(self.facts.method)}") from None
        if array.ndim != 2 or len(array) != count or width not in (None, array.shape[1]):
            raise DataError(
                f"{path}: shape is {list(array.shape)}; expected [{count}, {width or 'B'}] for {self._count} prepared"
                f" images. {_train_again(self.facts.method)}"
            )
        return array


def grid_of(run: Trained) -> tuple[int, int]:
    """Returns rows and columns of a method's cells; they are square, as prepared images are.

    Raises:
        DataError: it was trained on images and not on cells.
    """
    side = round(run.facts.cells**0.5)
    if side * side != run.facts.cells or run.facts.cells == 1:
        raise DataError(
            f"method '{run.facts.method}' was trained on images and not on cells of a grid."
            f" Run: dvc repro --glob 'train@*-{run.facts.method}'"
        )
    return side, side


def open_trained(folder: Path, methods: Iterable[str], classes: Sequence[str], count: int) -> dict[str, Trained]:
    """Opens the named methods but those left out; whatever else lies in the folder is of another time.

    Args:
        folder: `out/S/train`, one folder a method.
        methods: the names under `methods:` in `params.yaml`.
        classes: of the scenario, in the order of the logits.
        count: N, number of prepared images.

    Raises:
        DataError: a method has not been trained, or was trained for other classes; all of them at once.
    """
    found: dict[str, Trained] = {}
    problems: list[str] = []
    for method in sorted(methods):
        path = folder / method / "run.json"
        if not path.exists():
            problems.append(f"{path}: no such file: method '{method}' has not been trained. {_train_again(method)}")
            continue
        facts = _read_facts(path)
        if facts.classes != list(classes):
            problems.append(
                f"{path}: classes are {', '.join(facts.classes)}; the scenario has {', '.join(classes)}."
                f" {_train_again(method)}"
            )
        if not facts.left_out:
            found[method] = Trained(folder / method, facts, count)
    if problems:
        raise DataError("\n".join(problems))
    return found


def _read_facts(path: Path) -> RunFacts:
    document = read_json(path)
    values = {name: document[name] for name in RunFacts.model_fields if name in document}
    try:
        return validated(RunFacts, values, f"{path}: ")
    except ConfigError as error:
        raise DataError(f"{error}. {_train_again(path.parent.name)}") from None


def _train_again(method: str) -> str:
    return f"Run: dvc repro --glob 'train@*-{method}'"
