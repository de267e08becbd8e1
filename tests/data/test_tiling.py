import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from isthmus.core.errors import ConfigError, DataError
from isthmus.data import tiling
from isthmus.data.image import Image
from isthmus.data.manifest import LOCATIONS, read_table
from isthmus.data.tiles import Tiles
from isthmus.data.tiling import read_part, tiled
from tests.raw_folders import CLASSES, scenario
from tests.stages.test_ingest import manifest
from tests.stages.test_prepare import arrays, facts, go


def frame(height: int, width: int, **stated: object) -> Image:
    pixels = np.arange(height * width, dtype=np.uint16).reshape(height, width, 1)
    return Image(pixels, "grey", dict(stated))


def boxes(image: Image, domain: str = "a", **tiles: object) -> list[str]:
    return [name.partition("@")[2] for name, _ in tiled(image, "", Tiles.model_validate(tiles), domain)]


def test_tiles_cover_the_frame_and_the_last_ones_end_with_it() -> None:
    image = frame(50, 70)

    parts = list(tiled(image, "3", Tiles(size=30, overlap=10), "a"))

    assert [name for name, _ in parts][:2] == ["3@0-0-30-30", "3@0-20-30-30"]
    assert boxes(image, size=30, overlap=10) == [f"{y}-{x}-30-30" for y in (0, 20) for x in (0, 20, 40)]
    assert boxes(frame(50, 65), size=30) == [f"{y}-{x}-30-30" for y in (0, 20) for x in (0, 30, 35)]
    seen = np.zeros((50, 70), bool)
    for name, tile in parts:
        top, left, height, width = map(int, name.partition("@")[2].split("-"))
        assert np.array_equal(tile.pixels, image.pixels[top : top + height, left : left + width])
        seen[top : top + height, left : left + width] = True
    assert seen.all()


def test_a_tile_of_fixed_size_has_as_many_pixels_as_its_lines_scale_says() -> None:
    tiles = {"size": 12, "overlap": 2, "unit": "mm", "scale": {"a": 0.5, "b": 0.25}}

    assert boxes(frame(44, 44), "a", **tiles) == [f"{y}-{x}-24-24" for y in (0, 20) for x in (0, 20)]
    assert boxes(frame(48, 88), "b", **tiles) == ["0-0-48-48", "0-40-48-48"]


def test_without_a_scale_of_the_users_the_file_states_it_for_rows_and_columns_apart() -> None:
    assert boxes(frame(40, 40, gsd_m=[10.0, 20.0]), size=400, unit="m") == ["0-0-40-20", "0-20-40-20"]
    assert boxes(frame(40, 40, pixel_spacing_mm=[0.5, 0.5]), size=20, unit="mm") == ["0-0-40-40"]


def test_bounds_and_missing_pixels_go_with_their_tile() -> None:
    valid = np.ones((4, 6), bool)
    valid[0, 5] = False
    image = Image(np.zeros((4, 6, 1), np.uint8), "grey", {"bounds": [0.0, 0.0, 60.0, 40.0]}, valid)

    tiles = [tile for _, tile in tiled(image, "", Tiles(size=2), "a")]

    assert tiles[2].facts["bounds"] == [40.0, 20.0, 60.0, 40.0]
    assert tiles[2].valid is not None and tiles[2].valid.tolist() == [[True, False], [True, True]]
    assert image.facts["bounds"] == [0.0, 0.0, 60.0, 40.0]


