"""Predicting files with a registered model, as a user does it: by the command, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from isthmus.core.errors import DataError, StoreError
from isthmus.core.files import read_json
from isthmus.data.names import as_text
from isthmus.serving.batch_statistics import histogram, read_kept
from isthmus.serving.predict import list_files, parts_of, predict, stacked
from isthmus.where import where
from tests.registry.model.test_served import as_the_pipeline, domain_score_in_the_pipeline
from tests.registry.project_files import CLASSES
from tests.registry.versions import MODEL, add_version


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in ("a.png", "b.jpg", "deep/c.tif"):
        Pillow.fromarray(generator.integers(0, 255, (30, 24, 3)).astype(np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    (folder / "animated.gif").write_bytes(b"GIF89a")
    os.mkfifo(folder / "pipe.png")
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes((folder / "a.png").read_bytes())
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:70])
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "link.png").symlink_to(folder / "a.png")
    return folder


@pytest.mark.slow
def test_the_command_predicts_a_folder_as_the_pipeline_does_and_lists_bad_files(published, photos, tmp_path):
    project, found = published
    out = tmp_path / "made" / "predictions.parquet"
    command = [
        sys.executable,
        "-m",
        "isthmus.cli",
        "predict",
        f"{found.model}@candidate",
        str(photos),
        "--out",
        str(out),
        "--keep-statistics",
        str(tmp_path / "kept.jsonl"),
    ]

    done = subprocess.run(command, cwd=project, capture_output=True, text=True)

    assert done.returncode == 5, done.stderr
    assert f"{out}: 4 images; bad files: 4 ({out}.bad.json); files beside them, ignored: 2" in done.stdout
    table = pd.read_parquet(out)
    assert [Path(path).name for path in table["path"]] == ["a.png", "b.jpg", r"caf\xe9.png", "c.tif"]
    bad = {Path(row["path"]).name: row["reason"] for row in read_json(Path(f"{out}.bad.json"))}
    assert set(bad) == {"broken.png", "animated.gif", "link.png", "pipe.png"}
    assert bad["animated.gif"] == "content is text, not an image"
    assert f"bad: {photos}/animated.gif: content is text" in done.stderr
    assert f"bad: {photos}/pipe.png: a named pipe and no file" in done.stderr
    kept = list(read_kept(tmp_path / "kept.jsonl"))
    assert [(batch.count, batch.model_id, batch.version) for batch in kept] == [(4, found.model_id, found.version)]
    assert kept[0].domain_score == histogram(list(table["domain_score"]))
    assert kept[0].mean_confidence == pytest.approx(table["confidence"].mean())
    assert not any(Path(path).name in (tmp_path / "kept.jsonl").read_text() for path in table["path"])
    table = table[table["path"] != rf"{photos}/caf\xe9.png"]
    probabilities = table[[f"probability_{name}" for name in CLASSES]].to_numpy()
    for path, row in zip(table["path"], probabilities, strict=True):
        assert row == pytest.approx(as_the_pipeline(project, Path(path), tmp_path), abs=1e-5)
    expected = [domain_score_in_the_pipeline(project, Path(path), tmp_path) for path in table["path"]]
    assert list(table["domain_score"]) == pytest.approx(expected, abs=1e-5)
    assert list(table["confidence"]) == pytest.approx(probabilities.max(axis=1))
    assert list(table["class"]) == [CLASSES[place] for place in probabilities.argmax(axis=1)]
    assert [file.name for file in sorted(out.parent.iterdir())] == [
        "predictions.parquet",
        "predictions.parquet.bad.json",
    ]


@pytest.mark.slow
def test_no_usable_file_is_an_error_and_writes_nothing(published, photos, tmp_path):
    project, found = published

    with pytest.raises(
        DataError, match=r"none of 1 files could be predicted, so .* was not written \(.*animated.gif: content is text"
    ):
        predict(project, f"{found.model}@candidate", [photos / "animated.gif"], tmp_path / "out.parquet")
    assert list(tmp_path.glob("*out.parquet*")) == []


@pytest.mark.slow
@pytest.mark.soak
def test_a_model_that_cannot_be_loaded_is_an_error_with_what_its_process_said(empty_files, photos, tmp_path):
    add_version(empty_files)

    with pytest.raises(StoreError, match=r"isthmus-demo version 1: its process ended with status 1: .*"):
        predict(empty_files, f"{MODEL}@candidate", [photos], tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_files_that_are_not_there_and_empty_folders_are_named(tmp_path):
    with pytest.raises(DataError, match="no such file or folder: nowhere, neither.png"):
        list_files([Path("nowhere"), tmp_path, Path("neither.png")])
    with pytest.raises(DataError, match="no files. Name image files, or folders"):
        list_files([tmp_path])


def test_folders_are_walked_in_order_and_what_is_no_file_is_refused_unopened(photos):
    listed = list_files([photos / "b.jpg", photos])

    names = [as_text(path.relative_to(photos).as_posix()) for path in listed.files]
    assert names == ["b.jpg", "a.png", "animated.gif", "broken.png", r"caf\xe9.png", "deep/c.tif"]
    assert {path.name for path in listed.refused} == {"link.png", "pipe.png"}
    assert listed.beside == 2  # notes.txt and a hidden file


def test_of_medical_files_a_message_has_the_number_and_no_part_of_the_path(tmp_path):
    for name in ("a.dcm", "MUELLER_HANS.dcm", "c.MUELLER_HANS"):
        (tmp_path / name).write_bytes(b"x")
    listed = list_files([tmp_path], "medical")

    shown = listed.shown({path: f"no reader for '{path.suffix}'" for path in listed.files}, "medical")

    assert shown == {
        "file 1": "no reader for '.dcm'",
        "file 2": "no reader for '.dcm'",
        "file 3": "no reader for '...'",
    }
    assert where(tmp_path, str(tmp_path), "file 1") == [tmp_path / "MUELLER_HANS.dcm"]
    with pytest.raises(DataError, match="no such file or folder: path 1$"):
        list_files([tmp_path / "HANS.dcm"], "medical")


def test_only_files_whose_images_are_slices_or_frames_of_one_thing_are_answered_part_by_part(tmp_path):
    nibabel.Nifti1Image(np.zeros((8, 8, 3), np.int16), np.eye(4)).to_filename(tmp_path / "volume.nii")
    nibabel.Nifti1Image(np.zeros((8, 8, 1), np.int16), np.eye(4)).to_filename(tmp_path / "slice.nii")
    pages = [Pillow.new("L", (8, 8), value) for value in (0, 1)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    (tmp_path / "broken.dcm").write_bytes(b"x")

    assert parts_of(sorted(tmp_path.iterdir())) == {tmp_path / "volume.nii": ["0", "1", "2"]}


def test_a_file_one_of_whose_parts_is_bad_is_bad_with_the_number_of_the_part():
    assert stacked({"0": {"mask": "a"}, "1": {"bad": "too dark"}}) == {"bad": "part 1: too dark"}
