import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("rasterio")

from isthmus.core.files import hash_files
from isthmus.data.pairs import remote_sensing
from isthmus.data.pairs.remote_sensing import COUNTS, Config
from isthmus.data.readers import reader_for
from isthmus.data.readers.geotiff import FileReader
from isthmus.data.simulate.countryside import SATELLITES


def few(monkeypatch: pytest.MonkeyPatch) -> None:
    satellites = {name: dataclasses.replace(satellite, cut=1.0) for name, satellite in SATELLITES.items()}
    monkeypatch.setattr(remote_sensing, "SATELLITES", satellites)
    monkeypatch.setattr(remote_sensing, "COUNTS", {name: dict.fromkeys(counts, 2) for name, counts in COUNTS.items()})


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
    assert [sum(counts.values()) for counts in COUNTS.values()] == [360, 360]
    assert COUNTS["sat_a"] != COUNTS["sat_b"]


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
