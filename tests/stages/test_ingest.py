import hashlib
import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from isthmus.core.errors import DataError
from isthmus.data.ingest.tables import IngestConfig
from isthmus.data.manifest import LOCATIONS, MANIFEST, TARGET_LABELS, read_table
from isthmus.stages import ingest
from tests.raw_folders import CLASSES, scenario, write_raw

TABLES = ("manifest", "locations", "companions", "labels_target")
OUTPUTS = (*(f"{name}.parquet" for name in TABLES), "audit.json", "quarantine.json")


def outputs(out: Path) -> dict[str, Path]:
    return {name.partition(".")[0]: out / name for name in OUTPUTS}


def run(raw: Path, out: Path, max_bad_share: float = 0.2, workers: int = 1, seed: int = 0, **changes: object) -> Path:
    params = ingest.Params(
        scenario=scenario(**changes), ingest=IngestConfig(max_bad_share=max_bad_share, workers=workers), seed=seed
    )
    ingest.run(params, raw=raw, **outputs(out))
    return out


def manifest(out: Path) -> pd.DataFrame:
    return read_table(out / "manifest.parquet", MANIFEST)


def audit(out: Path) -> dict[str, Any]:
    return json.loads((out / "audit.json").read_text())


def test_the_manifest_has_one_row_an_image_in_the_order_of_ids_and_no_target_label(tmp_path: Path) -> None:
    found = manifest(run(write_raw(tmp_path / "raw"), tmp_path / "out"))

    assert len(found) == 96
    assert found["image_id"].is_monotonic_increasing
    assert found["image_id"].is_unique
    assert found.loc[found["domain"] == "line_b", "label"].isna().all()
    assert set(found.loc[found["domain"] == "line_a", "label"]) == {0, 1}
    assert set(found.loc[found["domain"] == "line_b", "split"]) == {"train", "test"}


def test_target_labels_and_places_lie_in_files_of_their_own(tmp_path: Path) -> None:
    out = run(raw := write_raw(tmp_path / "raw"), tmp_path / "out")
    places = read_table(out / "locations.parquet", LOCATIONS).set_index("image_id")["path"]
    labels = read_table(out / "labels_target.parquet", TARGET_LABELS)

    assert len(labels) == 48
    assert [places[i].split("/")[1] for i in labels["image_id"]] == [CLASSES[k] for k in labels["label"]]
    for row in manifest(out).itertuples():
        assert hashlib.sha256((raw / places[row.image_id]).read_bytes()).hexdigest() == row.sha256


def test_target_labels_none_writes_an_empty_file(tmp_path: Path) -> None:
    out = run(write_raw(tmp_path / "raw"), tmp_path / "out", target_labels="none")

    assert len(read_table(out / "labels_target.parquet", TARGET_LABELS)) == 0


def test_the_same_inputs_give_the_same_bytes_with_any_number_of_workers(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", each=70)

    one, two = run(raw, tmp_path / "one"), run(raw, tmp_path / "two", workers=2)

    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in OUTPUTS)


