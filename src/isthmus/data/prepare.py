"""Raw images -> shards: fit the kind on training images, prepare every image, stream it to its row."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from isthmus.core.errors import DataError
from isthmus.core.files import write_json
from isthmus.core.progress import track
from isthmus.data.image import Image
from isthmus.data.kinds import Fitted, Kind
from isthmus.data.manifest import INDEX, write_table
from isthmus.data.scenario import Scenario
from isthmus.data.shards import open_shard, plan_shards
from isthmus.data.tiling import ChangedError, is_tile, read_part
from isthmus.data.workers import in_order

_SHOWN = 10
_LARGE = 1_000_000  # [pixel]


class Item(NamedTuple):
    """One image to prepare."""

    image_id: str
    domain: str
    path: str
    part: str
    sha256: str


class Refused(NamedTuple):
    """One image the kind does not take."""

    image_id: str
    reason: str


def prepare(
    raw: Path,
    manifest: pd.DataFrame,
    places: pd.DataFrame,
    scenario: Scenario,
    kind: Kind,
    folder: Path,
    workers: int,
) -> dict[str, Any]:
    """Writes index, shards and facts of a scenario into an empty folder; returns the facts.

    Raises:
        DataError: an image changed since `ingest`, or a domain has no image left to train on.
    """
    both = manifest.merge(places, on=["image_id", "part"], validate="1:1")
    if both["part"].map(is_tile).any():  # frame by frame, so that a frame is decoded once and not once a tile
        both = both.sort_values(["sha256", "part"], kind="stable")
    items = [Item(*row) for row in both[list(Item._fields)].itertuples(index=False)]
    if len(items) != len(manifest):
        raise DataError("manifest and locations name different images. Run 'dvc repro' to write both again")
    train = set(manifest.loc[manifest["split"] == "train", "image_id"])
    chunk = 16 if int((manifest["height"] * manifest["width"]).max()) < _LARGE else 1
    fitted = {}
    for domain in scenario.domains:
        chosen = [item for item in items if item.domain == domain and item.image_id in train]
        # large images one at a time: a decoded photograph can be a hundred times its prepared array
        images = track(in_order(partial(_decoded, raw), chosen, workers, chunk), f"fit {domain}", len(chosen))
        fitted[domain] = kind.fit(image for image in images if isinstance(image, Image))
    one = partial(_prepared, raw, kind, fitted)
    first = next((array for array in map(one, items) if isinstance(array, np.ndarray)), None)
    if first is None:
        _raise_nothing_left([r for r in map(one, items[:_SHOWN]) if isinstance(r, Refused)], "any domain")
    index = plan_shards(scenario.domains, manifest, first.nbytes)
    sums = {domain: _Moments(first) for domain in scenario.domains}
    arrays = track(in_order(one, items, workers), "prepare", len(items))
    places_of = index.set_index("image_id").loc[[item.image_id for item in items]]
    refused = _write_shards(folder / "shards", places_of, first, arrays, partial(_watch, sums, items, train))
    if refused:
        index = _without(folder, index, {r.image_id for r in refused}, manifest, scenario, first)
    for domain in scenario.domains:
        if sums[domain].count == 0:
            _raise_nothing_left(refused, f"domain '{domain}'")
    write_table(folder / "index.parquet", index, INDEX)
    counts = index["domain"].value_counts()
    facts = {
        "classes": scenario.classes,
        "channels": first.shape[2],
        "height": first.shape[0],
        "width": first.shape[1],
        "dtype": first.dtype.name,
        "domains": scenario.domains,
        "sources": len(scenario.source),
        "fitted": fitted,
        "mean": {domain: sums[domain].mean() for domain in scenario.domains},
        "std": {domain: sums[domain].std() for domain in scenario.domains},
        "count": {domain: int(counts[domain]) for domain in scenario.domains},
        "quarantine": [r._asdict() for r in sorted(refused)],
    }
    write_json(folder / "facts.json", facts)
    return facts


def _decoded(raw: Path, item: Item) -> Image | Refused:
    try:
        return read_part(raw / item.path, item.part, item.sha256)
    except ChangedError:
        raise
    except DataError as error:
        return Refused(item.image_id, str(error))


def _prepared(raw: Path, kind: Kind, fitted: dict[str, Fitted], item: Item) -> NDArray[Any] | Refused:
    image = _decoded(raw, item)
    if isinstance(image, Refused):
        return image
    try:
        return kind.prepare(image, fitted[item.domain])
    except DataError as error:
        return Refused(item.image_id, str(error))


class _Moments:
    """Mean and standard deviation of one domain's training images, each channel, values in [0, 1]."""

    def __init__(self, first: NDArray[Any]) -> None:
        self._scale = float(np.iinfo(first.dtype).max) if first.dtype.kind == "u" else 1.0
        self._sum = np.zeros(first.shape[2])
        self._squares = np.zeros(first.shape[2])
        self.count = 0

    def add(self, array: NDArray[Any]) -> None:
        values = array.reshape(-1, array.shape[2]).astype(np.float64) / self._scale
        self._sum += values.mean(axis=0)
        self._squares += np.square(values).mean(axis=0)
        self.count += 1

    def mean(self) -> list[float]:
        return [round(float(v), 8) for v in self._sum / self.count]

    def std(self) -> list[float]:
        variance = np.maximum(self._squares / self.count - np.square(self._sum / self.count), 0)
        return [round(float(v), 8) for v in np.sqrt(variance)]


