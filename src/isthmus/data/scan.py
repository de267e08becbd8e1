"""Raw folders or tables -> files with what the user says of them -> rows with what the files say themselves."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.core import plugins
from isthmus.core.errors import DataError
from isthmus.core.files import sha256_bytes
from isthmus.data.links import REFUSED, is_foreign
from isthmus.data.near import small_picture
from isthmus.data.pixel_facts import PixelFacts, pixel_facts
from isthmus.data.readers import reader_for
from isthmus.data.scenario import Scenario
from isthmus.data.slices import Slice
from isthmus.data.table import Bad, Found, from_table
from isthmus.data.tiles import Tiles
from isthmus.data.tiling import tiled

TABLES = ("images.csv", "images.parquet")
_IGNORED = {"thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Row:
    """One decoded image: identity and facts, no pixels."""

    found: Found
    sha256: str
    part: str
    height: int
    width: int
    channels: int
    dtype: str
    file_bytes: int
    person: str | None  # keyed hash of the person whom the file names, if it names one
    small: NDArray[np.float32] | int  # of `data/near.py`, or its place where many are kept (`data/pictures.py`)
    facts: PixelFacts
    slice: Slice | None = None  # where it lies in its volume, if its file says so


def image_id(domain: str, sha256: str, part: str) -> str:
    """Returns the identity of an image: a keyed hash of domain, bytes and part, 32 hex digits.

    The bytes enter by their SHA-256, so that the id can be computed again from the manifest.
    """
    text = "\x1f".join((domain, sha256, part))
    return hashlib.blake2b(text.encode(), digest_size=16, key=b"isthmus image").hexdigest()


def find_images(raw: Path, scenario: Scenario, where: str = "") -> tuple[list[Found], list[Bad]]:
    """Lists the files of a scenario's domains, ordered by path, and those that are refused unopened.

    Args:
        raw: the folder that paths are relative to.
        scenario: what it should hold.
        where: the scenario's name for messages; empty: its section in params.yaml.

    Raises:
        DataError: a folder, a class or a column is missing or unknown: all problems at once.
    """
    where = where or f"of the scenario with 'raw: {raw}' in params.yaml"
    if not raw.is_dir():
        raise DataError(
            f"{raw}: no such folder, named by 'raw' {where}. Bring the images with 'isthmus fetch', 'isthmus add' or"
            " 'dvc pull', or put them there, then run 'dvc repro' again"
        )
    tables = [raw / name for name in TABLES if (raw / name).is_file()]
    if len(tables) == 2:
        raise DataError(f"{raw}: holds both {' and '.join(TABLES)}. Keep one of them")
    found, bad = from_table(raw, tables[0], scenario, where) if tables else _from_folders(raw, scenario, where)
    _check_domains(found, bad, scenario, where)
    return sorted(found), sorted(bad)


def count_unlisted(raw: Path, scenario: Scenario, listed: set[str]) -> int:
    """Returns how many files below the domains' folders a table does not name, so that none is lost unnoticed."""
    folders = [raw / domain for domain in scenario.domains if (raw / domain).is_dir()]
    return sum(path.relative_to(raw).as_posix() not in listed for folder in folders for path in _files(folder))


def read_image_facts(raw: Path, found: Found, key: bytes | None = None, tiles: Tiles | None = None) -> list[Row] | Bad:
    """Decodes one file wholly and returns a row an image in it, or why it cannot be used.

    Args:
        raw: the folder that paths are relative to.
        found: the file.
        key: hides whom a file names; needed only where the user gives no group.
        tiles: how frames are cut; None: not at all.
    """
    path = raw / found.path
    try:
        reader = reader_for(path)
        person = None if found.group else reader.person(path, key)
        data = path.read_bytes()
        rows = []
        sha256 = sha256_bytes(data)
        for name in reader.parts(path):
            place = reader.slice_of(path, name)
            for part, image in tiled(reader.read(path, name), name, tiles, found.domain):
                height, width, channels = image.pixels.shape
                dtype, small, facts = image.pixels.dtype.name, small_picture(image), pixel_facts(image)
                rows.append(
                    Row(found, sha256, part, height, width, channels, dtype, len(data), person, small, facts, place)
                )
        return rows
    except DataError as error:
        return Bad(found.path, found.domain, str(error))
    except OSError as error:
        return Bad(found.path, found.domain, f"cannot be opened ({error.strerror})")


