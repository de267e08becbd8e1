import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from isthmus.core.errors import DataError
from isthmus.data.audit.label_noise import label_facts
from tests.data.audit.test_near_duplicates import scene
from tests.data.audit.test_shortcut import limited
from tests.raw_folders import write_raw
from tests.stages.test_ingest import audit, manifest, run


def test_missing_classes_imbalance_and_near_duplicates_with_two_labels_are_told_by_source() -> None:
    images = pd.DataFrame(
        {
            "image_id": list("abcdefg"),
            "domain": ["one"] * 4 + ["two"] * 2 + ["target"],
            "label": pd.array([0, 0, 0, 1, 1, 1, None], dtype="Int32"),
        }
    )

    found = label_facts(images, [("a", "d"), ("a", "b"), ("c", "e"), ("a", "g")], "target", ["pit", "good"])

    assert found == {
        "missing": {"one": [], "two": ["pit"]},
        "imbalance": {"one": 3.0, "two": 1.0},
        "near_two_labels": [["a", "d"], ["c", "e"]],
    }


def twice_labelled(folder: Path) -> Path:
    """Writes a raw folder with one picture under two classes, and one saved again under the other class."""
    raw = write_raw(folder)
    shutil.copy(raw / "line_a" / "good" / "img-000.png", raw / "line_a" / "crack" / "twin.png")
    Pillow.fromarray(scene(1)).save(raw / "line_a" / "good" / "scene.png")
    Pillow.fromarray(scene(1)).save(raw / "line_a" / "crack" / "again.jpg", quality=90)
    return raw


def test_images_with_two_labels_are_in_the_audit_by_id(tmp_path: Path) -> None:
    out = run(twice_labelled(tmp_path / "raw"), tmp_path / "out")

    labels = audit(out)["labels"]
    assert len(labels["two_labels"]) == 1
    assert set(labels["two_labels"]).isdisjoint(manifest(out)["image_id"])  # they are in quarantine
    assert len(labels["near_two_labels"]) == 1
    assert set(labels["near_two_labels"][0]) <= set(manifest(out)["image_id"])


def test_a_limit_on_two_labels_stops_the_run_with_the_files(tmp_path: Path) -> None:
    raw = twice_labelled(tmp_path / "raw")

    with pytest.raises(DataError, match=r"3 source images have two labels.*'ingest\.max_two_labels' .* allows 2:") as e:
        limited(raw, tmp_path / "out", max_two_labels=2)

    for name in ("crack/twin.png and line_a/good/img-000.png", "good/scene.png", "crack/again.jpg"):
        assert f"line_a/{name}" in str(e.value)
    limited(raw, tmp_path / "out", max_two_labels=3)


def test_medical_images_are_named_by_id_and_never_by_path(tmp_path: Path) -> None:
    raw = twice_labelled(tmp_path / "raw")

    with pytest.raises(DataError, match=r"max_two_labels' in params\.yaml allows 0:\n  [0-9a-f]{32}\n") as e:
        limited(raw, tmp_path / "out", {"kind": "medical", "preprocess": {}}, max_two_labels=0)

    assert "twin" not in str(e.value)


def test_a_limit_on_imbalance_stops_the_run_with_the_counts(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    for path in sorted((raw / "line_a" / "crack").iterdir())[12:]:
        path.unlink()

    with pytest.raises(
        DataError,
        match=r"source 'line_a': its largest class has 2 times .*\(crack 12, good 24\); 'ingest\.max_imbalance'",
    ):
        limited(raw, tmp_path / "out", max_imbalance=1.5)


def test_every_class_in_every_source_can_be_asked_for(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    shutil.copytree(write_raw(tmp_path / "more", seed=5) / "line_a", raw / "line_c")
    shutil.rmtree(raw / "line_c" / "crack")
    two = {"source": ["line_a", "line_c"]}

    with pytest.raises(DataError, match=r"source 'line_c': no image of class crack, .*'ingest\.every_class_in_every_"):
        limited(raw, tmp_path / "out", two, every_class_in_every_source=True)

    limited(raw, tmp_path / "out", two)
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["labels"]["missing"]["line_c"] == ["crack"]


def test_realised_shares_and_class_balance_of_each_split_are_in_the_audit(tmp_path: Path) -> None:
    out = run(write_raw(tmp_path / "raw"), tmp_path / "out")

    found, rows = audit(out)["shares"]["line_a"], manifest(out)
    source = rows[rows["domain"] == "line_a"]
    assert sum(row["images"] for row in found.values()) == pytest.approx(1, abs=1e-3)
    assert found["val"]["images"] == pytest.approx((source["split"] == "val").mean(), abs=1e-4)
    assert [found[s]["wanted"] for s in ("train", "val", "cal", "test")] == [0.6, 0.15, 0.1, 0.15]
    crack = source[source["label"] == 0]
    assert audit(out)["classes"]["line_a"]["crack"] == crack["split"].value_counts().to_dict()


def test_constant_and_saturated_images_are_listed_and_limited(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    Pillow.new("L", (20, 20), 90).save(raw / "line_a" / "good" / "flat.png")
    bright = np.full((20, 20), 255, np.uint8)
    bright[:, :6] = np.arange(20)[:, None] + 7
    Pillow.fromarray(bright).save(raw / "line_b" / "good" / "bright.png")

    out = run(raw, tmp_path / "out")

    found = audit(out)["pixels"]
    assert [len(found["line_a"][k]) for k in ("constant", "saturated")] == [1, 0]
    assert [len(found["line_b"][k]) for k in ("constant", "saturated")] == [0, 1]
    assert found["line_b"]["saturated_highest"] == 0.7
    with pytest.raises(
        DataError,
        match=r"domain 'line_a': in 1 of 49 images all pixels are the same \(2\.0%\); 'ingest\.max_constant_"
        r"share' in params\.yaml allows 0\.0%:\n  line_a/good/flat\.png\nRemove or replace",
    ):
        limited(raw, tmp_path / "no", max_constant_share=0)
    with pytest.raises(DataError, match=r"more than 60% of the pixels are saturated .*\n  line_b/good/bright\.png\n"):
        limited(raw, tmp_path / "no", max_saturated_share=0, saturated_above=0.6)
    limited(raw, tmp_path / "yes", max_saturated_share=0, saturated_above=0.7)
