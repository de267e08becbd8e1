"""What somebody answered, a table or folders by class -> one class an image; checked, with all mistakes at once."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from isthmus.core.errors import DataError
from isthmus.core.files import sha256_file
from isthmus.core.plugins import did_you_mean
from isthmus.data.csv_lines import read_csv
from isthmus.data.ingest.walk import walk
from isthmus.data.labels.given import TRAIN, Given, Purpose
from isthmus.data.names import nfc, readable, shown_name
from isthmus.data.scenario import Scenario

_CLASS_COLUMNS = ("class", "label")
_SHOWN = 20  # mistakes in one message


class _Answer(NamedTuple):
    """An answer as it was written: `where` says in which line or file, `found` the images that it can be about."""

    where: str
    found: list[str]
    label: str


@dataclass(frozen=True)
class Images:
    """The images of a scenario, to be found by id, by path and by content.

    Attributes:
        raw: the scenario's raw folder.
        manifest: `MANIFEST`.
        locations: `LOCATIONS`.
    """

    scenario: Scenario
    raw: Path
    manifest: pd.DataFrame
    locations: pd.DataFrame

    @cached_property
    def facts(self) -> dict[str, tuple[str, str]]:
        """Image -> its domain and split."""
        columns = (self.manifest[name] for name in ("image_id", "domain", "split"))
        return {image_id: (domain, split) for image_id, domain, split in zip(*columns, strict=True)}

    def at(self, path: str, part: str) -> list[str]:
        """Returns the target's images at a path: below the raw folder, with that folder before it, or a whole one."""
        written = Path(nfc(path).replace("\\", "/"))
        folders = (self.raw, self.raw.absolute(), self.scenario.raw)
        inside = next((written.relative_to(raw) for raw in folders if written.is_relative_to(raw)), written)
        found = self._by_path.get(nfc(inside.as_posix()), [])
        if not found and (file := self.raw / inside).is_file():
            return self.of_content(file)  # a copy of an image that is known by another path
        return [image_id for image_id, its_part in found if part in ("", its_part)]

    def of_content(self, file: Path) -> list[str]:
        """Returns the images of the file's very bytes, those of the target where there are any."""
        same = self._by_content.get(sha256_file(file), [])
        return [i for i in same if self.facts[i][0] == self.scenario.target] or same

    @cached_property
    def _by_path(self) -> dict[str, list[tuple[str, str]]]:
        found = defaultdict(list)
        columns = (self.locations[name] for name in ("image_id", "path", "part"))
        for image_id, path, part in zip(*columns, strict=True):
            found[nfc(path)].append((image_id, part))
        return found

    @cached_property
    def _by_content(self) -> dict[str, list[str]]:
        found = defaultdict(list)
        for image_id, sha256 in zip(self.manifest["image_id"], self.manifest["sha256"], strict=True):
            found[sha256].append(image_id)
        return found


def read_answers(place: Path, images: Images) -> dict[str, str]:
    """Returns image -> class.

    Args:
        place: a table with `image_id` or `path` and `class` (lines without a class have no answer yet), or a folder
            with one folder a class, whose files are found by their content.
        images: of the scenario.

    Raises:
        DataError: there is no such place, or an answer cannot be taken; all of them at once.
    """
    if place.is_dir():
        answers = _in_folders(place, images)
    elif place.is_file():
        answers = _in_table(place, images)
    else:
        raise DataError(f"{place}: no such file or folder. Name a table with the answers, or a folder of class folders")
    taken: dict[str, str] = {}
    first: dict[str, str] = {}
    problems: list[str] = []
    for answer in answers:
        found = _problems(answer, images)
        if not found:
            image_id = answer.found[0]
            if taken.setdefault(image_id, answer.label) != answer.label:
                before = f"{first[image_id]} says '{taken[image_id]}' of the same image"
                found = [f"'{answer.label}', and {before}. Keep one answer"]
            first.setdefault(image_id, answer.where)
        problems += [f"{answer.where}: {problem}" for problem in found]
    if problems:
        more = f"\n... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise DataError("\n".join(problems[:_SHOWN]) + f"{more}\nNothing was taken. Correct it and take it again")
    if not taken:
        raise DataError(
            f"{place}: holds no answer. Write a class into the column 'class', or images into class folders"
        )
    return taken


