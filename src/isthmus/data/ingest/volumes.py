"""Decoded files -> volumes: the slices of each series in their order, checked, and those of them that are taken."""

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from isthmus.core.errors import DataError
from isthmus.data.audit.summary import Bad
from isthmus.data.ingest.scan import Row
from isthmus.data.slices import VolumeConfig, chosen, volume_problem

_NO_PLACE = "states no position in a series, which 'volumes' of the scenario needs"  # a file in quarantine


class Volumes(NamedTuple):
    """The slices that are taken, volume by volume, each in the order of its positions; and what is refused."""

    rows: list[list[Row]]
    bad: list[Bad]
    slices: int  # of all volumes that are used, taken or not

    def counts(self) -> dict[str, int]:
        """Returns what the audit says of them."""
        return {
            "volumes": len(self.rows),
            "slices": self.slices,
            "taken": len({_bytes(r) for v in self.rows for r in v}),
        }


def volumes(rows: list[Row], config: VolumeConfig, raw: Path) -> Volumes:
    """Sorts slices into volumes; a volume with a gap, with two slices at one place or of two shapes is refused whole.

    Args:
        rows: decoded images; exact copies of one file count once and stay copies.
        config: which slices are taken.
        raw: the folder, for the message.

    Raises:
        DataError: no file states a position in a series.
    """
    if rows and not any(row.slice for row in rows):
        raise DataError(
            f"{raw}: no file states a position in a series, which 'volumes' of the scenario in params.yaml needs: DICOM"
            " with SeriesInstanceUID, ImagePositionPatient and ImageOrientationPatient, or NIfTI. Remove 'volumes',"
            " then run 'dvc repro' again"
        )
    bad = [Bad(row.found.path, row.found.domain, _NO_PLACE) for row in rows if row.slice is None]
    series: dict[tuple[str, str], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.slice is not None:
            series[row.found.domain, row.slice.series][_bytes(row)].append(row)
    used, count = [], 0
    for copies in series.values():
        members = sorted(copies.values(), key=lambda same: (_position(same[0]), same[0].sha256))
        if problem := _problem([same[0] for same in members]):
            bad += [Bad(row.found.path, row.found.domain, problem) for same in members for row in same]
            continue
        count += len(members)
        places = chosen([_position(same[0]) for same in members], config)
        used.append([row for place in places for row in members[place]])
    return Volumes(used, sorted(set(bad)), count)


def _bytes(row: Row) -> str:
    return f"{row.sha256} {row.part}"


def _position(row: Row) -> float:
    assert row.slice is not None
    return row.slice.position


def _problem(members: list[Row]) -> str:
    shapes = {(row.height, row.width, row.channels) for row in members}
    if len(shapes) > 1:
        return f"no volume: the slices of the series have {len(shapes)} different sizes"
    return volume_problem([row.slice for row in members if row.slice is not None])
