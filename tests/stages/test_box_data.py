"""Stages ingest and prepare on images with boxes: what each file holds, and what is refused with which reason."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from isthmus.checks import _check_sample
from isthmus.core.errors import DataError
from isthmus.data.bounds import Bounds
from isthmus.data.ingest.scan import scan
from isthmus.data.manifest import BOXES, LOCATIONS, read_table
from isthmus.data.scenario import Scenario
from tests.dense_folders import dense
from tests.raw_folders import pixels
from tests.stages.test_dense_data import both, reasons, take

EACH, SIDE = 12, 20
NAMES = [f"{number:03d}" for number in range(EACH)]


def boxed(**changes: object) -> Scenario:
    return dense(**{"task": "detection", "annotations": {"numbers": ["spot"]}, **changes})


def box(number: int) -> tuple[int, int, int, int]:
    """Returns x, y, width and height of the box of an image; the last image shows none."""
    return (number % 5, number % 3, 8, 10 + number % 4)


def coco(names: list[str], boxes: list[tuple[int, int, int, int]]) -> dict:
    images = [{"id": n, "file_name": f"{name}.png", "width": SIDE, "height": SIDE} for n, name in enumerate(names)]
    annotations = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": list(boxes[n])} for n in range(len(names)) if n < EACH - 1
    ]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "spot"}]}


def write(folder: Path, form: str = "coco", table: str = "") -> Path:
    """Writes images of both domains with boxes in a form; with a table `column` or `one file` beside it."""
    rng = np.random.default_rng(0)
    rows = []
    for domain in ("one", "two"):
        (folder / domain / "images").mkdir(parents=True)
        for name in NAMES:
            Image.fromarray(pixels(rng)).save(folder / domain / "images" / f"{name}.png")
            rows.append({"path": f"{domain}/images/{name}.png", "domain": domain, "boxes": f"boxes_{domain}.json"})
        boxes = [box(number) for number in range(EACH)]
        if form == "coco":
            place = folder / f"boxes_{domain}.json" if table else folder / domain / "boxes.json"
            place.write_text(json.dumps(coco(NAMES, boxes)))
        for number, (x, y, w, h) in enumerate(boxes):
            if form == "voc":
                sides = f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax>"
                thing = f"<object><name>spot</name><bndbox>{sides}</bndbox></object>" if number < EACH - 1 else ""
                save(folder / domain / "annotations" / f"{NAMES[number]}.xml", f"<annotation>{thing}</annotation>")
            if form == "yolo":
                line = f"0 {(x + w / 2) / SIDE} {(y + h / 2) / SIDE} {w / SIDE} {h / SIDE}\n"
                save(folder / domain / "labels" / f"{NAMES[number]}.txt", line if number < EACH - 1 else "")
    if table == "one file":
        parts = [coco(NAMES, [box(number) for number in range(EACH)]) for _ in range(2)]
        for domain, part, add in zip(("one", "two"), parts, (0, EACH), strict=True):
            for image in part["images"]:
                image |= {"file_name": f"{domain}/images/{image['file_name']}", "id": image["id"] + add}
            for line in part["annotations"]:
                line["image_id"] += add
        merged = {key: parts[0][key] + parts[1][key] for key in ("images", "annotations")}
        save(folder / "annotations.json", json.dumps(merged | {"categories": parts[0]["categories"]}))
    if table:
        drop = ["boxes"] if table == "one file" else []
        pd.DataFrame(rows).drop(columns=drop).to_csv(folder / "images.csv", index=False)
    return folder


def save(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def found(out: Path, folder: str) -> dict[str, list]:
    """Returns path -> boxes of the annotated images of `prepared` or `masks_target`."""
    paths = read_table(out / "locations.parquet", LOCATIONS).set_index("image_id")["path"]
    table = read_table(out / folder / "boxes.parquet", BOXES)
    return {paths[i]: json.loads(text) for i, text in zip(table["image_id"], table["boxes"], strict=True)}


def expected(domain: str) -> dict[str, list]:
    boxes = {}
    for number, name in enumerate(NAMES):
        x, y, w, h = box(number)
        boxes[f"{domain}/images/{name}.png"] = [[1, x, y, x + w, y + h]] if number < EACH - 1 else []
    return boxes


@pytest.mark.parametrize(
    ("form", "table"), [("coco", ""), ("voc", ""), ("yolo", ""), ("coco", "column"), ("coco", "one file")]
)
def test_boxes_of_every_form_lie_beside_the_shards_and_those_of_the_target_apart(
    form: str, table: str, tmp_path: Path
) -> None:
    raw = write(tmp_path / "raw", form, table)

    out = both(raw, tmp_path / "out", boxed(target_labels="table" if table else "folders"))

    assert found(out, "prepared") == expected("one")
    assert found(out, "masks_target") == expected("two")
    assert reasons(out) == {}
    audit = json.loads((out / "audit.json").read_text())
    assert audit["boxes"] == {"one": {"spot": EACH - 1}} and audit["beside"] == {}
    assert not (out / "prepared" / "masks").exists()


@pytest.mark.parametrize("form", ["coco", "voc", "yolo"])
def test_capital_suffixes_and_accents_that_are_written_apart_change_nothing(form: str, tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", form)
    for path in sorted(raw.rglob("*.json" if form == "coco" else "*.*")):
        start = "" if form == "coco" else "e\u0301"
        path.rename(path.with_name(f"{start}{path.stem}{path.suffix.upper()}"))
    (raw / "one").rename(raw / "e\u0301in")

    out = both(raw, tmp_path / "out", boxed(source=["\u00e9in"]))

    assert sorted(found(out, "masks_target").values()) == sorted(expected("two").values())
    assert reasons(out) == {}


def test_without_target_labels_the_targets_boxes_are_not_looked_at(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw")
    (raw / "two" / "boxes.json").write_text("no JSON")

    out = both(raw, tmp_path / "out", boxed(target_labels="none"))

    assert found(out, "masks_target") == {} and reasons(out) == {}


def test_exchanging_the_targets_boxes_changes_companions_and_masks_target_alone(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw")
    document = json.loads((raw / "two" / "boxes.json").read_text())
    document["annotations"][3]["bbox"] = [2, 2, 90, 4]  # outside of its image
    document["annotations"].append({"id": 99, "image_id": 99, "category_id": 1, "bbox": [1, 1, 2, 2]})
    (raw / "two" / "boxes.json").write_text(json.dumps(document))
    before = both(raw, tmp_path / "before", boxed())
    for line in document["annotations"]:
        line["image_id"] = (line["image_id"] + 1) % EACH  # the lost one finds an image
    (raw / "two" / "boxes.json").write_text(json.dumps(document))

    after = both(raw, tmp_path / "after", boxed())

    names = [p.relative_to(before) for p in before.rglob("*") if p.is_file()]
    changed = {str(n) for n in names if (before / n).read_bytes() != (after / n).read_bytes()}
    assert changed == {"companions.parquet", "masks_target/boxes.parquet", "quarantine.json"}
    assert set(reasons(before)) == {"two/images/003.png", "two/boxes.json"}
    assert set(reasons(after)) == {"two/images/004.png"}


def test_an_image_with_wrong_boxes_leaves_the_source_and_stays_in_the_target_without_them(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw")
    for domain in ("one", "two"):
        document = json.loads((raw / domain / "boxes.json").read_text())
        document["annotations"][5]["bbox"] = [2, 2, 90, 4]
        document["images"] = [image for image in document["images"] if image["id"] != 2]
        document["images"].append({"id": 77, "file_name": "elsewhere.png", "width": 9, "height": 9})
        (raw / domain / "boxes.json").write_text(json.dumps(document))

    out = both(raw, tmp_path / "out", boxed())

    outside, unlisted = r"box 1 \(spot\): left, top, right, bottom 2, 2, 92, 6: lies outside", "have no entry of this"
    for domain, before in (("one", "^"), ("two", "^is used without its boxes: ")):
        told = {path: why for path, why in reasons(out).items() if path.startswith(domain)}
        assert set(told) == {f"{domain}/boxes.json", f"{domain}/images/002.png", f"{domain}/images/005.png"}
        assert re.search(f"{before}.*{outside}", told[f"{domain}/images/005.png"])
        assert re.search(f"{before}.*{unlisted}", told[f"{domain}/images/002.png"])
    assert len(found(out, "prepared")) == len(found(out, "masks_target")) == EACH - 2
    rows = [
        bad["reason"] for bad in json.loads((out / "quarantine.json").read_text()) if bad["path"] == "one/boxes.json"
    ]
    lost = "holds 1 annotations of images that it does not list"
    assert rows == [lost, "lists 1 images that are not there (first: elsewhere.png)"]
    assert json.loads((out / "audit.json").read_text())["bad_by_domain"]["one"] == 4


@pytest.mark.parametrize(
    ("form", "change", "reason"),
    [
        (
            "voc",
            lambda d: (d / "annotations" / "004.xml").unlink(),
            "no file has its boxes: neither a COCO file beside",
        ),
        ("voc", lambda d: save(d / "labels" / "004.txt", ""), "2 files have its boxes: keep one of them"),
        ("yolo", lambda d: (d / "labels" / "004.txt").write_text("7 .5 .5 .1 .1"), "class number 7 is not known"),
        ("coco", lambda d: _turned(d / "images" / "004.png"), "does not show whether its boxes are turned too"),
        ("coco", lambda d: _pages(d / "images" / "004.png"), "its file holds 2 images, and boxes belong to one"),
    ],
)
def test_what_is_wrong_with_the_file_of_the_boxes_is_the_reason(
    form: str, change: object, reason: str, tmp_path: Path
) -> None:
    raw = write(tmp_path / "raw", form)
    for domain in ("one", "two"):
        change(raw / domain)  # type: ignore[operator]

    out = both(raw, tmp_path / "out", boxed())

    told = reasons(out)
    assert set(told) == {"one/images/004.png", "two/images/004.png"}
    assert all(reason in why for why in told.values())
    assert told["two/images/004.png"].startswith("is used without its boxes: ")


def _turned(path: Path) -> None:
    with Image.open(path) as image:
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(path, exif=exif)


def _pages(path: Path) -> None:
    with Image.open(path) as image:
        image.save(path, "TIFF", save_all=True, append_images=[image.copy()])


def test_files_of_boxes_without_an_image_and_images_elsewhere_are_in_quarantine(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", "yolo")
    save(raw / "one" / "labels" / "zzz.txt", "")
    Image.fromarray(pixels(np.random.default_rng(1))).save(raw / "one" / "loose.png")

    told = reasons(take(raw, tmp_path / "out", boxed()))

    assert told["one/labels/zzz.txt"] == "no image of its name lies in 'images'"
    assert told["one/loose.png"] == "lies outside of one/images/, where the images of this task lie"


def test_boxes_are_cut_as_tiles_are(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw")

    out = both(raw, tmp_path / "out", boxed(tiles={"size": 10}, preprocess={"image_size": 20, "channels": 3}))

    places = read_table(out / "locations.parquet", LOCATIONS)
    here = places[(places["path"] == "one/images/000.png")].set_index("part")["image_id"]
    texts = read_table(out / "prepared" / "boxes.parquet", BOXES).set_index("image_id")["boxes"]
    assert json.loads(texts[here["@0-0-10-10"]]) == [[1, 0, 0, 16, 20]]  # 8 x 10 pixels, at twice the size
    assert json.loads(texts[here["@0-10-10-10"]]) == []
    assert len(texts) == 4 * EACH


def test_identical_images_with_two_annotations_are_not_trained_on_and_not_scored(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw")
    for domain in ("one", "two"):
        (raw / domain / "images" / "001.png").write_bytes((raw / domain / "images" / "000.png").read_bytes())

    out = both(raw, tmp_path / "out", boxed())

    told = reasons(out)
    assert told["one/images/000.png"].startswith("identical files have 2 different boxes")
    assert told["two/images/000.png"] == "is used without its boxes: identical files have 2 different boxes"
    assert not {"two/images/000.png", "two/images/001.png"} & set(found(out, "masks_target"))


def test_a_class_without_a_box_and_a_domain_without_images_stop_the_run(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw")

    with pytest.raises(DataError, match="no box of class seed in the source's training images. The first of 'classes'"):
        take(raw, tmp_path / "out", boxed(classes=["ground", "spot", "seed"]))
    (raw / "two" / "images").rename(raw / "two" / "pictures")
    with pytest.raises(DataError, match="two: no folder images, which task detection needs"):
        take(raw, tmp_path / "out", boxed())


def test_a_table_must_name_the_boxes_of_every_source_image(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw", table="column")
    table = pd.read_csv(raw / "images.csv")
    table.loc[0, "boxes"] = ""
    table.to_csv(raw / "images.csv", index=False)

    with pytest.raises(DataError, match=r"line 2: boxes of one/images/000\.png is empty\. Every source image needs"):
        take(raw, tmp_path / "out", boxed(target_labels="table"))
    table.drop(columns="boxes").to_csv(raw / "images.csv", index=False)
    with pytest.raises(DataError, match="column boxes is missing"):
        take(raw, tmp_path / "out", boxed(target_labels="table"))


def test_check_tells_where_no_box_of_the_target_can_be_used(tmp_path: Path) -> None:
    raw = write(tmp_path / "raw")
    (raw / "two" / "boxes.json").write_text("no JSON")

    seen = scan(raw, boxed())

    with pytest.raises(DataError, match="domain 'two': none of .* boxes that were tried can be used: .* are not JSON"):
        _check_sample(raw, boxed(), seen, "two", None, Bounds())
