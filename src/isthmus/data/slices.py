"""Slices of a volume: which belong together, in which order they lie, what is missing, and which of them are taken.

A slice lies where its origin, projected on the normal of its plane, says (DICOM PS3.3, C.7.6.2.1.1): neither file
names nor instance numbers are its order. Positions are in [mm] along the normal.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from isthmus.core.config import Config

_SAME_PLACE = 0.01  # [mm]; scanners write positions to 1 um or so
_GAP = 1.5  # of the usual distance; one missing slice makes it 2
_PARALLEL = 0.9999  # cosine: less than one degree


class Slice(NamedTuple):
    """Where one image lies in its volume.

    Attributes:
        series: stands for the volume; a hash, and used in memory alone.
        normal: unit vector across the plane.
        position: of the plane along the normal [mm].
    """

    series: str
    normal: tuple[float, float, float]
    position: float


class VolumeConfig(Config):
    """`scenarios.NAME.volumes`: the files of a series are one volume, of which some slices are taken."""

    every: int = Field(1, ge=1, description="takes every k-th slice, the middle one among them")
    spacing: float | None = Field(
        None, gt=0, description="[mm] between the slices that are taken, the nearest available; none: as stored"
    )
    most: int | None = Field(None, ge=1, description="number taken from the middle of these; none: all")

    @model_validator(mode="after")
    def _one_step(self) -> Self:
        if self.spacing is not None and self.every != 1:
            raise ValueError("'every' and 'spacing' both set the distance between slices. Keep one of them")
        return self


def place_of(origin: Sequence[float], cosines: Sequence[float]) -> tuple[tuple[float, float, float], float] | None:
    """Returns the normal of a plane and its place along it [mm], None where the cosines span no plane.

    Args:
        origin: x, y, z of the first pixel [mm].
        cosines: direction of a row and direction of a column, x, y, z each.

    >>> place_of([-125, -128, 7.5], [1, 0, 0, 0, 1, 0])
    ((0.0, 0.0, 1.0), 7.5)
    """
    normal = np.cross(cosines[:3], cosines[3:])
    length = float(np.linalg.norm(normal))
    if length < 0.5:  # two unit vectors at less than 30 degrees are no plane of an image
        return None
    x, y, z = (float(v) for v in normal / length)
    return (x, y, z), float(np.dot((x, y, z), origin))


def volume_problem(slices: Sequence[Slice]) -> str:
    """Returns why slices in the order of their positions are no volume, empty where they are one."""
    first = slices[0].normal
    if any(float(np.dot(first, s.normal)) < _PARALLEL for s in slices):
        return "no volume: the slices of the series are not parallel"
    apart = np.diff([s.position for s in slices])
    if same := int((apart < _SAME_PLACE).sum()):
        return f"no volume: {same} of the {len(slices)} slices of the series have the position of another slice"
    usual = float(np.median(apart)) if len(apart) else 0.0
    wide = [(s.position, float(step)) for s, step in zip(slices, apart, strict=False) if step > _GAP * usual]
    if wide:
        return (
            f"no volume: slices of the series are missing or broken: {len(wide)} gaps, the first of {wide[0][1]:.3g} mm"
            f" after {wide[0][0]:.4g} mm, where {usual:.3g} mm are usual"
        )
    return ""


def chosen(positions: Sequence[float], config: VolumeConfig) -> list[int]:
    """Returns which slices are taken, as places in the rising positions.

    >>> chosen([0, 1, 2, 3, 4], VolumeConfig(every=2)), chosen([0, 1, 2, 3, 4], VolumeConfig(most=1))
    ([0, 2, 4], [2])
    """
    middle = (len(positions) - 1) // 2
    places = list(range(middle % config.every, len(positions), config.every))
    if config.spacing is not None:
        at = np.asarray(positions)
        low, high = (math.floor(abs(end - at[middle]) / config.spacing + 1e-6) for end in (at[0], at[-1]))
        wanted = at[middle] + np.arange(-low, high + 1) * config.spacing
        places = sorted({int(np.abs(at - place).argmin()) for place in wanted})
    if config.most is not None and len(places) > config.most:
        start = (len(places) - config.most) // 2
        places = places[start : start + config.most]
    return places
