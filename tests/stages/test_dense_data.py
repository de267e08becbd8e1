"""Stages ingest and prepare on images with masks: what each file holds, and what is refused with which reason."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from isthmus.checks import _check_sample
from isthmus.core.errors import DataError
from isthmus.core.files import hash_files
from isthmus.data.bounds import Bounds
from isthmus.data.ingest.scan import scan
from isthmus.data.ingest.tables import IngestConfig
from isthmus.data.manifest import COMPANIONS, INDEX, LOCATIONS, read_table
from isthmus.data.preprocess import prepare as preparing
from isthmus.data.scenario import Scenario
from isthmus.data.shards import Rows
from isthmus.stages import ingest, prepare
from tests.dense_folders import dense, spot, write_dense
from tests.raw_folders import pixels
from tests.stages.test_ingest import outputs

EVEN: dict[str, object] = {
    "source": {"train": 0.4, "val": 0.2, "cal": 0.2, "test": 0.2},
    "target": {"train": 0.5, "test": 0.5},
}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_dense(tmp_path / "raw")


def take(raw: Path, out: Path, scenario: Scenario | None = None, **limits: float) -> Path:
    config = IngestConfig(**{"workers": 1, "near_duplicates": 0, "max_bad_share": 0.5, "splits": EVEN, **limits})
    ingest.run(ingest.Params(scenario=scenario or dense(), ingest=config, seed=0), raw=raw, **outputs(out))
    return out


def ready(raw: Path, out: Path, scenario: Scenario | None = None) -> Path:
    files = {name: out / f"{name}.parquet" for name in ("manifest", "locations", "companions")}
    folders = {name: out / name for name in ("checkpoints", "prepared", "masks_target")}
    prepare.run(prepare.Params(scenario=scenario or dense()), raw=raw, **files, **folders)
    return out


def both(raw: Path, out: Path, scenario: Scenario | None = None) -> Path:
    return ready(raw, take(raw, out, scenario), scenario)


def reasons(out: Path) -> dict[str, str]:
    return {bad["path"]: bad["reason"] for bad in json.loads((out / "quarantine.json").read_text())}


def audit(out: Path) -> dict:
    return json.loads((out / "audit.json").read_text())


def arrays(out: Path, folder: Path, domain: str) -> dict[str, np.ndarray]:
    """Returns path -> row of the images of a domain."""
    index = read_table(out / "prepared" / "index.parquet", INDEX)
    index = index[index["domain"] == domain].reset_index(drop=True)
    places = read_table(out / "locations.parquet", LOCATIONS)
    names = dict(zip(places["image_id"], places["path"] + places["part"], strict=True))
    rows = Rows(folder, index).take(np.arange(len(index)))
    return {names[i]: row for i, row in zip(index["image_id"], rows, strict=True)}


def drawn(raw: Path, path: str) -> np.ndarray:
    """Returns the mask of an image as classes."""
    return (np.asarray(Image.open(raw / path.replace("images", "masks"))) == 200).astype(np.uint8)


def masks(out: Path, domain: str) -> dict[str, np.ndarray]:
    return arrays(out, out / "prepared" / "masks" if domain == "one" else out / "masks_target", domain)


@pytest.mark.parametrize("table", [False, True])
def test_masks_lie_beside_the_shards_and_those_of_the_target_in_a_folder_of_their_own(
    table: bool, tmp_path: Path
) -> None:
    raw = write_dense(tmp_path / "raw", table=table)

    out = both(raw, tmp_path / "out", dense(target_labels="table" if table else "folders"))

    for domain in ("one", "two"):
        found = masks(out, domain)
        assert len(found) == 32
        assert all(np.array_equal(mask, drawn(raw, path)) for path, mask in found.items())
    assert [p.name for p in (out / "prepared" / "masks").iterdir()] == ["domain0-all.npy"]
    assert [p.name for p in (out / "masks_target").iterdir()] == ["domain1-all.npy"]
    assert reasons(out) == {}
    assert audit(out)["files_not_in_table"] == 0
    assert audit(out)["mask_pixels"] == {"one": {"ground": 32 * (400 - 64), "spot": 32 * 64}}
    assert json.loads((out / "prepared" / "facts.json").read_text())["task"] == "segmentation"


def test_without_target_labels_no_pixel_of_the_target_is_scored(raw: Path, tmp_path: Path) -> None:
    shutil.rmtree(raw / "two" / "masks")

    out = both(raw, tmp_path / "out", dense(target_labels="none"))

    assert all((mask == 255).all() for mask in masks(out, "two").values())
    assert reasons(out) == {}


def test_exchanging_the_targets_masks_changes_companions_and_masks_target_alone(raw: Path, tmp_path: Path) -> None:
    Image.fromarray(spot(np.random.default_rng(5), 30, 20)).save(raw / "two" / "masks" / "003.png")  # fits no image
    Image.fromarray(np.full((20, 20), 7, np.uint8)).save(raw / "two" / "masks" / "004.png")
    before = both(raw, tmp_path / "before")
    paths = sorted((raw / "two" / "masks").iterdir())
    held = [path.read_bytes() for path in paths]
    for path, data in zip(paths, held[1:] + held[:1], strict=True):
        path.write_bytes(data)

    after = both(raw, tmp_path / "after")

    names = [p.relative_to(before) for p in before.rglob("*") if p.is_file()]
    changed = {str(n) for n in names if (before / n).read_bytes() != (after / n).read_bytes()}
    assert changed == {"companions.parquet", "masks_target/domain1-all.npy", "quarantine.json"}
    assert len(reasons(after)) == 2


BROKEN = {
    "size": (lambda p: Image.new("L", (20, 30)).save(p), r"mask is 30 x 20 pixels, its image 20 x 20\.$"),
    "value": (lambda p: Image.new("L", (20, 20), 9).save(p), r"mask has the values 9, which are no class\. Allowed: 0"),
    "jpeg": (lambda p: Image.new("L", (20, 20)).save(p, "JPEG"), "mask is a JPEG"),
    "text": (lambda p: p.write_text("words"), "its mask: content is text, not an image"),
    "gone": (lambda p: p.unlink(), r"no file of its name lies in 'masks'"),
    "twice": (lambda p: shutil.copy(p, p.with_suffix(".tif")), r"2 files in 'masks' have its name: keep one of them"),
    "pages": (
        lambda p: Image.new("L", (20, 20)).save(p, "TIFF", save_all=True, append_images=[Image.new("L", (20, 20))]),
        r"its mask is read as 2 images and its own file as 1 \(pages, slices, windows\)",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_mask_removes_its_image_from_the_source_and_its_score_from_the_target(
    case: str, raw: Path, tmp_path: Path
) -> None:
    change, reason = BROKEN[case]
    for domain in ("one", "two"):
        change(raw / domain / "masks" / "005.png")

    out = both(raw, tmp_path / "out")

    told = reasons(out)
    assert set(told) == {"one/images/005.png", "two/images/005.png"}
    assert all(re.search(reason, why) for why in told.values())
    assert told["two/images/005.png"].startswith("is used without its mask: ")
    assert len(masks(out, "one")) == 31
    found = masks(out, "two")
    assert len(found) == 32
    assert (found.pop("two/images/005.png") == 255).all()
    assert all(np.array_equal(mask, drawn(raw, path)) for path, mask in found.items())
    assert audit(out)["bad_by_domain"] == {"one": 1}


@pytest.mark.parametrize("mask", ["mask", "gone.png", ""])
def test_a_table_may_leave_masks_out_in_the_target_and_names_what_is_not_there(mask: str, tmp_path: Path) -> None:
    raw = write_dense(tmp_path / "raw", table=True)
    table = pd.read_csv(raw / "images.csv")
    if mask != "mask":
        table.loc[table["path"] == "two/images/002.png", "mask"] = mask
    table.to_csv(raw / "images.csv", index=False)

    out = both(raw, tmp_path / "out", dense(target_labels="table"))

    assert (masks(out, "two")["two/images/002.png"] == 255).all() == (mask != "mask")
    why = "is used without its mask: its mask: named in images.csv but not there"
    assert reasons(out) == ({"two/images/002.png": why} if mask == "gone.png" else {})


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("mask", "", r"line 2: mask of one/a/000\.png is empty\. Every source image needs one"),
        ("mask", "../m.png", r"line 2: mask '\.\./m\.png' leaves the raw folder"),
        ("image_b", "", r"line 2: image_b of one/a/000\.png is empty\. Every example needs a second image"),
        ("image_b", "/b.png", r"line 2: image_b '/b\.png' leaves the raw folder"),
    ],
)
def test_what_a_table_must_say_of_files_beside_its_images(
    column: str, value: str, message: str, tmp_path: Path
) -> None:
    raw = write_dense(tmp_path / "raw", change=True, table=True)
    table = pd.read_csv(raw / "images.csv")
    table.loc[0, column] = value
    table.to_csv(raw / "images.csv", index=False)

    with pytest.raises(DataError, match=message):
        take(raw, tmp_path / "out", dense(task="change", target_labels="table"))


def test_a_table_without_the_columns_of_the_task_is_refused(tmp_path: Path) -> None:
    raw = write_dense(tmp_path / "raw", table=True)

    with pytest.raises(DataError, match=r"images\.csv: column image_b is missing\. There are: path, domain, mask"):
        take(raw, tmp_path / "out", dense(task="change", target_labels="table"))


def test_a_domain_without_the_folders_of_the_task_is_refused(raw: Path, tmp_path: Path) -> None:
    (raw / "one" / "masks").rename(raw / "one" / "labels")

    with pytest.raises(DataError, match=r"one: no folder masks, which task segmentation needs"):
        take(raw, tmp_path / "out")
    with pytest.raises(DataError, match=r"two: no folder a, b, which task change needs"):
        take(raw, tmp_path / "out", dense(task="change"))


def test_files_that_belong_to_no_image_are_in_quarantine(raw: Path, tmp_path: Path) -> None:
    shutil.copy(raw / "one" / "masks" / "000.png", raw / "one" / "masks" / "extra.png")
    shutil.copy(raw / "one" / "images" / "000.png", raw / "one" / "loose.png")
    shutil.copy(raw / "one" / "images" / "000.png", raw / "one" / "images" / "000.bmp")

    out = take(raw, tmp_path / "out")

    assert reasons(out) == {
        "one/masks/extra.png": "no image of its name lies in 'images'",
        "one/loose.png": "lies in none of the folders of this task. Allowed: one/images/, one/masks/",
        "one/images/000.png": "2 files in 'images' have one name: keep one of them",
        "one/images/000.bmp": "2 files in 'images' have one name: keep one of them",
    }


def test_a_photo_that_exif_turns_needs_a_mask_that_is_turned_too(raw: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = np.random.default_rng(2).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    for name in ("one/images/000", "one/images/001"):
        Image.fromarray(photo + int(name[-1])).save(raw / f"{name}.png", exif=exif)
    Image.fromarray(spot(np.random.default_rng(0), 20, 30)).save(raw / "one/masks/000.png")
    Image.fromarray(spot(np.random.default_rng(0), 20, 30)).save(raw / "one/masks/001.png", exif=exif)

    out = take(raw, tmp_path / "out")

    assert list(reasons(out)) == ["one/images/000.png"]
    assert "The sides are exchanged: the image may be turned by its EXIF tag" in reasons(out)["one/images/000.png"]


def test_identical_images_with_two_masks_leave_the_source_and_are_not_scored_in_the_target(
    raw: Path, tmp_path: Path
) -> None:
    for domain in ("one", "two"):
        shutil.copy(raw / domain / "images" / "000.png", raw / domain / "images" / "001.png")
        shutil.copy(raw / domain / "images" / "002.png", raw / domain / "images" / "003.png")
        shutil.copy(raw / domain / "masks" / "002.png", raw / domain / "masks" / "003.png")
    (raw / "two" / "masks" / "002.png").unlink()

    out = both(raw, tmp_path / "out")

    told = reasons(out)
    assert {path: told[path] for path in told if path.startswith("one")} == {
        f"one/images/00{k}.png": "identical files have 2 different masks" for k in (0, 1)
    }
    assert told["two/images/000.png"] == "is used without its mask: identical files have 2 different masks"
    assert len(masks(out, "one")) == 29
    found = masks(out, "two")
    assert len(found) == 30
    assert [path for path, mask in found.items() if (mask == 255).all()] == ["two/images/000.png"]
    assert np.array_equal(found["two/images/002.png"], drawn(raw, "two/images/003.png"))


def test_a_class_without_a_pixel_in_the_sources_training_masks_stops_the_run(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"no pixel of class rim in the masks of the source's training images\. The values are read as 0 ground,"
        r" 200 spot, 9 rim; not scored: 255\. Correct 'annotations\.values'",
    ):
        take(raw, tmp_path / "out", dense(classes=["ground", "spot", "rim"], annotations={"values": [0, 200, 9]}))


@pytest.mark.parametrize("table", [False, True])
def test_two_dates_are_channels_of_one_array(table: bool, tmp_path: Path) -> None:
    raw = write_dense(tmp_path / "raw", change=True, table=table)
    scenario = dense(task="change", target_labels="table" if table else "folders")

    out = both(raw, tmp_path / "out", scenario)

    for domain in ("one", "two"):
        for path, array in arrays(out, out / "prepared" / "shards", domain).items():
            assert np.array_equal(array[..., :3], np.asarray(Image.open(raw / path)))
            assert np.array_equal(array[..., 3:], np.asarray(Image.open(raw / path.replace("/a/", "/b/"))))
            assert np.array_equal(masks(out, domain)[path], drawn(raw, path.replace("/a/", "/images/")))
    assert reasons(out) == {}
    assert read_table(out / "companions.parquet", COMPANIONS)["second"].str.contains("/b/").all()


SECOND = {
    "size": (lambda p: Image.new("RGB", (20, 30)).save(p), r"second image is 30 x 20 pixels, the first 20 x 20\."),
    "channels": (lambda p: Image.new("L", (20, 20)).save(p), r"second image has 20 x 20 x 1 pixels and channels, the"),
    "gone": (lambda p: p.unlink(), r"no file of its name lies in 'b'"),
    "empty": (lambda p: p.write_bytes(b""), r"its second image: file is empty"),
}


@pytest.mark.parametrize("case", SECOND)
def test_a_second_image_that_does_not_fit_removes_its_example(case: str, tmp_path: Path) -> None:
    raw = write_dense(tmp_path / "raw", change=True)
    change, reason = SECOND[case]
    for domain in ("one", "two"):
        change(raw / domain / "b" / "004.png")

    told = reasons(take(raw, tmp_path / "out", dense(task="change")))

    assert set(told) == {"one/a/004.png", "two/a/004.png"}
    assert all(re.search(reason, why) for why in told.values())


def test_one_first_image_with_two_second_ones_is_refused_in_both_domains(tmp_path: Path) -> None:
    raw = write_dense(tmp_path / "raw", change=True)
    for domain in ("one", "two"):
        shutil.copy(raw / domain / "a" / "000.png", raw / domain / "a" / "001.png")
        shutil.copy(raw / domain / "masks" / "000.png", raw / domain / "masks" / "001.png")

    told = reasons(take(raw, tmp_path / "out", dense(task="change")))

    assert told == {
        f"{domain}/a/00{k}.png": "identical files have 2 different second images"
        for domain in ("one", "two")
        for k in (0, 1)
    }


@pytest.mark.parametrize("beside", ["masks/000.png", "b/000.png"])
def test_a_file_beside_an_image_that_changed_since_ingest_stops_the_run(beside: str, tmp_path: Path) -> None:
    raw, scenario = write_dense(tmp_path / "raw", change=True), dense(task="change")
    out = take(raw, tmp_path / "out", scenario)
    shutil.copy(raw / "one" / beside.replace("000", "001"), raw / "one" / beside)

    with pytest.raises(DataError, match=rf"one/{beside}: changed or missing since 'ingest' read it\. Run 'dvc repro'"):
        ready(raw, out, scenario)


def test_refused_images_leave_the_masks_as_if_they_had_never_been_there(raw: Path, tmp_path: Path) -> None:
    industrial = dense(kind="industrial", preprocess={"image_size": 20, "roi": [0, 0, 20, 20]})
    plain = both(raw, tmp_path / "plain", industrial)
    for domain in ("one", "two"):
        Image.new("L", (8, 8)).save(raw / domain / "images" / "small.png")
        Image.new("L", (8, 8)).save(raw / domain / "masks" / "small.png")

    out = both(raw, tmp_path / "out", industrial)

    for name in ("prepared/masks/domain0-all.npy", "prepared/shards/domain0-all.npy", "masks_target/domain1-all.npy"):
        assert (out / name).read_bytes() == (plain / name).read_bytes()
    assert len(json.loads((out / "prepared" / "facts.json").read_text())["quarantine"]) == 2


def test_a_run_that_was_cut_off_ends_in_the_same_masks(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = both(raw, tmp_path / "whole"), take(raw, tmp_path / "out")
    row, count = preparing._row, []

    def fails(*given: object) -> object:
        count.append(1)
        if len(count) == 15:
            raise KeyboardInterrupt
        return row(*given)

    monkeypatch.setattr(preparing.Progress, "step", lambda self: setattr(self, "done", self.done + 1) or True)
    monkeypatch.setattr(preparing, "_row", fails)
    with pytest.raises(KeyboardInterrupt):
        ready(raw, out)

    ready(raw, out)

    assert 64 < len(count) < 15 + 64
    assert hash_files([out / "prepared"]) == hash_files([whole / "prepared"])
    assert hash_files([out / "masks_target"]) == hash_files([whole / "masks_target"])


def test_tiles_and_their_masks_are_cut_alike_and_blocks_are_groups(tmp_path: Path) -> None:
    raw, rng = tmp_path / "raw", np.random.default_rng(1)
    for domain in ("one", "two"):
        for name in ("images", "masks"):
            (raw / domain / name).mkdir(parents=True)
        Image.fromarray(pixels(rng, 330)[:110]).save(raw / domain / "images" / "scene.png")
        mask = (rng.random((110, 330)) < 0.5).astype(np.uint8) * 200
        Image.fromarray(mask).save(raw / domain / "masks" / "scene.png")
    scenario = dense(tiles={"size": 20, "blocks": 16})

    out = both(raw, tmp_path / "out", scenario)

    for domain in ("one", "two"):
        whole = drawn(raw, f"{domain}/images/scene.png")
        found = masks(out, domain)
        assert len(found) == 6 * (6 + 2 * 10)  # ten strips of 21 pixels need a second tile
        for path, mask in found.items():
            top, left = map(int, path.partition("@")[2].split("-")[:2])
            assert np.array_equal(mask, whole[top : top + 20, left : left + 20])
    table = pd.read_parquet(out / "manifest.parquet")
    left = table["part"].str.split("-").str[1].astype(int)
    block = [max(k for k in range(16) if k * 330 // 16 <= place) for place in left]
    assert all(place + 20 <= (b + 1) * 330 // 16 for place, b in zip(left, block, strict=True))
    assert (table.assign(block=block).groupby(["domain", "block"])["group"].nunique() == 1).all()
    assert table["group"].nunique() == 32


@pytest.mark.parametrize("kept", [None, {"every": 2}])
def test_slices_of_a_volume_have_the_masks_of_their_places(kept: dict[str, int] | None, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    raw, rng, places = tmp_path / "raw", np.random.default_rng(0), np.diag([1, 1, 5, 1])
    for domain in ("one", "two"):
        for name in ("images", "masks"):
            (raw / domain / name).mkdir(parents=True)
        for number in range(16):
            values = rng.normal(100, 20, (20, 20, 5)).astype(np.float32)
            values[..., :] += np.arange(5) * 50
            voxels = np.zeros((20, 20, 5), np.uint8)
            for z in range(5):
                voxels[: z + 2, 3:9, z] = 200
            nibabel.Nifti1Image(values, places).to_filename(raw / domain / "images" / f"{number}.nii.gz")
            nibabel.Nifti1Image(voxels, places).to_filename(raw / domain / "masks" / f"{number}.nii.gz")

    out = both(raw, tmp_path / "out", dense(kind="medical", volumes=kept, preprocess={"image_size": 20, "channels": 1}))

    found = masks(out, "one")
    assert len(found) == 16 * (5 if kept is None else 3)
    assert all((mask == 1).sum() == 6 * (int(path[-1]) + 2) for path, mask in found.items())
    assert reasons(out) == {}


def test_no_reason_of_a_medical_scenario_names_a_file(raw: Path, tmp_path: Path) -> None:
    for domain in ("one", "two"):
        for folder, number in (("images", "001"), ("masks", "002"), ("masks", "001")):
            path = raw / domain / folder / f"{number}.png"
            path.rename(path.with_name(f"MUELLER_{number}.png"))
        (raw / domain / "masks" / "MUELLER_001.png").write_text("MUELLER")

    out = take(raw, tmp_path / "out", dense(kind="medical", preprocess={"image_size": 20}))

    assert len(reasons(out)) == 6
    assert "MUELLER" not in (out / "quarantine.json").read_text() + (out / "audit.json").read_text()


def test_check_refuses_a_domain_of_whose_masks_none_can_be_used(raw: Path) -> None:
    scenario = dense()
    for domain in ("one", "two"):
        _check_sample(raw, scenario, scan(raw, scenario), domain, None, Bounds())

    for domain in ("one", "two"):
        for path in (raw / domain / "masks").iterdir():
            Image.new("L", (20, 20), 9).save(path)

    seen = scan(raw, scenario)
    with pytest.raises(
        DataError, match=r"'one': none of 3 images that were tried can be used: .*mask has the values 9"
    ):
        _check_sample(raw, scenario, seen, "one", None, Bounds())
    with pytest.raises(DataError, match=r"'two': none of 3 masks that were tried can be used: .*'target_labels: none'"):
        _check_sample(raw, scenario, seen, "two", None, Bounds())


def test_check_takes_a_target_of_which_a_few_images_have_masks(raw: Path) -> None:
    for path in sorted((raw / "two" / "masks").iterdir())[2:]:
        path.unlink()
    scenario = dense()

    _check_sample(raw, scenario, scan(raw, scenario), "two", None, Bounds())
    for path in (raw / "two" / "masks").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="none of 3 masks that were tried can be used"):
        _check_sample(raw, scenario, scan(raw, scenario), "two", None, Bounds())


def test_a_mask_may_be_called_like_its_image_and_mask(raw: Path, tmp_path: Path) -> None:
    plain = both(raw, tmp_path / "plain")
    for domain in ("one", "two"):
        for path in sorted((raw / domain / "masks").iterdir()):
            path.rename(path.with_name(f"{path.stem}_mask.png"))

    named = both(raw, tmp_path / "named")

    assert reasons(named) == {}
    assert (named / "manifest.parquet").read_bytes() == (plain / "manifest.parquet").read_bytes()
    for shard in (plain / "masks_target").glob("*.npy"):
        assert (named / "masks_target" / shard.name).read_bytes() == shard.read_bytes()
