import dataclasses

import numpy as np
import pytest

pytest.importorskip("rasterio")

from isthmus.data.simulate import countryside
from isthmus.data.simulate.countryside import GROUNDS, SATELLITES, render


def reflectance(name: str, label: str, count: int = 6, **changes: object) -> np.ndarray:
    satellite = dataclasses.replace(SATELLITES[name], cut=0.0, **changes)
    images = []
    for i in range(count):
        rng = np.random.default_rng(100 + i)
        images.append(render(satellite, GROUNDS[label](satellite, rng), np.random.default_rng(i), rng))
    return np.stack(images) * satellite.scale + satellite.offset


@pytest.mark.parametrize("name", SATELLITES)
def test_surfaces_differ_as_their_spectra_do(name: str) -> None:
    forest, urban, water = (reflectance(name, label) for label in ("forest", "urban", "water"))

    def ndvi(found: np.ndarray) -> np.ndarray:
        return (found[:, 3] - found[:, 2]) / (found[:, 3] + found[:, 2])

    assert np.median(ndvi(forest)) > np.median(ndvi(urban)) + 0.1
    assert np.quantile(water[:, 4], 0.1) < 0.5 * np.quantile(forest[:, 4], 0.1) + 0.02
    assert urban[:, 2].mean() > forest[:, 2].mean()


def test_haze_brightens_the_blue_most_and_autumn_dries_the_fields() -> None:
    clear, hazy = (reflectance("sat_a", "forest", haze=haze, exponent=2.0) for haze in (0.0, 0.06))
    summer, autumn = (reflectance("sat_a", "cropland", withered=w, bare=b) for w, b in ((0.1, 0.1), (0.5, 0.6)))

    rise = (hazy - clear).mean(axis=(0, 2, 3))

    assert rise[0] > 1.5 * rise[2] > 0
    assert (summer[:, 3] - summer[:, 2]).mean() > 1.3 * (autumn[:, 3] - autumn[:, 2]).mean()


def test_the_optics_pass_a_quarter_of_the_contrast_at_nyquist() -> None:
    wave = np.tile(np.cos(np.pi * np.arange(countryside.SIDE)), (countryside.SIDE, 1))

    passed = countryside.blurred(wave, 1)[40:80, 40:80]

    assert np.abs(passed).mean() == pytest.approx(0.25, rel=0.02)
