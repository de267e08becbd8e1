"""Adds a known public pair to the project: raw folder, table, note, section in `params.yaml`, DVC."""

import csv
import gzip
import io
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isthmus.core.errors import DataError
from isthmus.core.files import atomic_folder, sha256_bytes, sha256_file, write_text
from isthmus.core.progress import log, track
from isthmus.data.add.register import add_section, dvc_add
from isthmus.data.catalog.conversion import RECIPES, pixels_sha256
from isthmus.data.catalog.download import bring, safe_path
from isthmus.data.catalog.pair import PublicPair
from isthmus.data.catalog.pairs import public_pair

_THREADS = 8  # downloads side by side


class Listed(NamedTuple):
    """One file of a manifest: an image, or a mask, which has no domain."""

    path: str
    sha256: str
    domain: str = ""
    label: str = ""
    split: str = ""
    group: str = ""
    mask: str = ""  # path of the image's mask
    second: str = ""  # path of the image of the same place at a second date
    source_file: str = ""
    boxes: str = ""  # path of the file with its boxes
    pixels: str = ""  # hash of its pixels, where these vouch for the origin's file and not its bytes


class Line(NamedTuple):
    """One line of `images.csv`; columns that no line fills are not written."""

    path: str
    domain: str
    label: str = ""
    split: str = ""
    group: str = ""
    mask: str = ""
    image_b: str = ""
    boxes: str = ""


def fetch(name: str, project: Path, mirror: str | None) -> Path:
    """Adds a pair; idempotent. Returns its raw folder.

    Args:
        name: of a pair in `data/catalog/pairs.py`.
        project: the folder with `params.yaml`.
        mirror: a folder or web address that holds `<pair's folder>/manifest.csv` and its files; None: the origin.

    Raises:
        ConfigError: no such pair, or `params.yaml` cannot be used.
        DataError: a file cannot be had or is not the known one; the raw folder holds something else.
        StoreError: DVC refused.
    """
    pair = public_pair(name)
    log(f"{name}: {pair.origin}\nLicence: {pair.licence}\nFrom: {mirror or ', '.join(sorted(set(pair.urls.values())))}")
    _check_mirror(pair, mirror)
    relative = Path("data/raw") / pair.raw
    raw, downloads = project / relative, project / ".isthmus" / "downloads" / pair.raw
    (_fetch_files if "manifest.csv" in pair.checks else _fetch_digits)(pair, raw, downloads, mirror)
    _note(project / "data" / "README.md", pair)
    dvc_add(project, relative)
    add_section(project / "params.yaml", name, pair.scenario())
    shutil.rmtree(downloads, ignore_errors=True)
    log(f"{relative}: ready. Next: isthmus run {name}")
    return raw


def _fetch_files(pair: PublicPair, raw: Path, downloads: Path, mirror: str | None) -> None:
    rows = _manifest(pair, downloads, mirror)
    if raw.exists():
        _check_there(raw, ((row.path, *_vouched(row)) for row in rows))
        return

    def one(row: Listed) -> None:
        if mirror:
            bring(f"{mirror}/{pair.folder}", row.path, downloads / row.path, row.sha256)
            return
        recode = RECIPES[pair.recoded[row.domain]] if row.domain in pair.recoded else None
        expected, digest = _vouched(row)
        path = row.source_file.partition("/")[2] or row.path
        bring(pair.urls[row.domain], path, downloads / row.path, expected, recode, digest)

    _side_by_side(one, rows, pair.name)
    with atomic_folder(raw) as folder:
        for row in rows:
            _link(downloads / row.path, folder / row.path)
        _write_table(folder, _lines(rows))


def _vouched(row: Listed) -> tuple[str, Callable[[Path], str]]:
    """Returns what a file must hash to, and what of it is hashed: pixels where it was re-encoded, else its bytes."""
    return (row.pixels, pixels_sha256) if row.pixels else (row.sha256, sha256_file)


def _side_by_side(one: Callable[[Listed], None], rows: list[Listed], name: str) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting = [pool.submit(one, row) for row in rows]
        try:
            for future in track(waiting, f"fetch {name}", len(rows), "file"):
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _manifest(pair: PublicPair, downloads: Path, mirror: str | None) -> list[Listed]:
    """Returns the rows of the pair's classes, and of what belongs to them: masks and second images.

    The manifest's own hash is pinned, and it vouches for each file.
    """
    if mirror:
        local = downloads / "manifest.csv"
        bring(f"{mirror}/{pair.folder}", "manifest.csv", local, pair.checks["manifest.csv"])
        text = local.read_text(encoding="utf-8")
    else:
        data = _bundled(f"{pair.raw}.csv.gz")
        assert sha256_bytes(data) == pair.checks["manifest.csv"], "the bundled manifest is not the pinned one"
        text = data.decode("utf-8")
    pixels = _pixels(pair)
    rows = [
        Listed(**{name: line[name] for name in Listed._fields if name in line}, pixels=pixels.get(line["path"], ""))
        for line in csv.DictReader(io.StringIO(text))
    ]
    rows = [row._replace(split=pair.splits.get(row.group, row.split)) for row in rows]
    for row in rows:
        safe_path(row.path, f"{pair.folder}/manifest.csv")
    kept = [row for row in rows if row.domain and pair.keeps(row.domain, row.label, row.split)]
    boxes = {row.domain: row.path for row in kept if row.path.endswith(".json")}  # one COCO file a domain
    kept = [row._replace(boxes=boxes.get(row.domain, "")) for row in kept]
    beside = _beside(kept)
    return kept + [row for row in rows if not row.domain and row.path in beside]


