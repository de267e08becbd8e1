"""Predicts image files with a registered model that runs in a process of its own, into one parquet file."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from isthmus.core import engine
from isthmus.core.errors import ConfigError, DataError, StoreError
from isthmus.core.files import atomic_file, write_json
from isthmus.core.process.failures import other_words
from isthmus.core.progress import log, track
from isthmus.data.ingest.paired import paired
from isthmus.data.ingest.walk import refusal, walk
from isthmus.data.names import as_text, private_reason, shown_name
from isthmus.data.readers import reader_for
from isthmus.data.tasks.change import Config as ChangeConfig
from isthmus.registry.model.model_files import read_spec
from isthmus.registry.publish.model_reference import Address, resolve
from isthmus.registry.store.stores import open_store
from isthmus.serving import prediction_process
from isthmus.serving.batch_statistics import confidence, keep, summarise
from isthmus.serving.box_files import BoxFile
from isthmus.serving.mask_files import Write, replaced

BATCH = 32  # images handed over at once
_BATCHES = 32  # in a unit of work (`core/engine.py`): the model is loaded for each, which takes seconds


@dataclass(frozen=True)
class Predicted:
    """What became of the files.

    Attributes:
        address: the model that answered.
        count: number of predicted images.
        bad: file, as it may be named -> why it could not be used.
        beside: number of files beside the images, which were ignored.
    """

    address: Address
    count: int
    bad: dict[str, str]
    beside: int

    @property
    def exit_status(self) -> int:
        """0 all predicted, 5 some files were bad."""
        return 5 if self.bad else 0


def predict(project: Path, given: str, paths: Sequence[Path], out: Path, statistics: Path | None = None) -> Predicted:
    """Predicts files and all files in folders, and writes `out` and `<out>.bad.json`, each atomically.

    Both hold the paths of files, also of medical ones, since the caller needs them. The log does not.
    Columns of `out`: `path` as given or found (bytes that are no UTF-8 as `\\xe9`), `class`, `confidence` (the largest
    probability), then what the model answers. Masks are files in `<out>.masks`, whose paths `mask` (of defects: `map`)
    holds, one a file: of all slices of a NIfTI volume, of all frames of a DICOM file, whose other numbers are means
    over them. Boxes are in `<out>.boxes.json` too, a COCO file. A model of change takes folders with the earlier images
    in `a/` and the later ones of the same names in `b/`. A file that cannot be read or is no image of the model's kind
    is listed with its reason.

    Args:
        project: its root.
        given: `NAME@ALIAS`, `NAME/VERSION` or `NAME`.
        paths: files, and folders of them.
        out: the parquet file.
        statistics: file that a line a batch is appended to (`batch_statistics.py`); None: nothing is kept.

    Raises:
        ConfigError: `given` names no model, or `statistics` is a folder.
        DataError: a path is not there, or holds no file, or no file could be used.
        StoreError: there is no such model, or it could not be loaded.
    """
    store = open_store(project)
    address = resolve(store, given)
    spec = read_spec(store, address.model_id) or {}
    kind = spec.get("kind", "")
    listed, parts = list_inputs(spec, paths)
    if statistics is not None:
        check_statistics(statistics)
    bad, count = dict(listed.refused), 0
    boxed = spec.get("classes", [])[1:] if spec.get("task") == "detection" else []
    coco = out.with_name(f"{out.name}.boxes.json")
    masks = replaced(out.with_name(f"{out.name}.masks"), address, spec.get("classes", []))
    with atomic_file(out) as partial, _Table(partial) as table, BoxFile(coco, boxed) as boxes, masks as write:
        for good, failed in answers(store.uri, address, listed.files, "predict", listed.later, parts):
            bad |= failed
            table.append(
                [
                    {"path": as_text(str(path)), **_with_confidence(_with_mask(row, path, write))}
                    for path, row in good.items()
                ]
            )
            for path, row in good.items():
                boxes.add(as_text(str(path)), row)
            count += len(good)
            if statistics is not None and good:
                keep(statistics, summarise(list(good.values()), address.model_id, address.version, datetime.now(UTC)))
        if not count:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in list(listed.shown(bad, kind).items())[:3])
            raise DataError(f"none of {len(bad)} files could be predicted, so {out} was not written ({reasons})")
    rows = [{"path": as_text(str(path)), "reason": as_text(bad[path])} for path in sorted(bad)]
    write_json(out.with_name(f"{out.name}.bad.json"), rows)
    return Predicted(address, count, listed.shown(bad, kind), listed.beside)


def list_inputs(spec: Mapping[str, Any], paths: Sequence[Path]) -> tuple["Listing", dict[Path, list[str]]]:
    """Lists what a model takes: files, or pairs of them; and, where it answers masks, the parts of each (`parts_of`).

    Args:
        spec: of the model, `read_spec`; an empty one is of a model of classes.
        paths: files, and folders of them.

    Raises:
        DataError: as `list_files` and `list_pairs`.
    """
    kind = spec.get("kind", "")
    listed = list_files(paths, kind) if len(spec.get("inputs", [])) < 2 else list_pairs(paths, kind)
    return listed, parts_of(listed.files) if spec.get("task") == "segmentation" else {}


def parts_of(files: Sequence[Path]) -> dict[Path, list[str]]:
    """Returns the parts of each NIfTI and DICOM file that holds several images, slices or frames."""
    found = {}
    for path in files:
        with suppress(DataError):  # the model states the reason, as of any file
            reader = reader_for(path)
            if reader.stacks and len(parts := reader.parts(path)) > 1:
                found[path] = parts
    return found


def answers(
    tracking_uri: str,
    address: Address,
    files: Sequence[Path],
    what: str,
    later: Mapping[Path, Path] | None = None,
    parts: Mapping[Path, Sequence[str]] | None = None,
) -> Iterator[tuple[dict[Path, dict[str, Any]], dict[Path, str]]]:
    """Yields, batch by batch, what a model answers: file -> its row, and file -> why it could not be used.

    Args:
        tracking_uri: of the store.
        address: of the model.
        files: to predict.
        what: is told of progress.
        later: file -> the later image of the same place, for a model that takes both.
        parts: file -> its images, of those that hold several; see `stacked`.

    Raises:
        StoreError: the model could not be loaded, or failed.
    """
    log(f"{what}: {len(files)} files with {address.model} version {address.version}")
    several = parts or {}
    batches = [files[first : first + BATCH] for first in range(0, len(files), BATCH)]
    examples = [[image for path in batch for image in _images(path, later, several.get(path))] for batch in batches]
    for batch, answered in zip(
        batches, track(_answered(tracking_uri, address, examples), what, len(batches), "batch"), strict=True
    ):
        left = iter(answered)
        rows = {
            path: stacked({part: next(left) for part in several[path]}) if path in several else next(left)
            for path in batch
        }
        yield (
            {path: row for path, row in rows.items() if "bad" not in row},
            {path: row["bad"] for path, row in rows.items() if "bad" in row},
        )


def stacked(rows: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Returns one row of those of a file's parts: masks by part, means of numbers; of a bad part the reason.

    >>> stacked({"0": {"mask": "a", "height": 4, "share_x": 0.0}, "1": {"mask": "b", "height": 4, "share_x": 0.5}})
    {'mask': {'0': 'a', '1': 'b'}, 'height': 4, 'share_x': 0.25}
    """
    for part, row in rows.items():
        if "bad" in row:
            return {"bad": f"part {part}: {row['bad']}"}
    first = next(iter(rows.values()))
    means = {
        name: sum(row[name] for row in rows.values()) / len(rows)
        for name, value in first.items()
        if isinstance(value, float)
    }
    return first | means | {"mask": {part: row["mask"] for part, row in rows.items()}}


