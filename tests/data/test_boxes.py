"""Boxes: what files say of them, what is refused and with which reason, and how they are laid on cells and back."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isthmus.core.errors import DataError
from isthmus.data.boxes import (
    BoxConfig,
    Written,
    as_text,
    cell_extents,
    cell_labels,
    corners,
    cut,
    from_text,
    prepared_boxes,
    source_extents,
    source_labels,
)
from isthmus.data.formats.box_files import read_boxes, read_coco
from tests.raw_folders import scenario

CLASSES = ["background", "cell", "seed"]
ONE = {"id": 1, "file_name": "a.png", "width": 40, "height": 30}
CELL = {"id": 1, "image_id": 1, "category_id": 5, "bbox": [2, 3, 10, 20]}
CATEGORIES = [{"id": 5, "name": "cell"}, {"id": 9, "name": "seed"}]


def coco(folder: Path, *, images: object = (ONE,), annotations: object = (CELL,), **parts: object) -> Path:
    path = folder / "annotations.json"
    whole = {"images": list(images), "annotations": list(annotations), "categories": CATEGORIES, **parts}
    path.write_text(json.dumps(whole))
    return path


def voc(folder: Path, inside: str, size: str = "<size><width>40</width><height>30</height></size>") -> Path:
    path = folder / "a.xml"
    path.write_text(f"<annotation>{size}{inside}</annotation>")
    return path


def thing(name: str, *box: object) -> str:
    sides = "".join(f"<{s}>{v}</{s}>" for s, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name><bndbox>{sides}</bndbox></object>"


def yolo(folder: Path, text: str) -> Path:
    path = folder / "a.txt"
    path.write_text(text)
    return path


def marked(
    path: Path, config: BoxConfig | None = None, *, image: str = "one/images/a.png", turned: bool = False
) -> list:
    read = (config or BoxConfig(numbers=("cell", "seed"))).marked(read_boxes(path, image), 30, 40, turned, CLASSES)
    return read.tolist()


def test_the_three_forms_give_the_same_boxes(tmp_path: Path) -> None:
    expected = [[1, 2, 3, 12, 23]]

    assert marked(coco(tmp_path)) == expected
    assert marked(voc(tmp_path, thing("cell", 3, 4, 12, 23))) == expected  # pixels from 1, the last one inside
    assert np.allclose(marked(yolo(tmp_path, f"0 {7 / 40} {13 / 30} {10 / 40} {20 / 30}\n\n")), expected)


def test_an_image_without_an_object_has_an_empty_entry(tmp_path: Path) -> None:
    assert marked(coco(tmp_path, annotations=[])) == []
    assert marked(voc(tmp_path, "")) == []
    assert marked(yolo(tmp_path, "")) == []


def test_crowds_and_classes_named_null_are_left_out_and_other_names_are_translated(tmp_path: Path) -> None:
    path = coco(tmp_path, annotations=[CELL, {**CELL, "iscrowd": 1}, {**CELL, "category_id": 9}])

    found = marked(path, BoxConfig(names={"cell": None, "seed": "cell"}))

    assert found == [[1, 2, 3, 12, 23]]


def test_an_entry_of_coco_is_found_by_the_longest_end_of_the_images_path(tmp_path: Path) -> None:
    other = {**ONE, "id": 2, "file_name": "images/a.png"}
    path = coco(tmp_path, images=[ONE, other], annotations=[{**CELL, "image_id": 2}])

    assert len(marked(path)) == 1
    assert len(marked(path, image="one/others/a.png")) == 0


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"images": []}, "annotations have no entry of this image. List it, also where it shows no object"),
        ({"images": [ONE, {**ONE, "id": 2}]}, "annotations have two entries of this image. Keep one"),
        ({"images": [ONE, {**ONE, "file_name": "b.png"}]}, "annotations: two images have the id 1"),
        ({"images": [{"id": 1}]}, "annotations: an image has no 'file_name' or no 'id'"),
        ({"annotations": {}, "images": [7]}, "'images' and 'annotations' must be lists of objects"),
        ({"categories": ["cell"]}, "'categories' must be a list of 'id' and 'name'"),
        ({"annotations": [{**CELL, "category_id": 6}]}, "has the category 6, which 'categories' does not name"),
        (
            {"annotations": [{**CELL, "bbox": [1, 2, 3]}]},
            r"no 'bbox' of four numbers, x, y, width, height \(got \[1, 2",
        ),
        ({"annotations": [{**CELL, "bbox": [1, 2, 3, None]}]}, "an annotation has no 'bbox' of four numbers"),
    ],
)
def test_what_is_wrong_with_a_coco_file_is_the_reason(parts: dict, message: str, tmp_path: Path) -> None:
    path = coco(tmp_path, **parts)

    with pytest.raises(DataError, match=message):
        marked(path)


def test_broken_files_are_refused_with_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text('{"images": [')
    (tmp_path / "b.xml").write_text("<annotation><object>")
    (tmp_path / "c.xml").write_text("<html></html>")
    (tmp_path / "d.xml").write_text('<!DOCTYPE x [<!ENTITY a "b">]><annotation>&a;</annotation>')
    (tmp_path / "e.txt").write_bytes(b"\xff\xfe0 1")
    for name, message in (
        ("broken.json", r"annotations are not JSON \(Expecting value"),
        ("b.xml", "annotation is not XML"),
        ("c.xml", "the outer element is 'html', not 'annotation'"),
        ("d.xml", "declares a document type or entities, which are not read"),
        ("e.txt", "annotation is no text in UTF-8"),
        ("f.csv", "boxes in a file '.csv'. Allowed: .json, .xml, .txt"),
    ):
        with pytest.raises(DataError, match=message):
            read_boxes(tmp_path / name, "a.png")


@pytest.mark.parametrize(
    "line", ["0 .5 .5 .2", "0 .5 .5 .2 .2 .9", "cell .5 .5 .2 .2", "0.5 .5 .5 .2 .2", "0 nan .5 1 1"]
)
def test_a_line_of_yolo_that_is_no_class_and_box_is_refused_with_its_number(line: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2 is .* Expected: the class's number, then centre x, centre y, width"):
        marked(yolo(tmp_path, f"0 .5 .5 .1 .1\n{line}\n"))


def test_an_object_of_voc_without_a_box_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="an object has no name or no box of four numbers"):
        marked(voc(tmp_path, "<object><name>cell</name></object>"))


@pytest.mark.parametrize(
    ("bbox", "message"),
    [
        ([2, 3, 0, 20], r"box 1 \(cell\): left, top, right, bottom 2, 3, 2, 23: is empty or inverted"),
        ([2, 3, 10, -2], "is empty or inverted. Correct or remove it"),
        ([-4, 3, 10, 20], "lies outside of its image of 40 pixels across and 30 down"),
        ([35, 3, 10, 20], "35, 3, 45, 23: lies outside of its image"),
        ([2, 12, 10, 20], "lies outside of its image"),
        ([40, 2, 1, 5], "has no pixel inside its image"),
    ],
)
def test_a_box_that_cannot_be_one_is_refused(bbox: list[float], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        marked(coco(tmp_path, annotations=[{**CELL, "bbox": bbox}]))


def test_a_box_with_a_side_that_is_no_number_is_refused() -> None:
    with pytest.raises(DataError, match="nan, 0, 3, 4: no finite numbers"):
        BoxConfig().marked(Written([("cell", (float("nan"), 0, 3, 4))]), 30, 40, False, CLASSES)


def test_a_box_that_reaches_a_pixel_beyond_the_image_is_cut_to_it(tmp_path: Path) -> None:
    assert marked(coco(tmp_path, annotations=[{**CELL, "bbox": [-1, -0.5, 42, 10]}])) == [[1, 0, 0, 40, 9.5]]


def test_an_unknown_class_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    path = coco(tmp_path, categories=[{"id": 5, "name": "Cell"}])

    with pytest.raises(
        DataError, match="class 'Cell' is not known. Allowed: cell, seed. Name it under 'annotations.na"
    ):
        marked(path)
    with pytest.raises(DataError, match="class number 3 is not known. Allowed: 0 cell, 1 seed. Name the classes"):
        marked(yolo(tmp_path, "3 .5 .5 .1 .1"))


def test_an_annotation_of_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="annotation is of an image of 31 x 40 pixels, its image is 30 x 40"):
        marked(coco(tmp_path, images=[{**ONE, "height": 31}]))
    with pytest.raises(
        DataError, match="sides are exchanged: the image may be turned by its EXIF tag and the boxes not"
    ):
        marked(coco(tmp_path, images=[{**ONE, "height": 40, "width": 30}]), turned=True)


def test_boxes_of_a_turned_photo_are_used_only_where_they_show_that_they_are_turned_too(tmp_path: Path) -> None:
    assert marked(coco(tmp_path), turned=True) == [[1, 2, 3, 12, 23]]
    with pytest.raises(DataError, match="does not show whether its boxes are turned too. Save the image upright"):
        marked(yolo(tmp_path, "0 .5 .5 .1 .1"), turned=True)


def test_numbers_of_yolo_have_the_names_of_a_list_beside_them(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("seed\r\ncell\n")

    assert [row[0] for row in marked(yolo(tmp_path, "0 .5 .5 .1 .1\n1 .5 .5 .1 .1"), BoxConfig())] == [2, 1]
    with pytest.raises(DataError, match="class number 4 is not known. Allowed: none"):
        marked(yolo(tmp_path, "4 .5 .5 .1 .1"), BoxConfig())


def test_annotations_of_images_that_are_not_listed_are_counted(tmp_path: Path) -> None:
    assert read_coco(coco(tmp_path, annotations=[CELL, {**CELL, "image_id": 4}])).lost == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": {"Zelle": "zelle"}}, r"annotations\.names: zelle is no class of boxes\. Allowed: pit, or null"),
        ({"numbers": ["pit", "pit"]}, r"annotations\.numbers: a name stands twice \(got pit, pit\)"),
    ],
)
def test_names_of_classes_that_contradict_the_scenario_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scenario(task="detection", classes=["ground", "pit"], annotations=options)


def test_boxes_survive_their_text() -> None:
    boxes = np.array([[1, 0.5, 2, 10.25, 20], [2, 1, 1, 4, 5]])

    assert np.array_equal(from_text(as_text(boxes)), boxes)
    assert from_text("[]").shape == (0, 5)


def test_a_part_shows_what_lies_mostly_in_it_in_its_own_pixels() -> None:
    boxes = np.array([[1, 0, 0, 10, 10], [2, 6, 0, 16, 10], [1, 7, 0, 17, 10]])

    assert cut(boxes, 0, 0, 20, 10).tolist() == [[1, 0, 0, 10, 10], [2, 6, 0, 10, 10]]


def test_prepared_boxes_follow_the_crop_and_the_scale_of_the_image() -> None:
    found = prepared_boxes(np.array([[1, 12.0, 10, 22, 30]]), (0, 10, 40, 50), 80)

    assert found.tolist() == [[1, 4, 20, 24, 60]]


def test_boxes_come_back_from_the_cells_inside_them() -> None:
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, 60, (6, 2))
    boxes = np.column_stack([np.ones(6), starts, starts + rng.uniform(12, 36, (6, 2))])
    for box in boxes:
        extents = cell_extents(box[None], (8, 8), 96)
        inside = np.isfinite(extents).all(axis=1)
        assert inside.any() and (extents[inside] > 0).all()
        assert np.allclose(corners(extents, (8, 8), 96)[inside], box[1:], atol=1e-4)


def test_a_cell_in_two_boxes_has_the_edges_of_the_one_whose_centre_is_nearest() -> None:
    boxes = np.array([[1, 0, 0, 32, 32], [2, 0, 0, 16, 16]])

    found = corners(cell_extents(boxes, (4, 4), 32), (4, 4), 32)

    assert found[0].tolist() == [0, 0, 16, 16] and found[10].tolist() == [0, 0, 32, 32]


def test_labels_of_cells_are_highest_at_the_centre_and_sum_to_one() -> None:
    labels = cell_labels(np.array([[2, 8, 8, 40, 40], [1, 41, 41, 44, 43]]), (6, 6), 48, 3).reshape(6, 6, 3)

    assert np.allclose(labels.sum(axis=2), 1)
    assert labels[5, 5, 1] == 1  # a box smaller than a cell has its nearest cell
    centre = np.exp(-((0.125**2 + 0.125**2) / (2 * 0.2**2)))
    assert labels[2, 2, 2] == 1 and labels[3, 3, 2] == pytest.approx(centre)
    assert labels[0, 0].tolist() == [1, 0, 0]


def test_cells_of_images_without_an_annotation_are_not_labelled() -> None:
    index = pd.DataFrame({"image_id": ["a", "b", "c"]})
    boxes = pd.DataFrame({"image_id": ["c", "a"], "boxes": ["[]", "[[1, 0, 0, 8, 8]]"]})

    labels, scored = source_labels(boxes, index, (2, 2), 16, 2)
    extents = source_extents(boxes, index, (2, 2), 16)

    assert scored.tolist() == [[1] * 4, [0] * 4, [1] * 4] and labels[2, :, 0].tolist() == [1] * 4
    assert np.isfinite(extents).any(axis=1).tolist() == [True] + [False] * 11


@pytest.mark.parametrize("images", [[{"file_name": "mueller_hans.png"}], [{**ONE, "id": "mueller_hans"}] * 2])
def test_what_is_wrong_with_another_image_of_a_coco_file_does_not_name_it(images: list, tmp_path: Path) -> None:
    path = coco(tmp_path, images=images)

    with pytest.raises(DataError, match="annotations: .*'id'|annotations: two images") as refused:
        marked(path)

    assert "mueller" not in str(refused.value)


def test_identifiers_that_are_lists_or_objects_name_nothing(tmp_path: Path) -> None:
    lost = coco(tmp_path, annotations=[{**CELL, "image_id": [1]}])
    assert read_coco(lost).lost == 1

    odd = coco(tmp_path, categories=[{"id": {}, "name": "cell"}], annotations=[{**CELL, "category_id": [5]}])
    with pytest.raises(DataError, match=r"has the category \[5\], which 'categories' does not name"):
        marked(odd)