def _beside(rows: list[Listed]) -> set[str]:
    return {path for row in rows for path in (row.mask, row.second) if path}


def _lines(rows: list[Listed]) -> list[Line]:
    """Returns the lines of the images. A manifest with no test images splits nothing."""
    beside, splits = _beside(rows), any(row.split == "test" for row in rows)
    return [
        Line(row.path, row.domain, row.label, row.split if splits else "", row.group, row.mask, row.second, row.boxes)
        for row in rows
        if row.domain and row.path not in beside and not row.path.endswith(".json")
    ]


def _pixels(pair: PublicPair) -> dict[str, str]:
    """Returns path -> hash of pixels, of the files that are re-encoded losslessly."""
    if "png" not in pair.recoded.values():
        return {}
    lines = csv.DictReader(io.StringIO(_bundled(f"{pair.name}.pixels.csv.gz").decode("utf-8")))
    return {line["path"]: line["sha256"] for line in lines}


def _bundled(name: str) -> bytes:
    return gzip.decompress(resources.files("isthmus.data.catalog").joinpath(f"manifests/{name}").read_bytes())


def _check_mirror(pair: PublicPair, mirror: str | None) -> None:
    if pair.mirror_only and not mirror:
        raise DataError(
            f"{pair.name}: {pair.mirror_only}, so nothing verifies the origin's files"
            f" ({', '.join(sorted(set(pair.urls.values())))}). Run 'isthmus fetch {pair.name} --mirror"
            f" FOLDER-OR-ADDRESS' with a mirror that has {pair.folder}/"
        )


def _fetch_digits(pair: PublicPair, raw: Path, downloads: Path, mirror: str | None) -> None:
    for name, sha256 in pair.checks.items():
        bring(f"{mirror}/{pair.folder}", name, downloads / name, sha256)
    mnist = np.load(downloads / "mnist5k_28x28_uint8.npz", allow_pickle=False)
    usps = np.load(downloads / "usps_16x16_float32.npz", allow_pickle=False)
    blocks = [
        ("mnist", "", mnist["x"], mnist["y"]),
        *(("usps", split, _grey(usps[f"x_{split}"]), usps[f"y_{split}"]) for split in ("train", "test")),
    ]
    # Written again where the folder already exists: what is there is compared with what would be written.
    with atomic_folder(downloads / "written" if raw.exists() else raw) as folder:
        lines = [line for block in blocks for line in _write_digits(folder, *block)]
        _write_table(folder, lines)
    if (made := downloads / "written").exists():
        _check_there(raw, ((line.path, sha256_file(made / line.path), sha256_file) for line in lines))


def _grey(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _write_digits(
    folder: Path, domain: str, split: str, images: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> Iterator[Line]:
    """Writes PNG in the arrays' own size and yields their lines of the table; no split: it is ours to choose."""
    for number, (image, digit) in enumerate(zip(images, labels, strict=True)):
        path = f"{domain}/{digit}/{domain}-{split or 'all'}-{number:05d}.png"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / path)
        yield Line(path, domain, str(digit), split)


def _check_there(raw: Path, expected: Iterator[tuple[str, str, Callable[[Path], str]]]) -> None:
    """Accepts a raw folder that holds the very files, and touches none that does not."""
    for path, sha256, digest in expected:
        if not (raw / path).is_file() or digest(raw / path) != sha256:
            raise DataError(
                f"{raw}: already exists and its {path} is gone or changed. Restore it with 'dvc checkout {raw.name}',"
                " or move the folder away and run the same command again"
            )


def _link(origin: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(origin, to)  # the download folder is ours and goes away: no second copy on the disk
    except OSError:
        shutil.copyfile(origin, to)


def _write_table(folder: Path, lines: list[Line]) -> None:
    used = [any(cells) for cells in zip(*lines, strict=True)]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows(list(compress(line, used)) for line in [Line._fields, *sorted(lines)])
    write_text(folder / "images.csv", stream.getvalue())


def _note(readme: Path, pair: PublicPair) -> None:
    line = f"- `{pair.raw}`: {pair.origin} Licence: {pair.licence}"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else "# Data\n"
    if f"\n- `{pair.raw}`:" not in text:
        write_text(readme, text.rstrip("\n") + "\n" + line + "\n")
