import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rasterio")

from isthmus.core.files import hash_files
from isthmus.data.pairs import remote_sensing
from isthmus.data.pairs.remote_sensing import SATELLITES, Config, render
from isthmus.data.readers import reader_for
from isthmus.data.readers.geotiff import FileReader


def reflectance(name: str, label: str, count: int = 6, **changes: object) -> np.ndarray:
    satellite = dataclasses.replace(SATELLITES[name], cut=0.0, **changes)
    images = [render(satellite, label, np.random.default_rng(i), np.random.default_rng(100 + i)) for i in range(count)]
    return np.stack(images) * satellite.scale + satellite.offset


def few(monkeypatch: pytest.MonkeyPatch) -> None:
    satellites = {n: dataclasses.replace(s, counts=dict.fromkeys(s.counts, 2), cut=1.0) for n, s in SATELLITES.items()}
    monkeypatch.setattr(remote_sensing, "SATELLITES", satellites)


def test_files_are_named_by_scene_and_the_same_seed_writes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch)

    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        Config().build().write(tmp_path / name, seed)

    files = sorted(p.relative_to(tmp_path / "one").as_posix() for p in (tmp_path / "one").rglob("*.tif"))
    assert len(files) == 16
    assert all("/scene-" in f and "_img-" in f for f in files)
    assert hash_files([tmp_path / "one"]) == hash_files([tmp_path / "two"])
    assert hash_files([tmp_path / "one"]) != hash_files([tmp_path / "other"])


def test_the_pair_has_720_images_and_class_shares_that_differ_mildly() -> None:
    assert [sum(s.counts.values()) for s in SATELLITES.values()] == [360, 360]
    assert SATELLITES["sat_a"].counts != SATELLITES["sat_b"].counts


def test_both_satellites_files_read_back_to_reflectance_with_place_bands_and_nodata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch)
    Config().build().write(tmp_path, 0)

    for name, satellite in SATELLITES.items():
        path = next((tmp_path / name / "water").iterdir())
        image = reader_for(path).read(path, "")
        assert isinstance(reader_for(path), FileReader)
        assert image.facts["gsd_m"] == [10.0 * satellite.coarse] * 2
        assert image.facts["wavelengths_nm"] == list(satellite.bands.values())
        assert image.facts["crs"] == f"EPSG:{satellite.epsg}"
        assert image.valid is not None
        assert 0.03 < 1 - image.valid.mean() < 0.45
        assert -0.02 < image.pixels[image.valid].min() < image.pixels[image.valid].max() < 0.6


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
    wave = np.tile(np.cos(np.pi * np.arange(remote_sensing.SIDE)), (remote_sensing.SIDE, 1))

    passed = remote_sensing._blurred(wave, 1)[40:80, 40:80]

    assert np.abs(passed).mean() == pytest.approx(0.25, rel=0.02)