def test_permuting_the_targets_class_folders_changes_labels_and_places_alone(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    before = run(raw, tmp_path / "before")
    (raw / "line_b" / "crack").rename(raw / "line_b" / "aside")
    (raw / "line_b" / "good").rename(raw / "line_b" / "crack")
    (raw / "line_b" / "aside").rename(raw / "line_b" / "good")

    after = run(raw, tmp_path / "after")

    same = {name: (before / name).read_bytes() == (after / name).read_bytes() for name in OUTPUTS}
    assert same == {name: name not in ("locations.parquet", "labels_target.parquet") for name in OUTPUTS}


def test_exact_copies_are_one_row_and_are_counted(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    shutil.copy(raw / "line_a" / "good" / "img-000.png", raw / "line_a" / "good" / "again.png")
    shutil.copy(raw / "line_a" / "good" / "img-000.png", raw / "line_b" / "good" / "crossed.png")

    out = run(raw, tmp_path / "out")

    found = manifest(out)
    assert sorted(found["copies"])[-2:] == [1, 2]
    assert audit(out)["duplicates"] == 1
    assert audit(out)["duplicates_within"] == {"line_a": 1, "line_b": 0}
    assert audit(out)["duplicates_across"] == 1


def test_lots_that_share_bytes_stay_in_one_split(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    for name in CLASSES:
        for number, path in enumerate(sorted((raw / "line_b" / name).iterdir())):
            path.rename(path.with_name(f"lot-{number}_{name}.png"))
    for number in range(1, 4):
        shutil.copy(raw / "line_b" / "good" / "lot-0_good.png", raw / "line_b" / "good" / f"lot-{number}_copy.png")

    found = manifest(run(raw, tmp_path / "out", group="lot"))

    target = found[found["domain"] == "line_b"]
    joined = target[target["copies"] > 1]["group"].item()
    assert (target["group"] == joined).sum() == 4 * 2
    assert target.groupby("group")["split"].nunique().max() == 1


def test_bytes_under_two_classes_leave_the_source_and_stay_twice_labelled_in_the_target(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    for domain in ("line_a", "line_b"):
        shutil.copy(raw / domain / "good" / "img-000.png", raw / domain / "crack" / "twin.png")

    out = run(raw, tmp_path / "out")

    reason = "identical files are in 2 classes: crack, good"
    assert json.loads((out / "quarantine.json").read_text()) == [
        {"domain": "line_a", "path": path, "reason": reason}
        for path in ("line_a/crack/twin.png", "line_a/good/img-000.png")
    ]
    assert len(manifest(out)) == 95
    labels = read_table(out / "labels_target.parquet", TARGET_LABELS)
    assert labels[labels["image_id"].duplicated(keep=False)]["label"].tolist() == [0, 1]


def test_broken_files_are_quarantined_by_reason_and_counted(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    (raw / "line_a" / "good" / "empty.png").touch()
    (raw / "line_a" / "good" / "words.jpg").write_text("these are words\n")
    (raw / "line_b" / "good" / "animated.gif").write_bytes(b"GIF89a")

    out = run(raw, tmp_path / "out")

    reasons = {q["path"]: q["reason"] for q in json.loads((out / "quarantine.json").read_text())}
    assert reasons["line_a/good/empty.png"] == "file is empty (0 bytes)"
    assert reasons["line_a/good/words.jpg"] == "content is text, not an image"
    assert reasons["line_b/good/animated.gif"] == "content is text, not an image"
    assert audit(out)["bad"] == 3
    assert audit(out)["bad_by_reason"]["file is empty"] == 1


def test_hostile_files_are_quarantined_with_what_they_are_and_nothing_elsewhere_is_read(tmp_path: Path) -> None:
    pytest.importorskip("rasterio")  # it is what a VRT would deceive
    raw, good = write_raw(tmp_path / "raw"), tmp_path / "raw" / "line_a" / "good"
    outside = tmp_path / "outside.tif"
    Image.fromarray(np.full((37, 41), 201, np.uint8)).save(outside)
    (good / "link.png").symlink_to(outside)
    (good / "climbs.tif").symlink_to("../../../outside.tif")
    source = '<SimpleSource><SourceFilename relativeToVRT="1">../../../outside.tif</SourceFilename></SimpleSource>'
    vrt = f'<VRTDataset rasterXSize="41" rasterYSize="37"><VRTRasterBand band="1">{source}</VRTRasterBand></VRTDataset>'
    for suffix in (".tif", ".geotiff"):
        (good / f"vrt{suffix}").write_text(vrt)
    (good / "far.tif").write_bytes(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 2**63) + bytes(64))
    (good / "huge.bmp").write_bytes(
        struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, 60_000, 60_000, 1, 24, *[0] * 6)
    )

    out = run(raw, tmp_path / "out")

    reasons = {Path(q["path"]).name: q["reason"] for q in json.loads((out / "quarantine.json").read_text())}
    assert set(reasons) == {"link.png", "climbs.tif", "vrt.tif", "vrt.geotiff", "far.tif", "huge.bmp"}
    assert all("symbolic link: refused" in reasons[name] for name in ("link.png", "climbs.tif"))
    assert reasons["vrt.tif"] == "content is text, not an image"
    assert "content is a GDAL VRT" in reasons["vrt.geotiff"]
    assert "too many pixels" in reasons["huge.bmp"]
    assert not (manifest(out)["height"] == 37).any()


def test_nothing_that_lies_in_a_folder_hangs_or_stops_ingest(tmp_path: Path) -> None:
    raw, good = write_raw(tmp_path / "raw"), tmp_path / "raw" / "line_a" / "good"
    os.mkfifo(good / "pipe.png")
    with (good / "sparse.tif").open("wb") as stream:
        stream.truncate(30_000_000_000)
    (good / Path(*["d"] * 70)).mkdir(parents=True)
    shutil.copy(good / "img-000.png", os.fsencode(good) + b"/caf\xe9.png")
    (raw / "line_b" / "Thumbs.db").write_bytes(b"x")

    out = run(raw, tmp_path / "out")

    reasons = [q["reason"].partition(" (")[0] for q in json.loads((out / "quarantine.json").read_text())]
    assert sorted(reasons) == [
        "a named pipe and no file: refused, not opened",
        "folder is more than 64 folders deep: not entered",
        "its name, or that of its folder, is not UTF-8: rename it",
        "sparse file: refused",
    ]
    assert audit(out)["bad"] == 4
    assert audit(out)["beside"] == {"line_b": {"system": 1}}
    assert len(manifest(out)) == 96


def test_more_broken_files_than_allowed_stop_the_run_and_write_nothing(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", each=5)
    for path in sorted((raw / "line_a" / "good").iterdir()):
        path.write_bytes(b"")

    with pytest.raises(DataError, match=r"5 of 20 files cannot be used \(25\.0%\).*'ingest\.max_bad_share'"):
        run(raw, tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_the_pages_of_a_tiff_are_rows_of_one_group(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    pages = [Image.new("L", (20, 20), value) for value in (10, 20, 30)]
    pages[0].save(raw / "line_a" / "good" / "stack.tif", save_all=True, append_images=pages[1:])

    found = manifest(run(raw, tmp_path / "out"))

    stack = found[found["part"] != ""]
    assert sorted(stack["part"]) == ["0", "1", "2"]
    assert stack["group"].nunique() == stack["split"].nunique() == 1


def test_files_that_a_table_does_not_name_are_counted(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    paths = sorted(p.relative_to(raw).as_posix() for p in raw.rglob("*.png"))
    table = pd.DataFrame({"path": paths, "domain": [p[:6] for p in paths], "label": [p.split("/")[1] for p in paths]})
    table.to_csv(raw / "images.csv", index=False)
    Image.new("L", (20, 20)).save(raw / "line_a" / "good" / "late.png")

    out = run(raw, tmp_path / "out", target_labels="table")

    assert audit(out)["files_not_in_table"] == 1
    assert len(manifest(out)) == 96


def test_a_table_that_puts_one_patient_into_two_splits_is_a_leak(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    paths = sorted(p.relative_to(raw).as_posix() for p in raw.rglob("*.png"))
    table = pd.DataFrame({"path": paths, "domain": [p[:6] for p in paths], "label": [p.split("/")[1] for p in paths]})
    table["patient"] = [str(i // 2) for i in range(len(paths))]
    table["split"] = ["train", "test"] * (len(paths) // 2)
    table.to_csv(raw / "images.csv", index=False)

    with pytest.raises(DataError, match=r"leak in domain 'line_a': one group \(group 0; .*column 'split'"):
        run(raw, tmp_path / "out", target_labels="table", group="patient")
