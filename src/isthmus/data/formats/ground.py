"""How far apart the pixels of a raster lie on the ground, whatever coordinates it is in."""

import math
import re
from functools import lru_cache
from typing import Any, NamedTuple

from isthmus.core.errors import DataError

_EARTH = 6_378_137.0  # [m]: WGS 84's semi-major axis
# A map's own unit is taken at its word where the projection stretches less than this: UTM does by 0.04 %, and a sphere
# differs from the ellipsoid by up to 0.7 %. Web Mercator stretches by 1 / cos(latitude).
_TRUE = 0.01
_SPHEROID = re.compile(r'SPHEROID\["[^"]*",([0-9.eE+]+),')


class Step(NamedTuple):
    """From one pixel to the next along a row or a column, in the units of the coordinates."""

    x: float
    y: float


def ground_distance(crs: Any, transform: Any, height: int, width: int) -> list[float]:
    """Returns the distance between rows and between columns on the ground at the middle of a raster [m/pixel].

    Args:
        crs: a `rasterio.crs.CRS`.
        transform: a `rasterio.Affine`, from column and row to coordinates.
        height: rows [pixel].
        width: columns [pixel].

    Raises:
        DataError: the raster states no place, or its coordinates are no distances.
    """
    t = transform
    down, across = Step(t.b, t.e), Step(t.a, t.d)
    steps = (down, across)
    if not all(math.isfinite(v) for v in t[:6]) or min(map(_length, steps)) == 0:
        raise DataError("its geotransform is not a finite one")
    factor = _unit(crs)
    x, y = transform @ (width / 2, height / 2)
    if crs.is_geographic:
        return [_on_sphere(step, y * factor, _radius(crs), factor) for step in steps]
    nominal = [_length(step) * factor for step in steps]
    real = _unprojected(crs, x, y, steps)
    if real and any(abs(a / b - 1) > _TRUE for a, b in zip(real, nominal, strict=True)):
        return real
    return nominal


def _length(step: Step) -> float:
    return math.hypot(step.x, step.y)


def _unit(crs: Any) -> float:
    """Returns metres, or radians where coordinates are angles, of one unit of the coordinates."""
    from rasterio.errors import CRSError, RasterioError

    try:
        name, factor = crs.units_factor
    except (CRSError, RasterioError):
        name, factor = "unknown", 0.0
    if name.lower() in ("", "unknown") or not (math.isfinite(factor) and factor > 0):
        raise DataError("its coordinate system states no unit of length")
    return float(factor)


def _on_sphere(step: Step, latitude: float, radius: float, factor: float) -> float:
    """Returns the length of a step in longitude and latitude [m]; `factor` converts the step to radians."""
    return radius * factor * math.hypot(step.x * max(math.cos(latitude), 1e-6), step.y)


def _radius(crs: Any) -> float:
    """Returns the semi-major axis of the body that a coordinate system lies on [m]: the Moon is none of ours."""
    found = _SPHEROID.search(crs.to_wkt())
    value = float(found.group(1)) if found else 0.0
    return value if value > 0 else _EARTH


def _unprojected(crs: Any, x: float, y: float, steps: tuple[Step, Step]) -> list[float]:
    """Returns the lengths of steps from a place of a map [m], empty where it lies on no body, as a local grid does."""
    from rasterio.warp import transform as transformed

    xs, ys = [x, *(x + s.x for s in steps)], [y, *(y + s.y for s in steps)]
    try:
        base, factor, radius = _body(crs.to_wkt())
        longitudes, latitudes = transformed(crs, base, xs, ys)
    except Exception:  # a system without a body, or one that PROJ cannot bring to it
        return []
    turn = 2 * math.pi / factor
    lengths = []
    for longitude, latitude in zip(longitudes[1:], latitudes[1:], strict=True):
        east = (longitude - longitudes[0] + turn / 2) % turn - turn / 2
        step = Step(east, latitude - latitudes[0])
        lengths.append(_on_sphere(step, latitudes[0] * factor, radius, factor))
    return lengths if all(math.isfinite(v) and v > 0 for v in lengths) else []


@lru_cache(maxsize=64)
def _body(wkt: str) -> tuple[Any, float, float]:
    """Returns the geographic system inside a projected one's WKT, radians of its unit and the body's radius [m]."""
    from rasterio.crs import CRS

    base = CRS.from_wkt(_geographic(wkt))
    return base, _unit(base), _radius(base)


def _geographic(wkt: str) -> str:
    """Returns the geographic system inside a projected one's WKT 1, empty where there is none.

    >>> _geographic('PROJCS["map",GEOGCS["g",DATUM["d"]],PROJECTION["p"]]')
    'GEOGCS["g",DATUM["d"]]'
    """
    start = wkt.find("GEOGCS[")
    depth = 0
    for place in range(start, len(wkt) if start >= 0 else start):
        depth += {"[": 1, "]": -1}.get(wkt[place], 0)
        if depth == 0 and wkt[place] == "]":
            return wkt[start : place + 1]
    return ""
