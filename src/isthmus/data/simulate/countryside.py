"""A countryside under two satellites: its ground, what reaches the sensor of it, and the GeoTIFF that is written.

The satellites differ in band response, resolution, haze, season and encoding of the reflectance. Every constant below
was set from the cited models, or rounded from the cited data, before any method ran on the images, and is not tuned
afterwards. A scene is one overpass: its images share haze, season and sun.

Sources of the models:
    spectra    rounded to 0.01 of typical vegetation, soil, water and built surfaces: Kokaly et al., USGS Spectral
               Library Version 7, USGS Data Series 1035 (2017); linear mixture: Settle and Drake, Int. J. Remote
               Sensing 14 (1993) 1159-1177
    sensors    bands, sampling and noise like Sentinel-2 MSI (Drusch et al., Remote Sens. Environ. 120 (2012) 25-36) and
               Landsat 8 OLI (Irons, Dwyer, Barsi, Remote Sens. Environ. 122 (2012) 11-21); neither is imitated exactly
    optics     Gaussian point spread with a modulation of 0.25 at Nyquist, within what both instruments specify
    haze       path reflectance ~ wavelength^-k, k of 4 (very clear) to 0.7 (hazy): Chavez, Remote Sens. Environ. 24
               (1988) 459-479
    encoding   reflectance = scale * DN + offset, 0 where there is no data: Sentinel-2 Level-2A from baseline 04.00;
               Landsat Collection 2 Level-2
    texture    Gaussian fields with a power law spectrum: Mandelbrot, The Fractal Geometry of Nature (1982), ch. 28
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

Frame = NDArray[np.float64]
Ground = dict[str, Frame]  # surface -> its share in each cell `[SIDE, SIDE]`

SIDE = 126  # of the ground's grid
CELL = 10.0  # [m] of one of its cells; an image is 1,260 m wide
NODES = (490.0, 560.0, 665.0, 842.0, 1610.0)  # [nm]
SURFACES = {  # reflectance at NODES
    "crop": (0.03, 0.07, 0.04, 0.45, 0.20),
    "tree": (0.02, 0.04, 0.03, 0.32, 0.12),
    "dry": (0.08, 0.13, 0.18, 0.32, 0.34),
    "soil": (0.09, 0.13, 0.18, 0.27, 0.34),
    "water": (0.05, 0.05, 0.03, 0.02, 0.01),
    "asphalt": (0.09, 0.10, 0.11, 0.13, 0.15),
    "roof": (0.18, 0.22, 0.26, 0.32, 0.35),
}
_MARGIN = 6  # [cell] mirrored around an image before it is blurred


@dataclass(frozen=True)
class Satellite:
    """One instrument and the season in which it flew.

    Attributes:
        bands: name -> centre [nm].
        snr: signal to noise of each band at a reflectance of 0.1.
        coarse: side of a pixel [cell].
        scale, offset: reflectance = scale * DN + offset.
        haze: mean path reflectance at 550 nm.
        exponent: of its fall with the wavelength.
        withered: share of the vegetation that is dry.
        bare: share of the fields that are ploughed.
        epsg: zone of the map.
        cut: share of images that lie on the edge of the swath.
    """

    bands: dict[str, float]
    snr: tuple[float, ...]
    coarse: int
    scale: float
    offset: float
    haze: float
    exponent: float
    withered: float
    bare: float
    epsg: int
    cut: float


SATELLITES = {
    # ten metres, early summer, clear air
    "sat_a": Satellite(
        bands={"B02": 492.4, "B03": 559.8, "B04": 664.6, "B08": 832.8, "B11": 1613.7},
        snr=(154, 168, 142, 172, 100),
        coarse=1,
        scale=1e-4,
        offset=-0.1,
        haze=0.02,
        exponent=4.0,
        withered=0.10,
        bare=0.15,
        epsg=32633,
        cut=0.15,
    ),
    # thirty metres, autumn, hazy air
    "sat_b": Satellite(
        bands={"SR_B2": 482.0, "SR_B3": 561.4, "SR_B4": 654.6, "SR_B5": 864.7, "SR_B6": 1608.9},
        snr=(364, 302, 227, 204, 265),
        coarse=3,
        scale=2.75e-5,
        offset=-0.2,
        haze=0.07,
        exponent=1.0,
        withered=0.45,
        bare=0.55,
        epsg=32632,
        cut=0.15,
    ),
}


def render(
    satellite: Satellite, ground: Ground, air: np.random.Generator, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """Returns one image, uint16 `[bands, H, W]`: ground, season, haze, optics, noise, nodata.

    Args:
        satellite: what looks down.
        ground: what is there.
        air: draws what the scene's images share.
        rng: draws everything else.
    """
    haze, season, sun = satellite.haze * air.lognormal(0, 0.25), air.normal(0, 0.05), air.normal(1, 0.04)
    share = dict(ground)
    withered = np.clip(satellite.withered + season, 0, 1)
    for plant in ("crop", "tree"):
        share["dry"] = share.get("dry", 0) + share.get(plant, 0) * withered
        share[plant] = share.get(plant, np.zeros((SIDE, SIDE))) * (1 - withered)
    total = sum(share.values())
    light = sun * (1 + 0.06 * _field(rng, 1.6))
    centres = np.array(list(satellite.bands.values()))
    reflected = [
        sum(cover * np.interp(wave, NODES, SURFACES[name]) for name, cover in share.items()) / total * light
        for wave in centres
    ]
    path = haze * (centres / 550) ** -satellite.exponent
    seen = [p + (1 - 2 * p) * blurred(band, satellite.coarse) for band, p in zip(reflected, path, strict=True)]
    noise = [rng.normal(0, 0.1 / snr, band.shape) for band, snr in zip(seen, satellite.snr, strict=True)]
    numbers = np.rint((np.stack(seen) + np.stack(noise) - satellite.offset) / satellite.scale)
    return _cut(satellite, np.clip(numbers, 1, 65535).astype(np.uint16), rng)


def _field(rng: np.random.Generator, power: float) -> Frame:
    """Returns a Gaussian field of mean 0 and standard deviation 1 whose amplitude falls as frequency^-power."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.rfftfreq(SIDE), indexing="ij"))
    frequency[0, 0] = np.inf
    values = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) * frequency**-power, s=(SIDE, SIDE))
    return values / values.std()