def _from_folders(raw: Path, scenario: Scenario, where: str) -> tuple[list[Found], list[Bad]]:
    if scenario.target_labels == "table":
        raise DataError(
            f"{raw}: 'target_labels: table' {where}, but there is no {' or '.join(TABLES)}."
            " Write the table (path,domain,label) or set 'target_labels: folders' or 'none'"
        )
    found: list[Found] = []
    bad: list[Bad] = []
    problems: list[str] = []
    there = sorted(p.name for p in raw.iterdir() if p.is_dir() and not p.name.startswith("."))
    for domain in scenario.domains:
        folder = raw / domain
        if folder.is_symlink() or not folder.is_dir():
            key = "target" if domain == scenario.target else "source"
            what = "is a symbolic link: refused" if folder.is_symlink() else "no such folder"
            problems.append(
                f"{folder}: {what}, named by '{key}' {where}.{plugins.did_you_mean(domain, there)}"
                f" There are: {', '.join(there) or 'no folders'}"
            )
            continue
        labelled = domain != scenario.target or scenario.target_labels == "folders"
        if labelled:
            problems += _class_problems(folder, scenario, where, target=domain == scenario.target)
        for path in _files(folder):
            relative = path.relative_to(raw).as_posix()
            if is_foreign(path):
                bad.append(Bad(relative, domain, REFUSED))
                continue
            label = path.relative_to(folder).parts[0] if labelled else None
            found.append(Found(relative, domain, label, _entity(path.name, scenario.group), None))
    if problems:
        raise DataError("\n".join(problems) + "\nThen run 'dvc repro' again")
    _check_groups(found, scenario, where)
    return found, bad


def _class_problems(folder: Path, scenario: Scenario, where: str, *, target: bool) -> Iterator[str]:
    loose = [p.name for p in _files(folder, deep=False)]
    if loose:
        advice = ", or set 'target_labels: none'" if target else ""
        yield (
            f"{folder}: {len(loose)} files lie outside class folders ({', '.join(loose[:3])}). Labelled images lie in"
            f" {folder}/<class>/{advice}. Allowed classes: {', '.join(scenario.classes)}"
        )
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith(".") and entry.name not in scenario.classes:
            yield (
                f"{entry}: class '{entry.name}' is not among 'classes' {where}."
                f"{plugins.did_you_mean(entry.name, scenario.classes)} Allowed: {', '.join(scenario.classes)}."
                " Rename the folder, move it away, or add the class"
            )


def _files(folder: Path, deep: bool = True) -> Iterator[Path]:
    """Yields files and symbolic links below a folder in name order; links to folders are never followed."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name.lower() in _IGNORED:
            continue
        if entry.is_dir() and not entry.is_symlink():
            if deep:
                yield from _files(entry)
        elif deep or not is_foreign(entry):
            yield entry


def _entity(name: str, group: str | None) -> str | None:
    """Returns the value of a BIDS-like entity in a file name.

    >>> _entity("lot-07_img-0012.png", "lot")
    '07'
    """
    match = re.search(rf"(?:^|_){re.escape(group)}-([A-Za-z0-9]+)(?=[_.])", name) if group else None
    return match.group(1) if match else None


def _check_groups(found: list[Found], scenario: Scenario, where: str) -> None:
    if scenario.group and found and not any(f.group for f in found):
        raise DataError(
            f"'group: {scenario.group}' {where}, but no file name holds '{scenario.group}-<value>_'"
            f" (first: {found[0].path}). Rename the files, give a table with a column '{scenario.group}',"
            " or remove 'group'"
        )


def _check_domains(found: list[Found], bad: list[Bad], scenario: Scenario, where: str) -> None:
    problems = []
    for domain in scenario.domains:
        count = sum(f.domain == domain for f in found)
        if count < 2:
            key = "target" if domain == scenario.target else "source"
            refused = sum(b.domain == domain for b in bad)
            problems.append(
                f"domain '{domain}', named by '{key}' {where}: {count} images ({refused} refused)."
                " At least 2 are needed"
            )
    labels = {f.label for f in found if f.domain != scenario.target}
    for label in scenario.classes:
        if label not in labels:
            problems.append(
                f"class '{label}' of 'classes' {where}: no image in the source ({', '.join(scenario.source)})."
                f" Classes with images: {', '.join(sorted(v for v in labels if v)) or 'none'}."
                " Add images or remove the class"
            )
    if problems:
        raise DataError("\n".join(problems) + "\nThen run 'dvc repro' again")