@pytest.mark.parametrize(
    ("image", "tiles", "message"),
    [
        (frame(20, 50), {"size": 30}, r"frame of 20 x 50 pixels is smaller than one tile of 30 x 30 \('tiles\.size'"),
        (frame(80, 80), {"size": 1}, r"6400 tiles in one frame; the limit is 4096\. Raise 'tiles\.size'"),
        (frame(80, 80), {"size": 9, "unit": "mm"}, r"file does not state its \[mm/pixel\].*Set 'tiles\.scale'"),
    ],
)
def test_a_frame_that_cannot_be_cut_as_asked_says_why(image: Image, tiles: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        boxes(image, **tiles)


@pytest.mark.parametrize(
    ("tiles", "message"),
    [
        ({"size": 8, "overlap": 8}, "overlap 8 must be smaller than size 8"),
        ({"size": 8, "scale": 0.5}, "a scale says how long a pixel is.*Set 'unit: mm'"),
        ({"size": 8, "unit": "mm", "scale": 0}, "scale must be above 0"),
        (
            {"size": 8, "unit": "mm", "scale": {"line_a": 1}},
            "tiles.scale must have one number for each of line_a, line_b",
        ),
    ],
)
def test_tiles_that_contradict_themselves_are_refused(tiles: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scenario(tiles=tiles)


def test_tiles_of_volumes_are_refused() -> None:
    with pytest.raises(ValueError, match="'tiles' cuts frames and 'volumes' orders whole slices. Keep one of them"):
        scenario(tiles={"size": 8}, volumes={})


@pytest.mark.parametrize(("option", "value"), [("roi", [0, 0, 9, 9]), ("flat_field", True)])
def test_what_is_about_places_in_a_whole_frame_cannot_go_with_tiles(option: str, value: object) -> None:
    told = scenario(kind="industrial", preprocess={option: value}, tiles={"size": 8})

    with pytest.raises(
        ConfigError, match=rf"here\.{option}: is about places in a whole frame, and 'tiles'.*Remove one"
    ):
        told.kind_config("here.")


def frames(folder: Path, each: int = 12, side: int = 48) -> Path:
    """Writes noisy frames that are unlike each other and as unlike themselves from tile to tile."""
    rng = np.random.default_rng(5)
    for domain in ("line_a", "line_b"):
        for name in CLASSES:
            (folder / domain / name).mkdir(parents=True)
            for number in range(each):
                pixels = rng.integers(0, 256, (side, side), dtype=np.uint8)
                Pillow.fromarray(pixels).save(folder / domain / name / f"frame-{number:02d}.png")
    return folder


def test_the_tiles_of_a_frame_have_its_label_stay_in_one_split_and_reach_the_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, opened = frames(tmp_path / "raw"), []
    decode = tiling._checked
    monkeypatch.setattr(tiling, "_checked", lambda *arguments: opened.append(arguments) or decode(*arguments))
    tiling._frame.cache_clear()
    monkeypatch.setattr("isthmus.data.workers._WORTH_A_POOL", 10_000)  # all in this process: frames are counted

    out = go(raw, tmp_path / "out", tiles={"size": 20, "overlap": 6}, preprocess={"image_size": 20, "channels": 1})

    rows = manifest(out)
    assert len(rows) == 48 * 9
    assert rows.groupby("sha256").size().tolist() == [9] * 48
    for column in ("group", "split"):
        assert rows.groupby("sha256")[column].nunique().max() == 1
    source = rows[rows["domain"] == "line_a"]
    assert source.groupby("sha256")["label"].nunique().max() == 1
    assert (rows["height"] == 20).all()
    places = read_table(out / "locations.parquet", LOCATIONS).set_index("image_id")
    for image_id, array in arrays(out).items():
        path, part = places.loc[image_id, ["path", "part"]]
        top, left, *_ = map(int, part.partition("@")[2].split("-"))
        whole = np.asarray(Pillow.open(raw / path))
        assert np.array_equal(array[..., 0], whole[top : top + 20, left : left + 20])
    assert 48 <= len(opened) <= 48 * 2  # frame by frame: once to prepare, once to fit where the kind learns
    assert facts(out)["quarantine"] == []


def test_a_frame_smaller_than_a_tile_is_quarantined_and_the_run_goes_on(tmp_path: Path) -> None:
    raw = frames(tmp_path / "raw")
    Pillow.new("L", (12, 90)).save(raw / "line_a" / "good" / "strip.png")

    out = go(raw, tmp_path / "out", tiles={"size": 24}, preprocess={"image_size": 24, "channels": 1})

    bad = json.loads((out / "quarantine.json").read_text())
    assert [b["path"] for b in bad] == ["line_a/good/strip.png"]
    assert bad[0]["reason"].startswith("frame of 90 x 12 pixels is smaller than one tile of 24 x 24")
    assert len(manifest(out)) == 48 * 4


def test_a_tile_of_a_file_that_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Pillow.new("L", (40, 40)).save(path)

    with pytest.raises(DataError, match=r"^changed or gone since 'ingest' read it"):
        read_part(path, "@0-0-20-20", "0" * 64)


def test_scenes_of_a_satellite_are_tiled_in_metres_with_overlap_and_never_cross_a_split(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    rng = np.random.default_rng(0)
    for domain, gsd in (("line_a", 10), ("line_b", 5)):
        for name in CLASSES:
            (tmp_path / "raw" / domain / name).mkdir(parents=True)
            for number in range(12):
                side = 600 // gsd
                profile = {"driver": "GTiff", "height": side, "width": side, "count": 3, "dtype": "uint16"}
                place = rasterio.Affine(gsd, 0, 500_000 + 600 * number, 0, -gsd, 4_000_000)
                path = tmp_path / "raw" / domain / name / f"scene-{number:02d}.tif"
                with rasterio.open(path, "w", crs="EPSG:32633", transform=place, **profile) as scene:
                    scene.write(rng.integers(100, 3000, (3, side, side), dtype=np.uint16))

    out = go(
        tmp_path / "raw",
        tmp_path / "out",
        kind="remote_sensing",
        tiles={"size": 320, "overlap": 40, "unit": "m"},
        preprocess={"image_size": 32, "gsd": 10},
    )

    rows = manifest(out)
    assert rows.groupby("domain")["height"].unique().map(list).to_dict() == {"line_a": [32], "line_b": [64]}
    assert rows.groupby("sha256").size().tolist() == [4] * 48
    assert rows.groupby("sha256")["split"].nunique().max() == 1
    assert facts(out)["height"] == 32
