"""A user's images with masks, boxes or defects become a scenario that `ingest` takes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from isthmus.core.errors import ConfigError, DataError
from isthmus.data.add import dense_plan
from isthmus.data.add.add import add_pair
from isthmus.data.add.dense_plan import make_dense_plan
from isthmus.data.ingest.scan import find_images
from isthmus.data.scenario import Scenario
from tests.data.add.test_add import nothing_was_done
from tests.dense_folders import write_dense
from tests.stages.test_box_data import write
from tests.stages.test_dense_data import reasons, take

BOTH = ["ground", "spot"]


def taken(
    project: Path, raw: Path, task: str, classes: list[str] | None = None, **more: Any
) -> tuple[Path, dict[str, Any]]:
    """Adds a pair and returns its raw folder and its section."""
    folder = add_pair(project, "mine_too", [raw / "one"], raw / "two", "natural", classes, task=task, **more)
    return folder, yaml.safe_load((project / "params.yaml").read_text())["scenarios"]["mine_too"]


def changed(folder: Path, values: dict[int, int]) -> None:
    """Exchanges the values of all masks below a folder."""
    for path in folder.rglob("masks/*.png"):
        mask = np.asarray(Image.open(path))
        new = mask.copy()
        for old, value in values.items():
            new[mask == old] = value
        Image.fromarray(new).save(path)


@pytest.mark.parametrize(
    ("task", "values", "annotations"),
    [
        ("segmentation", {200: 1}, None),
        ("segmentation", {200: 255}, {"values": [0, 255], "ignore": None}),
        ("change", {}, {"values": [0, 200]}),
    ],
)
def test_masks_are_taken_with_the_values_that_they_have(
    task: str,
    values: dict[int, int],
    annotations: dict[str, Any] | None,
    home: Path,
    tmp_path: Path,
) -> None:
    images = write_dense(tmp_path / "images", change=task == "change")
    changed(images, values)

    raw, section = taken(home, images, task, BOTH)

    assert section.get("annotations") == annotations
    assert (section["task"], section["model"], section["target_labels"]) == (task, "pixels", "folders")
    scenario = Scenario.model_validate(section | {"preprocess": {"image_size": 20}})
    assert reasons(take(raw, tmp_path / "out", scenario)) == {}


def test_a_class_that_few_masks_show_is_found_where_the_sample_has_none_of_them(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense_plan, "_SAMPLE", 2)
    images = write_dense(tmp_path / "images")
    rare = images / "one" / "masks" / "001.png"
    Image.fromarray(np.full((20, 20), 90, np.uint8)).save(rare)

    for path in sorted((images / "one" / "masks").iterdir())[::2]:  # those of the sample; 255 is not scored there
        mask = np.array(Image.open(path))
        mask[0] = 255
        Image.fromarray(mask).save(path)

    _, section = taken(home, images, "segmentation", ["ground", "rare", "spot"])

    assert section["annotations"] == {"values": [0, 90, 200]}


def test_one_large_scene_a_domain_is_taken_and_must_be_cut(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, section = taken(home, write_dense(tmp_path / "images", each=1, change=True), "change", BOTH)

    assert "'one' holds one image: set 'tiles', which cut it, before the first run" in capsys.readouterr().err
    whole = Scenario.model_validate(section)
    with pytest.raises(DataError, match="'one', .*: 1 images .*; of one large image 'tiles' of the scenario make many"):
        find_images(raw, whole)
    cut = Scenario.model_validate(section | {"tiles": {"size": 12, "blocks": 2}})
    assert len(find_images(raw, cut)[0]) == 2


def test_a_target_without_masks_has_no_labels_and_one_with_a_few_has(home: Path, tmp_path: Path) -> None:
    images = write_dense(tmp_path / "images")
    for path in sorted((images / "two" / "masks").iterdir())[2:]:
        path.unlink()
    _, section = taken(home, images, "segmentation", BOTH)
    assert section["target_labels"] == "folders"

    for path in (images / "two" / "masks").iterdir():
        path.unlink()
    add_pair(home, "again", [images / "one"], images / "two", "natural", BOTH, task="segmentation")

    assert yaml.safe_load((home / "params.yaml").read_text())["scenarios"]["again"]["target_labels"] == "none"


@pytest.mark.parametrize("form", ["coco", "voc", "yolo"])
def test_boxes_are_taken_with_the_names_in_their_files(form: str, home: Path, tmp_path: Path) -> None:
    images = write(tmp_path / "images", form)

    raw, section = taken(home, images, "detection", ["background", "spot"] if form == "yolo" else None)

    assert section["classes"] == ["background", "spot"]
    assert section.get("annotations") == ({"numbers": ["spot"]} if form == "yolo" else None)
    assert (section["model"], section["target_labels"]) == ("dense", "folders")
    scenario = Scenario.model_validate(section | {"preprocess": {"image_size": 20}})
    assert reasons(take(raw, tmp_path / "out", scenario)) == {}


def test_boxes_of_classes_that_are_not_wanted_are_left_out(home: Path, tmp_path: Path) -> None:
    images = write(tmp_path / "images")
    for domain in ("one", "two"):
        path = images / domain / "boxes.json"
        document = json.loads(path.read_text())
        document["categories"].append({"id": 7, "name": "dust"})
        document["annotations"][0]["category_id"] = 7
        path.write_text(json.dumps(document))

    _, section = taken(home, images, "detection", ["background", "spot"])

    assert section["annotations"] == {"names": {"dust": None}}


def test_defects_are_taken_by_their_folders(home: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for place in ("one/good", "two/good", "two/scratch"):
        (tmp_path / "images" / place).mkdir(parents=True)
        for number in range(16):
            pixels = rng.integers(0, 256, (20, 20, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / place / f"{number}.png")

    raw, section = taken(home, tmp_path / "images", "anomaly")

    assert (section["classes"], section["model"]) == (["good", "defect"], "anomaly")
    scenario = Scenario.model_validate(section | {"preprocess": {"image_size": 20}})
    assert reasons(take(raw, tmp_path / "out", scenario)) == {}


def test_a_target_without_a_folder_of_good_images_has_no_labels_and_links_are_refused(
    home: Path, tmp_path: Path
) -> None:
    for place in ("one/good", "two/photos"):
        (tmp_path / "images" / place).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (20, 20), number).save(tmp_path / "images" / place / f"{number}.png")

    planned = make_dense_plan(
        "x", [tmp_path / "images/one"], tmp_path / "images/two", "natural", "anomaly", None, None, None
    )
    assert planned.section["target_labels"] == "none"

    (tmp_path / "images/one/good/3.png").symlink_to(tmp_path / "images/one/good/0.png")
    with pytest.raises(DataError, match="one: 1 files are symbolic links. Give the files themselves"):
        add_pair(home, "again", [tmp_path / "images/one"], tmp_path / "images/two", "natural", task="anomaly")


@pytest.mark.parametrize(
    ("task", "classes", "more", "error", "message"),
    [
        ("segmentation", None, {}, ConfigError, r"--classes: task segmentation needs .*values found: 0, 200"),
        ("segmentation", ["a", "b", "c"], {}, DataError, r"masks have the values 0, 200, and --classes names 3 \(a, b"),
        ("change", BOTH, {}, DataError, r"one: no folder a, b, which task change needs\. There are: images, masks"),
        ("detection", None, {}, DataError, r"one: no boxes: neither a COCO file"),
        ("segmentation", BOTH, {"group": "folder"}, ConfigError, r"--group folder: cannot be combined with --task seg"),
        ("segmentation", BOTH, {"target_labels": "table"}, ConfigError, r"--target-labels table: cannot be combined"),
        ("painting", BOTH, {}, ConfigError, r"painting"),
    ],
)
def test_what_cannot_be_taken_is_refused_and_nothing_is_done(
    task: str,
    classes: list[str] | None,
    more: dict[str, Any],
    error: type[Exception],
    message: str,
    home: Path,
    tmp_path: Path,
) -> None:
    images = write_dense(tmp_path / "images", each=4)

    with pytest.raises(error, match=message):
        taken(home, images, task, classes, **more)

    assert nothing_was_done(home)


def test_yolo_files_without_names_and_annotations_without_a_box_are_refused(
    home: Path,
    tmp_path: Path,
) -> None:
    yolo, empty = write(tmp_path / "yolo", "yolo"), write(tmp_path / "empty")
    for domain in ("one", "two"):
        path = empty / domain / "boxes.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"annotations": []}))

    with pytest.raises(ConfigError, match=r"the YOLO files number their classes \(found: 0\), and no classes\.txt"):
        taken(home, yolo, "detection")
    with pytest.raises(DataError, match=r"no box in the files of one"):
        taken(home, empty, "detection")


def test_images_without_a_mask_are_counted_with_the_reason_or_refused(
    home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = write_dense(tmp_path / "images")
    (images / "one" / "masks" / "003.png").unlink()
    taken(home, images, "segmentation", BOTH)
    assert "will not be used: 1: no file of its name lies in 'masks'" in capsys.readouterr().err

    for path in sorted((images / "one" / "masks").iterdir())[4:]:
        path.unlink()
    with pytest.raises(
        DataError, match=r"(?s)files cannot be used .*'ingest\.max_bad_share', then run 'isthmus add' again"
    ):
        add_pair(home, "again", [images / "one"], images / "two", "natural", BOTH, task="segmentation")
    assert not (home / "data" / "raw" / "again").exists()
