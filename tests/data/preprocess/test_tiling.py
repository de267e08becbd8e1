import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from isthmus.core.errors import ConfigError, DataError
from isthmus.core.files import sha256_file
from isthmus.data.bounds import DEFAULT, Bounds
from isthmus.data.formats import image_headers, tiff
from isthmus.data.image import Box, Image
from isthmus.data.manifest import LOCATIONS, read_table
from isthmus.data.preprocess import tiling
from isthmus.data.preprocess.tiling import boxes_of, images_in, read_part
from isthmus.data.readers import geotiff, reader_for
from isthmus.data.readers.image import FileReader as PictureReader
from isthmus.data.tiles import Tiles
from tests.raw_folders import CLASSES, scenario
from tests.stages.test_ingest import manifest
from tests.stages.test_prepare import arrays, facts, go


def frame(height: int, width: int, **stated: object) -> Image:
    pixels = np.arange(height * width, dtype=np.uint16).reshape(height, width, 1)
    return Image(pixels, "grey", dict(stated))


def boxes(image: Image, domain: str = "a", **tiles: object) -> list[str]:
    return ["-".join(map(str, box)) for box in boxes_of(image, Tiles.model_validate(tiles), domain, DEFAULT)]


def test_tiles_cover_the_frame_and_the_last_ones_end_with_it() -> None:
    image = frame(50, 70)

    parts = boxes_of(image, Tiles(size=30, overlap=10), "a", DEFAULT)

    assert boxes(image, size=30, overlap=10) == [f"{y}-{x}-30-30" for y in (0, 20) for x in (0, 20, 40)]
    assert boxes(frame(50, 65), size=30) == [f"{y}-{x}-30-30" for y in (0, 20) for x in (0, 30, 35)]
    seen = np.zeros((50, 70), bool)
    for top, left, height, width in parts:
        tile = image.cut(Box(top, left, height, width))
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

    tiles = [image.cut(box) for box in boxes_of(image, Tiles(size=2), "a", DEFAULT)]

    assert tiles[2].facts["bounds"] == [40.0, 20.0, 60.0, 40.0]
    assert tiles[2].valid is not None and tiles[2].valid.tolist() == [[True, False], [True, True]]
    assert image.facts["bounds"] == [0.0, 0.0, 60.0, 40.0]


