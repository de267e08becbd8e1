import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("rasterio")

from isthmus.data.image import Image as Read
from isthmus.data.pairs import fields
from isthmus.data.pairs.fields import Config
from isthmus.data.readers.geotiff import FileReader
from isthmus.data.simulate.countryside import SATELLITES

Place = tuple[Read, Read, np.ndarray]


def places(folder: Path, name: str) -> list[Place]:
    def read(path: Path) -> Read:
        return FileReader().read(path, "")

    return [
        (read(path), read(folder / name / "b" / path.name), np.asarray(Image.open(mask)))
        for path in sorted((folder / name / "a").iterdir())
        for mask in [folder / name / "masks" / f"{path.stem}.png"]
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six places under each satellite, all of them on the edge of the swath at both dates."""
    made = tmp_path_factory.mktemp("fields")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fields, "PLACES", 6)
        cut = {name: dataclasses.replace(satellite, cut=1.0) for name, satellite in SATELLITES.items()}
        patch.setattr(fields, "SATELLITES", cut)
        Config().build().write(made, 0)
    return made


@pytest.mark.parametrize("name", SATELLITES)
def test_both_dates_and_the_mask_lie_on_one_grid(name: str, folder: Path) -> None:
    for before, after, mask in places(folder, name):
        assert before.pixels.shape == after.pixels.shape == (*mask.shape, 5)
        assert before.facts["crs"] == after.facts["crs"] == f"EPSG:{SATELLITES[name].epsg}"
        assert set(np.unique(mask)) == {0, 1, 255}


@pytest.mark.parametrize("name", SATELLITES)
def test_what_has_no_data_at_one_date_is_not_scored(name: str, folder: Path) -> None:
    for before, after, mask in places(folder, name):
        assert before.valid is not None and after.valid is not None
        assert (mask[~(before.valid & after.valid)] == 255).all()
        assert (mask == 255).mean() < 0.9


@pytest.mark.parametrize("name", SATELLITES)
def test_changed_parcels_are_built_up_or_planted_and_ploughing_is_no_change(name: str) -> None:
    turned = []
    for seed in range(4):
        before, after, changed = fields._two_dates(SATELLITES[name], np.random.default_rng(seed))

        new = sum(after[surface] for surface in ("asphalt", "roof", "tree"))
        turned.append(np.abs(after["crop"] - before["crop"])[changed == 0] > 0.3)
        assert set(before) == {"crop", "soil"}
        assert 0.02 < changed.mean() < 0.6
        assert new[changed == 0].max() == 0 < 0.5 < new[changed == 1].mean()
    assert 0.01 < np.concatenate(turned).mean() < 0.3


@pytest.mark.parametrize("name", SATELLITES)
def test_changed_pixels_differ_more_between_the_dates_than_others(name: str, folder: Path) -> None:
    differs: dict[int, list[np.ndarray]] = {0: [], 1: []}
    for before, after, mask in places(folder, name):
        # near infrared, each date by its own median: haze and sun are not the ground
        a, b = (date.pixels[..., 3] / np.median(date.pixels[..., 3][mask == 0]) for date in (before, after))
        for value, found in differs.items():
            found.append(np.abs(a - b)[mask == value])

    unchanged, changed = (np.median(np.concatenate(found)) for found in differs.values())

    assert changed > 2 * unchanged


@pytest.mark.parametrize("name", SATELLITES)
def test_between_changed_and_unchanged_pixels_lies_a_border_that_is_not_scored(name: str, folder: Path) -> None:
    for _, _, mask in places(folder, name):
        beside = np.zeros(mask.shape, bool)
        beside[1:] |= (mask[1:] == 1) & (mask[:-1] == 0)
        beside[:-1] |= (mask[:-1] == 1) & (mask[1:] == 0)

        assert not beside.any()