def _watch(sums: dict[str, _Moments], items: list[Item], train: set[str], place: int, array: NDArray[Any]) -> None:
    if items[place].image_id in train:
        sums[items[place].domain].add(array)


def _write_shards(
    folder: Path,
    index: pd.DataFrame,
    first: NDArray[Any],
    arrays: Iterator[NDArray[Any] | Refused],
    watch: Callable[[int, NDArray[Any]], None],
) -> list[Refused]:
    """Streams arrays, which come in the order of `index`, to their rows; returns those that were refused."""
    shards = _new_shards(folder, index, first)
    refused, names, rows = [], list(index["shard"]), list(index["row"])
    for place, array in enumerate(arrays):
        if isinstance(array, Refused):
            refused.append(array)
            continue
        shards[names[place]][rows[place]] = array
        watch(place, array)
    for shard in shards.values():
        shard.flush()
    return refused


def _new_shards(folder: Path, index: pd.DataFrame, first: NDArray[Any]) -> dict[str, np.memmap[Any, Any]]:
    folder.mkdir(parents=True)
    return {
        str(name): np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=first.dtype, shape=(int(count), *first.shape)
        )
        for name, count in index["shard"].value_counts().sort_index().items()
    }


def _without(
    folder: Path, index: pd.DataFrame, gone: set[str], manifest: pd.DataFrame, scenario: Scenario, first: NDArray[Any]
) -> pd.DataFrame:
    """Writes the shards again without the refused images, as if these had never been there."""
    older = (folder / "shards").rename(folder / "older")
    kept = plan_shards(scenario.domains, manifest[~manifest["image_id"].isin(gone)], first.nbytes)
    shards = _new_shards(folder / "shards", kept, first)
    sources = {name: open_shard(older / f"{name}.npy") for name in set(index["shard"])}
    before = index.set_index("image_id")[["shard", "row"]]
    for image_id, shard, row in kept[["image_id", "shard", "row"]].itertuples(index=False):
        name, old_row = before.loc[image_id]
        shards[shard][row] = sources[name][old_row]
    for shard in shards.values():
        shard.flush()
    for name in sources:
        (older / f"{name}.npy").unlink()
    older.rmdir()
    return kept


def _raise_nothing_left(refused: list[Refused], where: str) -> NoReturn:
    reasons = sorted({r.reason for r in refused})[:_SHOWN]
    raise DataError(
        f"no training image of {where} could be prepared: {'; '.join(reasons)}."
        " Change 'preprocess' of the scenario in params.yaml, then run 'dvc repro' again"
    )