def _turned(rng: np.random.Generator) -> tuple[Frame, Frame]:
    """Returns coordinates [m] along and across a random direction, from a random origin."""
    y, x = np.indices((SIDE, SIDE)) * CELL
    angle = rng.uniform(0, np.pi)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return u + rng.uniform(0, 1000), v + rng.uniform(0, 1000)


def _soft(values: Frame, width: float) -> Frame:
    return 1 / (1 + np.exp(np.clip(-values / width, -60, 60)))


def _forest(satellite: Satellite, rng: np.random.Generator) -> Ground:
    """Returns crowns with shade between them, and a few clearings."""
    crowns = np.clip(0.85 + 0.12 * _field(rng, 0.2), 0.3, 1)
    clearing = _soft(_field(rng, 1.8) - rng.uniform(1.2, 2.2), 0.1)
    return {"tree": crowns * (1 - clearing), "water": (1 - crowns) * (1 - clearing), "crop": clearing}  # shade is dark


def parcels(rng: np.random.Generator) -> tuple[NDArray[np.int64], Frame]:
    """Returns the parcel to which each cell belongs, from 0, and how far it is to the nearer long side of it [m].

    Parcels are 180 to 400 m long and 90 to 220 m wide.
    """
    u, v = _turned(rng)
    long, wide = rng.uniform(180, 400), rng.uniform(90, 220)
    column = np.floor(v / wide).astype(int)
    row = np.floor((u + 97.0 * column) / long).astype(int)
    number = (row - row.min()) * 64 + (column - column.min())
    return number, np.minimum(v - column * wide, (column + 1) * wide - v)


def grown(satellite: Satellite, count: int, rng: np.random.Generator) -> Frame:
    """Returns what share of each of `count` parcels is green; ploughed ones are nearly bare."""
    level = rng.uniform(0.55, 0.98, count)
    level[rng.random(count) < satellite.bare] *= 0.15
    return level


def fields(green: Frame, beside: Frame, rng: np.random.Generator) -> Ground:
    """Returns parcels, by their share of green, with tracks between them."""
    crop = np.clip(green + 0.04 * _field(rng, 0.5), 0, 1) * (1 - _soft(6 - beside, 2))
    return {"crop": crop, "soil": 1 - crop}


def _cropland(satellite: Satellite, rng: np.random.Generator) -> Ground:
    """Returns fields, each ploughed or grown."""
    number, beside = parcels(rng)
    return fields(grown(satellite, number.max() + 1, rng)[number], beside, rng)


