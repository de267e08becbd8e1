"""Raw images -> shards: fit the kind on training images, prepare every image, stream it to its row."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from isthmus.core.errors import DataError
from isthmus.core.files import read_json, write_json
from isthmus.core.progress import log, track
from isthmus.data.boxes import as_text, from_text, prepared_boxes
from isthmus.data.image import Image
from isthmus.data.kinds import Fitted, Kind
from isthmus.data.manifest import BOXES, INDEX, write_table
from isthmus.data.masks import IGNORED, Mask, placed
from isthmus.data.names import private_reason, shown_name
from isthmus.data.preprocess.domain_statistics import Moments, Progress, Sums, sums_of
from isthmus.data.preprocess.row_writer import RowFormat, copy_row, create_shards, synchronise, write_row
from isthmus.data.preprocess.tiling import ChangedError, is_tile, order_of, read_mask, read_part
from isthmus.data.scenario import Scenario
from isthmus.data.shards import Rows, plan_shards
from isthmus.data.tasks import AnnotationConfig
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
    mask: str
    mask_sha256: str
    boxes: str
    second: str
    second_sha256: str


class Refused(NamedTuple):
    """One image the kind does not take."""

    image_id: str
    reason: str


def prepare(
    raw: Path,
    manifest: pd.DataFrame,
    places: pd.DataFrame,
    companions: pd.DataFrame,
    scenario: Scenario,
    kind: Kind,
    folder: Path,
    masks_target: Path,
    work: Path,
    workers: int,
) -> dict[str, Any]:
    """Writes index, shards and facts of a scenario into an empty folder; returns the facts.

    Where the task has masks, those of the source lie in `masks/` beside the shards, under the same names; those of the
    target in a folder of their own. Boxes are tables there, `boxes.parquet`.

    Args:
        raw: the folder that paths are relative to.
        manifest: of `ingest`.
        places: of `ingest`.
        companions: of `ingest`.
        scenario: whose images these are.
        kind: how they are prepared.
        folder: empty.
        masks_target: empty; for the target's masks.
        work: where an earlier run of the same inputs, params and code was cut off, if it was: it goes on from there.
        workers: processes.

    Raises:
        DataError: an image changed since `ingest`, or a domain has no image left to train on.
    """
    both = manifest.merge(places, on=["image_id", "part"], validate="1:1").merge(
        companions, on="image_id", validate="1:1"
    )
    items = [Item(*row) for row in both[list(Item._fields)].itertuples(index=False)]
    if any(is_tile(item.part) for item in items):  # frame by frame, so that a frame is decoded once and not once a tile
        items.sort(key=lambda item: (item.sha256, order_of(item.part)))
    if len(items) != len(manifest):
        raise DataError("manifest and locations name different images. Run 'dvc repro' to write both again")
    train = set(manifest.loc[manifest["split"] == "train", "image_id"])
    fitted = _fitted(raw, manifest, items, train, scenario, kind, work, workers)
    answers = scenario.annotation_config()
    reading = _Reading(raw, scenario.kind, kind, fitted, answers, tuple(scenario.classes))
    first = _first(reading.first, items)
    rows = RowFormat(first.shape, first.dtype.name)
    index = plan_shards(scenario.domains, manifest, first.nbytes)
    sums = {domain: Moments(rows) for domain in scenario.domains}
    formats = {"shards": rows} | ({"masks": RowFormat(first.shape[:2], "uint8")} if answers.reads_masks else {})
    formats |= {"shown": RowFormat((4,), "float64")} if answers.boxes else {}
    refused = _write_shards(reading, items, train, index, formats, sums, work, workers)
    if refused:
        index = _without(work, index, {r.image_id for r in refused}, manifest, scenario, formats)
    for domain in scenario.domains:
        if sums[domain].count == 0:
            _raise_nothing_left(refused, f"domain '{domain}'")
    (work / "state.json").unlink(missing_ok=True)  # the rows that it speaks of go away
    shutil.move(work / "shards", folder / "shards")
    if answers.reads_masks:
        target = set(index.loc[index["domain"] == scenario.target, "shard"])
        for path in sorted((work / "masks").glob("*.npy")):
            to = masks_target if path.stem in target else folder / "masks"
            to.mkdir(exist_ok=True)
            shutil.move(path, to / path.name)
    if answers.boxes:
        boxes = _boxes(work / "shown", index, companions, first.shape[0])
        apart = boxes["domain"] == scenario.target
        write_table(folder / "boxes.parquet", boxes[~apart], BOXES)
        write_table(masks_target / "boxes.parquet", boxes[apart], BOXES)
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
        "preprocess": scenario.kind_config("params.yaml: preprocess.").model_dump(mode="json"),
        "mean": {domain: sums[domain].mean() for domain in scenario.domains},
        "std": {domain: sums[domain].std() for domain in scenario.domains},
        "count": {domain: int(counts[domain]) for domain in scenario.domains},
        "quarantine": [r._asdict() for r in sorted(refused)],
    }
    if scenario.task != "classification":
        facts |= {"task": scenario.task}
    write_json(folder / "facts.json", facts)
    return facts


def _boxes(shown: Path, index: pd.DataFrame, companions: pd.DataFrame, side: int) -> pd.DataFrame:
    """Returns the boxes of the annotated images, in pixels of the prepared image: columns of `BOXES` and `domain`."""
    known = dict(zip(companions["image_id"], companions["boxes"], strict=True))
    squares = Rows(shown, index).take(np.arange(len(index)))
    found = index[["image_id", "domain"]].assign(boxes=[known[image_id] for image_id in index["image_id"]])
    places = np.flatnonzero(found["boxes"] != "")
    return found.iloc[places].assign(
        boxes=[as_text(prepared_boxes(from_text(found["boxes"].iloc[n]), squares[n], side)) for n in places]
    )


def _fitted(
    raw: Path,
    manifest: pd.DataFrame,
    items: list[Item],
    train: set[str],
    scenario: Scenario,
    kind: Kind,
    work: Path,
    workers: int,
) -> dict[str, Fitted]:
    """Returns what the kind learns from each domain's training images; a domain that is done is not read again."""
    chunk = 16 if int((manifest["height"] * manifest["width"]).max()) < _LARGE else 1
    stored = dict(zip(manifest["image_id"], zip(manifest["dtype"], manifest["channels"], strict=True), strict=True))
    fitted: dict[str, Fitted] = {}
    for number, domain in enumerate(scenario.domains):
        kept = work / f"fitted-{number}.json"
        if not kept.is_file():
            here = [item for item in items if item.domain == domain and item.image_id in train]
            chosen = [item for item in here if kind.learns_from(*stored[item.image_id])]
            # large images one at a time: a decoded photograph can be a hundred times its prepared array
            images = track(
                in_order(partial(_decoded, raw, scenario.kind), chosen, workers, chunk), f"fit {domain}", len(chosen)
            )
            write_json(kept, kind.fit(image for image in images if isinstance(image, Image)))
        fitted[domain] = read_json(kept)
    return fitted