_Image = Path | tuple[Path, str]  # a file, or one part of it
_Examples = list[list[_Image]]  # the images of each example of a batch


def _images(path: Path, later: Mapping[Path, Path] | None, parts: Sequence[str] | None) -> _Examples:
    """Returns the examples of a file."""
    if parts:
        return [[(path, part)] for part in parts]
    return [[path, later[path]]] if later else [[path]]


def _answered(tracking_uri: str, address: Address, batches: list[_Examples]) -> Iterator[list[dict[str, Any]]]:
    """Yields the rows of each batch. A worker of an engine loads the model once for `_BATCHES` of them."""
    if engine.is_local():
        with _model(tracking_uri, address) as ask:
            yield from map(ask, batches)
        return
    blocks = [batches[first : first + _BATCHES] for first in range(0, len(batches), _BATCHES)]
    for block in engine.in_order(partial(_answered_in_a_worker, tracking_uri, address), blocks):
        yield from block


def _answered_in_a_worker(tracking_uri: str, address: Address, batches: list[_Examples]) -> list[list[dict[str, Any]]]:
    with _model(tracking_uri, address) as ask:
        return [ask(batch) for batch in batches]


def model_environment(tracking_uri: str) -> dict[str, str]:
    """Returns the environment of a model's own process."""
    quiet = {"MLFLOW_TRACKING_URI": tracking_uri, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    return os.environ | quiet


def check_statistics(path: Path) -> None:
    """Checks that statistics can be appended to a file, before any work.

    Raises:
        ConfigError: it is a folder, or lies in a folder that cannot be made or written.
    """
    if path.is_dir():
        raise ConfigError(f"--keep-statistics {path}: is a folder. Name a file, such as {path / 'statistics.jsonl'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError as error:
        raise ConfigError(
            f"--keep-statistics {path}: cannot be written ({error.strerror}). Name another file"
        ) from None


@dataclass(frozen=True)
class Listing:
    """Files to predict.

    Attributes:
        files: that may be images.
        refused: file or folder -> why it is refused without opening.
        beside: number of files that lie beside images in folders.
        numbers: of files and refused ones, from 1, in the order in which they were found.
        later: file -> the later image of the same place, where examples are pairs.
    """

    files: list[Path]
    refused: dict[Path, str]
    beside: int
    numbers: dict[Path, int]
    later: dict[Path, Path] = field(default_factory=dict)

    def shown(self, bad: Mapping[Path, str], kind: str) -> dict[str, str]:
        """Returns file, as a message may name it -> reason, in the order of the files."""
        return {
            shown_name(str(path), kind, f"file {self.numbers[path]}"): private_reason(bad[path], str(path), kind)
            for path in sorted(bad, key=lambda path: self.numbers[path])
        }


def list_files(paths: Sequence[Path], kind: str = "") -> Listing:
    """Lists files, and those in folders in the order of their names; hidden files in folders are left out.

    Args:
        paths: files and folders.
        kind: of the model, which decides what a message may contain.

    Raises:
        DataError: paths that are not there, or no file in them: all at once.
    """
    named = {path: shown_name(str(path), kind, f"path {number}") for number, path in enumerate(paths, 1)}
    if missing := [named[path] for path in paths if not path.exists()]:
        raise DataError(f"no such file or folder: {', '.join(missing)}")
    files: list[Path] = []
    refused: dict[Path, str] = {}
    numbers: dict[Path, int] = {}
    beside = 0
    for path in paths:
        if not path.is_dir():  # it was asked for by its name, so a link is followed
            reason = refusal(path.resolve())
            numbers.setdefault(path, len(numbers) + 1)
            files += [] if reason else [path]
            refused |= {path: reason} if reason else {}
            continue
        found = walk(path)
        beside += sum(found.beside.values())
        for inside in found.numbers():
            numbers.setdefault(path / inside, len(numbers) + 1)
        files += [path / inside for inside in found.files]
        refused |= {path / inside: reason for inside, reason in found.refused.items()}
    if not files:
        told = "; ".join(sorted(set(refused.values()))[:3]) if refused else "no files"
        raise DataError(f"{', '.join(named.values())}: {told}. Name image files, or folders that hold some")
    return Listing(list(dict.fromkeys(files)), refused, beside, numbers)


def list_pairs(paths: Sequence[Path], kind: str = "") -> Listing:
    """Lists the pairs of images in folders: `a/NAME` with `b/NAME`; arguments as of `list_files`.

    Raises:
        DataError: a path is no folder with both, or there is no pair.
    """
    files: list[Path] = []
    refused: dict[Path, str] = {}
    later: dict[Path, Path] = {}
    for number, path in enumerate(paths, 1):
        named = shown_name(str(path), kind, f"path {number}")
        if not (path / "a").is_dir() or not (path / "b").is_dir():
            raise DataError(f"{named}: this model compares two images; give a folder with a/ and b/ in it")
        walked = [path.name + "/" + inside for inside in walk(path).files]
        pairs, bad = paired(path.name, walked, ChangeConfig(), target=True, read=False)
        for pair in pairs:
            assert pair.second is not None, "of change"
            first = path / pair.path.partition("/")[2]
            files.append(first)
            later[first] = path / pair.second.partition("/")[2]
        refused |= {path / odd.path.partition("/")[2]: odd.reason for odd in bad}
    if not files:
        raise DataError("no pair of images: a/ and b/ have no name in common. Name both images of a place alike")
    numbers = {path: number for number, path in enumerate([*files, *refused], 1)}
    return Listing(files, refused, 0, numbers, later)


def _with_mask(row: dict[str, Any], path: Path, write: Write) -> dict[str, Any]:
    """Returns a row whose mask, or map of defects, is in a file, if it has one."""
    column = next((name for name in ("mask", "map") if name in row), None)
    if column is None:
        return row
    answers = row[column] if isinstance(row[column], dict) else {"": row[column]}
    return row | {column: str(write(path, answers, column == "mask"))}


def _with_confidence(row: dict[str, Any]) -> dict[str, Any]:
    if "class" not in row:
        return row
    return {"class": row["class"], "confidence": confidence(row)} | row


class _Table:
    """A parquet file that grows by batches, so that a million images need no more memory than a batch."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "_Table":
        return self

    def append(self, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        table = pa.Table.from_pylist(rows)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table.cast(self._writer.schema))

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()


@contextmanager
def _model(tracking_uri: str, address: Address) -> Iterator[Any]:
    """Yields a function from paths to rows; the model lives in a child process as long as the block.

    Two models with different bundled code in one process would both run the first one's code.
    """
    command = [sys.executable, "-P", prediction_process.__file__, f"models:/{address.model_id}"]
    with tempfile.TemporaryFile("w+") as said:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True,
            env=model_environment(tracking_uri),
        )  # fmt: skip
        assert child.stdin and child.stdout
        to_model, from_model = child.stdin, child.stdout

        def answer() -> Any:
            if line := from_model.readline():
                return json.loads(line)
            child.wait()
            said.seek(0)
            last = other_words(said.read())
            raise StoreError(
                f"{address.model} version {address.version}: its process ended with status {child.returncode}: {last}"
            )

        def ask(batch: _Examples) -> list[dict[str, Any]]:
            return [row for first in range(0, len(batch), BATCH) for row in some(batch[first : first + BATCH])]

        def some(batch: _Examples) -> list[dict[str, Any]]:
            with suppress(BrokenPipeError):  # the model's process is gone: answer() says why
                to_model.write(json.dumps([[_sent(image) for image in example] for example in batch]) + "\n")
                to_model.flush()
            rows: list[dict[str, Any]] = answer()
            return rows

        try:
            answer()
            yield ask
        finally:
            child.kill()
            child.wait()
            from_model.close()
            with suppress(BrokenPipeError):
                to_model.close()


def _sent(image: _Image) -> str | tuple[str, str]:
    return str(image.absolute()) if isinstance(image, Path) else (str(image[0].absolute()), image[1])