def _urban(satellite: Satellite, rng: np.random.Generator) -> Ground:
    """Returns streets 60 to 130 m apart, roofs and yards between them, a park here and there."""
    u, v = _turned(rng)
    gap, across = rng.uniform(60, 130), rng.uniform(60, 130)
    street = np.maximum((u % gap) < 15, (v % across) < 15).astype(float)
    roofs = _soft(_field(rng, 0.3) - rng.uniform(-0.4, 0.3), 0.4)
    park = _soft(_field(rng, 1.8) - rng.uniform(1.0, 2.0), 0.1)
    built = 1 - park
    return {
        "asphalt": (street + (1 - street) * (1 - roofs) * 0.5) * built,
        "roof": (1 - street) * roofs * built,
        "tree": (1 - street) * (1 - roofs) * 0.5 * built + park * 0.5,
        "crop": park * 0.5,
    }


def _water(satellite: Satellite, rng: np.random.Generator) -> Ground:
    """Returns a lake or a river, with meadow and trees on its banks."""
    land = _field(rng, 1.8)
    if rng.random() < 0.5:
        wet = _soft(land - np.quantile(land, rng.uniform(0.35, 0.65)), 0.05)
    else:
        _, v = _turned(rng)
        middle = np.median(v)
        wet = _soft(rng.uniform(120, 320) - np.abs(v - middle + 60 * land), 6)
    trees = _soft(_field(rng, 1.4), 0.3)
    meadow = np.clip(0.7 + 0.1 * _field(rng, 0.6), 0, 1)
    dry = 1 - wet
    return {
        "water": wet,
        "tree": dry * trees,
        "crop": dry * (1 - trees) * meadow,
        "soil": dry * (1 - trees) * (1 - meadow),
    }


GROUNDS = {"forest": _forest, "cropland": _cropland, "urban": _urban, "water": _water}


def blurred(band: Frame, coarse: int) -> Frame:
    """Returns what the optics and the detector make of the ground, one value a pixel of `coarse` cells."""
    sigma = np.sqrt(-np.log(0.25) / (np.pi**2 / 2)) * coarse  # [cell]: exp(-2 (pi sigma f)^2) is 0.25 at Nyquist
    padded = np.pad(band, _MARGIN, mode="reflect")
    fy, fx = np.meshgrid(np.fft.fftfreq(padded.shape[0]), np.fft.rfftfreq(padded.shape[1]), indexing="ij")
    spread = np.exp(-2 * (np.pi * sigma) ** 2 * (fx**2 + fy**2))
    sharp = np.fft.irfft2(np.fft.rfft2(padded) * spread, s=padded.shape)[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    return sharp[coarse // 2 :: coarse, coarse // 2 :: coarse]


def _cut(satellite: Satellite, numbers: NDArray[np.uint16], rng: np.random.Generator) -> NDArray[np.uint16]:
    """Returns the image with 0 beyond the edge of the swath, where the image lies on it."""
    edge, share = rng.random() < satellite.cut, rng.uniform(0.05, 0.4)
    rows, columns = np.indices(numbers.shape[1:]) / numbers.shape[1]
    if edge:
        beyond = columns + 0.2 * rows
        numbers[:, beyond < np.quantile(beyond, share)] = 0
    return numbers


def save(path: Path, satellite: Satellite, place: tuple[int, int], pixels: NDArray[np.uint16]) -> None:
    """Writes one GeoTIFF with its bands' names and wavelengths, its scale and its place.

    Args:
        path: of the file.
        satellite: that took it.
        place: column and row of the image on the map.
        pixels: uint16 `[bands, H, W]`.
    """
    count, height, width = pixels.shape
    step = CELL * satellite.coarse
    west, north = 400_000 + place[0] * 2000.0, 5_300_000 + place[1] * 2000.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # rasterio 1.4 multiplies affine 3 matrices with *
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=count,
            height=height,
            width=width,
            dtype="uint16",
            nodata=0,
            crs=f"EPSG:{satellite.epsg}",
            transform=rasterio.Affine(step, 0, west, 0, -step, north),
        ) as scene_file:
            scene_file.write(pixels)
            scene_file.descriptions = tuple(satellite.bands)
            scene_file.scales, scene_file.offsets = [satellite.scale] * count, [satellite.offset] * count
            for band, wave in enumerate(satellite.bands.values(), 1):
                scene_file.update_tags(band, wavelength=f"{wave}", wavelength_units="nm")