def _first(one: Callable[[Item], NDArray[Any] | Refused], items: list[Item]) -> NDArray[Any]:
    first = next((array for array in map(one, items) if isinstance(array, np.ndarray)), None)
    if first is None:
        _raise_nothing_left([r for r in map(one, items[:_SHOWN]) if isinstance(r, Refused)], "any domain")
    return first


def _decoded(raw: Path, kind_name: str, item: Item) -> Image | Refused:
    try:
        return read_part(raw / item.path, item.part, item.sha256)
    except ChangedError as error:
        raise ChangedError(f"{raw}: {shown_name(item.path, kind_name, item.image_id)}: {error}") from None
    except DataError as error:
        return Refused(item.image_id, private_reason(str(error), item.path, kind_name))
    except OSError as error:
        return Refused(item.image_id, f"cannot be opened ({error.strerror})")


class _Reading(NamedTuple):
    """How an image, and what belongs to it, is read and prepared. Picklable, for the workers."""

    raw: Path
    kind_name: str
    kind: Kind
    fitted: dict[str, Fitted]
    answers: AnnotationConfig
    classes: tuple[str, ...]

    def images(self, item: Item) -> list[Image] | Refused:
        """Decodes the image, and the later one where there are two."""
        first = _decoded(self.raw, self.kind_name, item)
        if not item.second or isinstance(first, Refused):
            return first if isinstance(first, Refused) else [first]
        later = _decoded(self.raw, self.kind_name, item._replace(path=item.second, sha256=item.second_sha256))
        return later if isinstance(later, Refused) else [first, later]

    def prepared(self, images: list[Image], item: Item) -> NDArray[Any] | Refused:
        """Returns the prepared image, the later one of two in channels behind those of the first."""
        try:
            arrays = [self.kind.prepare(image, self.fitted[item.domain]) for image in images]
        except DataError as error:
            return Refused(item.image_id, str(error))
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=2)

    def first(self, item: Item) -> NDArray[Any] | Refused:
        """Decodes and prepares."""
        images = self.images(item)
        return images if isinstance(images, Refused) else self.prepared(images, item)

    def mask(self, item: Item, images: list[Image], side: int) -> Mask:
        """Returns the mask at the size of the prepared image; where it or an image has no data, no pixel is scored."""
        if not item.mask:
            return np.full((side, side), IGNORED, np.uint8)
        try:
            mask = read_mask(self.raw / item.mask, item.part, item.mask_sha256, self.answers, self.classes)
        except ChangedError as error:
            shown = shown_name(item.mask, self.kind_name, f"the mask of {item.image_id}")
            raise ChangedError(f"{self.raw}: {shown}: {error}") from None
        known = [image.valid for image in images if image.valid is not None]
        valid = np.logical_and.reduce(known) if known else None
        return placed(mask, valid, self.kind.box(images[0]), side)