@pytest.mark.parametrize(
    ("image", "tiles", "message"),
    [
        (frame(20, 50), {"size": 30}, r"frame of 20 x 50 pixels is smaller than one tile of 30 x 30 \('tiles\.size'"),
        (
            frame(200, 80),
            {"size": 1},
            r"16000 tiles in one frame; the limit is 10000\. Raise 'tiles\.size', or 'ingest",
        ),
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
        ({"size": 8, "scale": 0.5}, "a scale is the length of a pixel.*Set 'unit: mm'"),
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
    decode = PictureReader.frame
    monkeypatch.setattr(PictureReader, "frame", lambda *arguments: opened.append(arguments) or decode(*arguments))
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
    assert 48 * 2 <= len(opened) <= 48 * 3  # frame by frame: to ingest, to prepare, to fit where the kind learns
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

    with pytest.raises(DataError, match=r"^changed or missing since 'ingest' read it"):
        read_part(path, "@0-0-20-20", "0" * 64)


@pytest.mark.parametrize("part", ["@30-0-20-20", "@0-30-20-20", "@0-0-0-20"])
def test_a_tile_beyond_its_frame_is_refused(part: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Pillow.new("L", (40, 40)).save(path)

    with pytest.raises(DataError, match=r"lies outside its frame of 40 x 40 pixels"):
        read_part(path, part, sha256_file(path))


def test_a_file_is_hashed_once_for_all_of_its_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [Pillow.new("L", (8, 8), value) for value in range(6)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    sha256, hashed = sha256_file(tmp_path / "a.tif"), []
    monkeypatch.setattr(tiling, "sha256_file", lambda path: hashed.append(path) or sha256_file(path))
    tiling._sha256.cache_clear()

    values = [int(read_part(tmp_path / "a.tif", str(page), sha256).pixels[0, 0, 0]) for page in range(6)]

    assert values == list(range(6))
    assert len(hashed) == 1


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.indices((height, width))
    return np.stack([y, x, (y + x) // 2], axis=2).astype(np.uint8)


LARGE = {  # name -> what Pillow writes it with; each larger than the limit that the test sets
    "a.png": {},
    "a.jpg": {"quality": 95, "subsampling": 0},
    "a.bmp": {},
    "strips.tif": {"compression": "tiff_lzw"},
    "plain.tif": {},
    "wrong.png": {"format": "JPEG", "quality": 95, "subsampling": 0},
}


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("name", LARGE)
def test_a_frame_of_too_many_pixels_is_cut_window_by_window(
    name: str, orientation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rasterio")
    for module in (image_headers, tiff):
        monkeypatch.setattr(module, "LARGE", 5_000)
    upright, path, bounds = smooth(100, 130), tmp_path / name, Bounds(max_pixels=5_000)
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    stored = {1: upright, 3: upright[::-1, ::-1], 6: np.rot90(upright, 1)}[orientation]
    options = LARGE[name] | ({} if name == "a.bmp" else {"exif": exif})
    Pillow.fromarray(np.ascontiguousarray(stored)).save(path, **options)
    expected = stored if name == "a.bmp" else upright
    sha256, reader = sha256_file(path), reader_for(path)

    with pytest.raises(DataError, match=r"too many pixels \(.*= 13000\); the limit is 5000.*with 'tiles'"):
        reader.parts(path, bounds)
    cut = [(a, b, c) for a, b, c, _ in images_in(path, reader, bounds, Tiles(size=40, overlap=10), "a")]

    assert isinstance(reader, geotiff.FileReader)
    assert len(cut) == 12
    for _, part, tile in cut:
        top, left, height, width = map(int, part[1:].split("-"))
        wanted = expected[top : top + height, left : left + width]
        assert np.abs(tile.pixels.astype(int) - wanted).max() <= (3 if "quality" in LARGE[name] else 0)
        assert np.array_equal(read_part(path, part, sha256).pixels, tile.pixels)


def test_a_tile_of_too_many_pixels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"too many pixels \(80 x 80 = 6400\); the limit is 5000"):
        boxes_of(frame(100, 100), Tiles(size=80), "a", Bounds(max_pixels=5_000))


def test_a_long_scene_is_cut_into_tiles_larger_than_its_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rasterio = pytest.importorskip("rasterio")
    monkeypatch.setattr(geotiff, "LONGEST", 64)
    monkeypatch.setattr(geotiff, "WINDOW", 32)
    bands = np.random.default_rng(0).integers(0, 9000, (4, 100, 130), dtype=np.uint16)
    profile = {"driver": "GTiff", "height": 100, "width": 130, "count": 4, "dtype": "uint16"}
    place = rasterio.Affine(10, 0, 500_000, 0, -10, 4_000_000)
    with rasterio.open(tmp_path / "a.tif", "w", crs="EPSG:32633", transform=place, **profile) as scene:
        scene.write(bands)
    path = tmp_path / "a.tif"
    tiles = Tiles(size=600, overlap=100, unit="m")

    cut = [(a, b, c) for a, b, c, _ in images_in(path, reader_for(path), DEFAULT, tiles, "a")]

    assert [part for _, part, _ in cut] == [f"@{y}-{x}-60-60" for y in (0, 40) for x in (0, 50, 70)]
    assert np.array_equal(cut[4][2].pixels, np.moveaxis(bands[:, 40:100, 50:110], 0, -1))
    assert cut[4][2].facts["bounds"] == [500_500.0, 3_999_000.0, 501_100.0, 3_999_600.0]


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