def merged(
    given: Mapping[str, Given],
    answers: Mapping[str, str],
    asked: Mapping[str, Purpose],
    who: str,
    date: str,
    replace: bool,
) -> dict[str, Given]:
    """Returns all labels with the new answers; an image that nobody was asked for can only serve `train`.

    It was not drawn at random: measured on images that somebody picked, an accuracy would mean nothing.

    Args:
        given: what is kept already; the same answer again changes nothing.
        answers: image -> class.
        asked: image -> purpose, of the list that was written.
        who: gave these answers.
        date: ISO 8601.
        replace: take answers that differ from the kept ones; the purpose of an image stays.

    Raises:
        DataError: an answer differs from the kept one.
    """
    result = dict(given)
    changed = []
    for image_id, label in answers.items():
        kept = given.get(image_id)
        if kept is not None and kept.label == label:
            continue
        if kept is not None and not replace:
            changed.append(
                f"image {image_id}: '{kept.label}' was taken of {kept.who} on {kept.date}, now it is '{label}'"
            )
        purpose = kept.purpose if kept is not None else asked.get(image_id, TRAIN)
        result[image_id] = Given(image_id, label, purpose, who, date)
    if changed:
        more = f"\n... and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise DataError("\n".join(changed[:_SHOWN]) + f"{more}\nNothing was taken. --replace takes the new answers")
    return result


def _problems(answer: _Answer, images: Images) -> list[str]:
    scenario, problems = images.scenario, []
    if answer.label not in scenario.classes:
        named = shown_name(f" '{answer.label}'", scenario.kind, " of this name")  # a folder may be called by a patient
        problems.append(
            f"no class{named}.{did_you_mean(answer.label, scenario.classes)} Allowed: {', '.join(scenario.classes)}"
        )
    if len(answer.found) > 1:
        problems.append(f"holds {len(answer.found)} images. Name one by its image_id, in a table")
    elif not answer.found or answer.found[0] not in images.facts:
        problems.append(f"no such image in '{scenario.target}'. Take the ids or paths of 'label_first.csv'")
    else:
        domain, split = images.facts[answer.found[0]]
        if domain != scenario.target:
            problems.append(f"an image of '{domain}', not of the target '{scenario.target}'. Leave it out")
        elif split != "train":
            problems.append(
                "an image of the target's test split, which stays unseen until the end. Leave it out, or set"
                " 'target_labels' in params.yaml, through which 'evaluate' alone reads it"
            )
    return problems


def _in_table(table: Path, images: Images) -> Iterable[_Answer]:
    columns, lines = read_csv(table, any_dialect=True)
    names = {column.casefold(): column for column in reversed(columns)}
    label = next((names[name] for name in _CLASS_COLUMNS if name in names), None)
    image, path, part = (names.get(name) for name in ("image_id", "path", "part"))
    if label is None or (image is None and path is None):
        raise DataError(
            f"{table}: columns are {', '.join(columns) or 'none'}. There must be 'class', and 'image_id' or 'path'"
        )
    for number, cells in lines:
        answer = nfc(_bare(cells[label]))
        if not answer:
            continue
        written = _bare(cells[image]) if image else ""
        found = [written] if written else []
        if not written and path and (place := _bare(cells[path])):
            found = images.at(place, _bare(cells[part]) if part else "")
        yield _Answer(f"{table}: line {number}", found, answer)


def _in_folders(folder: Path, images: Images) -> Iterable[_Answer]:
    walked = walk(folder)
    if walked.refused:
        refused, why = next(iter(walked.refused.items()))
        shown = shown_name(refused, images.scenario.kind, "a file")
        raise DataError(f"{folder}: {shown}: {why}. Nothing was taken. Move it away, and take the folder again")
    for path, number in walked.numbers().items():
        name, _, inside = path.partition("/")
        where = f"{folder}: {shown_name(path, images.scenario.kind, f'file {number}')}"
        if not inside:
            raise DataError(f"{where}: lies in no class folder. Allowed: {', '.join(images.scenario.classes)}")
        yield _Answer(where, images.of_content(folder / path), readable(name))


def _bare(cell: str) -> str:
    """Returns a cell as it was before a quote was put before it, so that no spreadsheet runs it."""
    cell = cell.strip()
    return cell[1:] if cell[:1] == "'" and cell[1:2] in ("=", "+", "-", "@") else cell