def _row(
    reading: _Reading, work: Path, formats: dict[str, RowFormat], job: tuple[Item, str, int, bool]
) -> Refused | Sums | None:
    """Prepares one image into its row; returns why not, or the sums of a training image."""
    item, shard, row, counts = job
    images = reading.images(item)
    if isinstance(images, Refused):
        return images
    array = reading.prepared(images, item)
    if isinstance(array, Refused):
        return array
    rows = formats["shards"]
    assert (array.shape, array.dtype.name) == tuple(rows), (
        f"{reading.kind} gave {array.dtype} {array.shape}, not {rows}"
    )
    write_row(work / "shards" / f"{shard}.npy", row, array)
    if "shown" in formats:
        write_row(work / "shown" / f"{shard}.npy", row, np.array(reading.kind.box(images[0]), np.float64))
    if "masks" in formats:
        write_row(work / "masks" / f"{shard}.npy", row, reading.mask(item, images, len(array)))
    return sums_of(array) if counts else None


def _write_shards(
    reading: _Reading,
    items: list[Item],
    train: set[str],
    index: pd.DataFrame,
    formats: dict[str, RowFormat],
    sums: dict[str, Moments],
    work: Path,
    workers: int,
) -> list[Refused]:
    """Writes every image to its row, from where an earlier run was cut off; returns those that were refused."""
    state = Progress(work / "state.json", sums)
    if not state.done:
        for name, rows in formats.items():
            shutil.rmtree(work / name, ignore_errors=True)
            create_shards(work / name, index, rows)
    where = index.set_index("image_id").loc[[item.image_id for item in items]]
    jobs = [
        (item, shard, row, item.image_id in train)
        for item, shard, row in zip(items, where["shard"], where["row"], strict=True)
    ]
    rest = jobs[state.done :]
    if state.done:
        log(f"prepare: {state.done} of {len(jobs)} images are left from an interrupted run")
    results = in_order(partial(_row, reading, work, formats), rest, workers)
    for job, result in zip(rest, track(results, "prepare", len(rest)), strict=True):
        if isinstance(result, Refused):
            state.refused.append(list(result))
        elif result is not None:
            sums[job[0].domain].add(result)
        if state.step():
            for name in formats:
                synchronise(work / name)
            state.save(sums)
    return [Refused(*values) for values in state.refused]


def _without(
    work: Path,
    index: pd.DataFrame,
    gone: set[str],
    manifest: pd.DataFrame,
    scenario: Scenario,
    formats: dict[str, RowFormat],
) -> pd.DataFrame:
    """Writes the shards again without the refused images, as if these had never been there."""
    size = formats["shards"].row_bytes
    kept = plan_shards(scenario.domains, manifest[~manifest["image_id"].isin(gone)], size)
    before = dict(zip(index["image_id"], zip(index["shard"], index["row"], strict=True), strict=True))
    for what, rows in formats.items():
        newer = work / f"newer-{what}"
        shutil.rmtree(newer, ignore_errors=True)
        create_shards(newer, kept, rows)
        for image_id, shard, row in kept[["image_id", "shard", "row"]].itertuples(index=False):
            name, old_row = before[image_id]
            copy_row(work / what / f"{name}.npy", old_row, newer / f"{shard}.npy", row, rows)
    (work / "state.json").unlink(missing_ok=True)  # from here on the older shards are no longer what it says
    for what in formats:
        shutil.rmtree(work / what)
        (work / f"newer-{what}").rename(work / what)
    return kept


def _raise_nothing_left(refused: list[Refused], where: str) -> NoReturn:
    reasons = sorted({r.reason for r in refused})[:_SHOWN]
    raise DataError(
        f"no training image of {where} could be prepared: {'; '.join(reasons)}."
        " Change 'preprocess' of the scenario in params.yaml, then run 'dvc repro' again"
    )
