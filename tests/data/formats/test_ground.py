"""How far apart pixels are on the ground: by hand, by the units' definitions and by pi."""

import math

import pytest

rasterio = pytest.importorskip("rasterio")

from isthmus.core.errors import DataError  # noqa: E402
from isthmus.data.formats.ground import ground_distance  # noqa: E402

WGS84 = (
    'DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]'
)
MOON = (
    'GEOGCS["m",DATUM["D_Moon_2000",SPHEROID["Moon_2000",1737400,0]],PRIMEM["x",0],UNIT["degree",0.0174532925199433]]'
)
DEGREE = math.pi / 180 * 6_378_137  # [m] along a meridian
FOOT = 1200 / 3937  # [m] of the US survey


def distance(crs: object, across: float, down: float, west: float, north: float, turn: float = 0) -> list[float]:
    transform = rasterio.Affine.translation(west, north) @ rasterio.Affine.rotation(turn)
    system = rasterio.crs.CRS.from_user_input(crs)
    return ground_distance(system, transform @ rasterio.Affine.scale(across, -down), 2, 2)


@pytest.mark.parametrize(
    ("crs", "where", "expected"),
    [
        (32633, (10, 20, 500_000, 5_000_000), [20, 10]),
        (4326, (1e-4, 1e-4, 10, 60), [DEGREE * 1e-4, DEGREE * 1e-4 / 2]),
        (4807, (1e-4, 1e-4, 5, 50), [DEGREE * 0.9e-4, DEGREE * 0.9e-4 * math.cos(math.radians(45))]),  # grads
        ("EPSG:4979", (1e-4, 1e-4, 10, -60), [DEGREE * 1e-4, DEGREE * 1e-4 / 2]),  # with heights
        (2263, (10, 10, 1_000_000, 200_000), [10 * FOOT] * 2),
        (2225, (1, 1, 6_000_000, 2_000_000), [FOOT] * 2),
        (27700, (5, 5, 400_000, 400_000), [5, 5]),
        (3857, (10, 10, 0, 0), [10, 10]),
        (3857, (10, 10, 1_000_000, 8_399_738), [5, 5]),  # 60 degrees north: Web Mercator stretches twofold
        ("EPSG:32633+5773", (10, 10, 500_000, 5_000_000), [10, 10]),  # with heights
        (3413, (30, 30, 0, -2_000_000), [30, 30]),
        (f'GEOGCS["g",{WGS84.replace("degree", "radian").replace("0.0174532925199433", "1")}]', (1e-6, 1e-6, 0, 0),
         [6.378137] * 2),
        (f'PROJCS["k",GEOGCS["g",{WGS84}],PROJECTION["Transverse_Mercator"],PARAMETER["central_meridian",9],'
         'UNIT["kilometre",1000]]', (0.01, 0.01, 0, 5_000), [10, 10]),
        ('LOCAL_CS["drone",LOCAL_DATUM["x",0],UNIT["metre",1]]', (0.05, 0.05, 0, 0), [0.05, 0.05]),
        ('LOCAL_CS["site",LOCAL_DATUM["x",0],UNIT["US survey foot",0.304800609601219]]', (1, 1, 0, 0), [FOOT] * 2),
        (MOON, (1e-3, 1e-3, 0, 60), [math.pi / 180 * 1737.4, math.pi / 180 * 868.7]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("turn", [0, 90, 180])
def test_the_distance_is_in_metres_in_every_kind_of_coordinates(
    crs: object, where: tuple[float, ...], expected: list[float], turn: float
) -> None:
    found = distance(crs, *where, turn=turn)

    # a quarter turn lays columns along the meridian: the pixel is as long there as a row was, and the other way round
    if turn == 90 and expected[0] != expected[1] and crs not in (32633,):
        expected = [expected[1], expected[0]]
    assert found == pytest.approx(expected, rel=1e-3)


def test_a_map_in_its_own_unit_is_exact_where_its_projection_hardly_stretches() -> None:
    assert distance(32633, 10, 10, 200_000, 7_000_000) == [10.0, 10.0]


@pytest.mark.parametrize(
    ("crs", "transform", "reason"),
    [
        ('LOCAL_CS["x",LOCAL_DATUM["y",0],UNIT["unknown",1]]', rasterio.Affine(1, 0, 0, 0, -1, 0), "no unit of length"),
        ("EPSG:32633", rasterio.Affine(0, 0, 0, 0, 0, 0), "its geotransform is not a finite one"),
        ("EPSG:32633", rasterio.Affine(math.inf, 0, 0, 0, 1, 0), "its geotransform is not a finite one"),
    ],
)
def test_coordinates_that_are_no_distances_are_refused(crs: str, transform: object, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        ground_distance(rasterio.crs.CRS.from_user_input(crs), transform, 2, 2)
