"""Finds a raw file by what messages and reports call it, on the machine where the images are.

Of medical images nothing that is logged or written to a store holds a part of a path: a file is a number in the order
of its folder's paths, an image its id. Here they become paths again, on standard output alone.
"""

import re
from pathlib import Path

from isthmus.core.config import load_params, read_yaml
from isthmus.core.errors import ConfigError, DataError
from isthmus.core.plugins import did_you_mean
from isthmus.core.project import stage_path
from isthmus.data.ingest.scan import find_named
from isthmus.data.ingest.walk import walk
from isthmus.data.manifest import LOCATIONS, read_table
from isthmus.data.scenario import ScenarioParams

_ID = re.compile(r"[0-9a-f]{32}")


def where(project: Path, place: str, name: str) -> list[Path]:
    """Returns the files that a name stands for.

    Args:
        project: the folder with `params.yaml`.
        place: a scenario, or a folder that was given to 'isthmus add', 'predict' or 'watch'.
        name: `12` or `file 12`, or the id of an image.

    Raises:
        ConfigError: there is no such scenario or folder, or the name is none of these.
        DataError: nothing is called so.
    """
    number = name.strip().removeprefix("file").strip()
    folder = Path(place)
    if not number.isdigit() and not _ID.fullmatch(name):
        raise ConfigError(f"'{name}': not a file. Allowed: a number, as in 'file 12', or an image id of 32 hex digits")
    params = project / "params.yaml"
    scenarios = (read_yaml(params).get("scenarios") or {}) if params.is_file() else {}
    if place in scenarios:
        scenario = load_params(ScenarioParams, params, {"scenario": f"scenarios.{place}"}).scenario
        raw = project / scenario.raw
        if _ID.fullmatch(name):
            return _of_image(project, place, raw, name)
        paths = [raw / path for path in sorted(find_named(raw, scenario))]
    elif folder.is_dir():
        paths = [folder / path for path in walk(folder).numbers()]
    else:
        there = ", ".join(scenarios) or "none"
        raise ConfigError(
            f"{place}: no scenario and no folder.{did_you_mean(place, list(scenarios))} Scenarios: {there}"
        )
    if not number.isdigit() or not 1 <= int(number) <= len(paths):
        raise DataError(
            f"{place}: no file {number}. There are {len(paths)}, numbered from 1 in the order of their paths"
        )
    return [paths[int(number) - 1]]


def _of_image(project: Path, scenario: str, raw: Path, image_id: str) -> list[Path]:
    stages = read_yaml(project / "dvc.yaml")["stages"]
    locations = project / stage_path(stages, "ingest", "locations", scenario)
    if not locations.is_file():
        raise DataError(f"{locations}: no such file. Run 'dvc repro ingest@{scenario}' first")
    rows = read_table(locations, LOCATIONS)
    paths = [raw / path for path in rows.loc[rows["image_id"] == image_id, "path"]]
    if not paths:
        raise DataError(
            f"{scenario}: no image {image_id} in {locations}. An image that is not used has none: see 'file N'"
        )
    return paths
