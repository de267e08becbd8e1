import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from isthmus.core.errors import DataError
from isthmus.core.files import hash_files
from isthmus.data.manifest import INDEX, LOCATIONS, read_table
from isthmus.data.preprocess import prepare as preparing
from isthmus.data.shards import Rows
from isthmus.stages import prepare
from tests.raw_folders import pixels, scenario, write_raw
from tests.stages.test_ingest import manifest, run


def go(raw: Path, out: Path, **changes: object) -> Path:
    run(raw, out, **changes)
    again(raw, out, **changes)
    return out


def again(raw: Path, out: Path, backbone: dict | None = None, **changes: object) -> None:
    files = {name: out / f"{name}.parquet" for name in ("manifest", "locations", "companions")}
    prepare.run(
        prepare.Params(scenario=scenario(**changes), backbone=backbone or {}),
        raw=raw,
        checkpoints=out / "checkpoints",
        prepared=out / "prepared",
        masks_target=out / "masks_target",
        **files,
    )


def facts(out: Path) -> dict:
    return json.loads((out / "prepared" / "facts.json").read_text())


def arrays(out: Path) -> dict[str, np.ndarray]:
    index = read_table(out / "prepared" / "index.parquet", INDEX)
    rows = Rows(out / "prepared" / "shards", index)
    return dict(zip(index["image_id"], rows.take(np.arange(len(rows))), strict=True))


def by_path(out: Path) -> dict[str, str]:
    places = read_table(out / "locations.parquet", LOCATIONS)
    return dict(zip(places["path"], places["image_id"], strict=True))


def cmyk(colour: np.ndarray) -> bytes:
    ink = np.concatenate([255 - colour, np.zeros_like(colour[..., :1])], axis=2)
    stream = io.BytesIO()
    Image.merge("CMYK", [Image.fromarray(np.ascontiguousarray(ink[..., c])) for c in range(4)]).save(
        stream, "JPEG", quality=100, subsampling=0
    )
    return stream.getvalue()


def test_images_of_the_right_size_reach_the_shards_unchanged_and_in_order(tmp_path: Path) -> None:
    out = go(raw := write_raw(tmp_path / "raw"), tmp_path / "out")

    found, ids = arrays(out), by_path(out)

    assert list(found) == manifest(out)["image_id"].tolist()
    for path in sorted(raw.rglob("*.png")):
        assert np.array_equal(found[ids[path.relative_to(raw).as_posix()]], np.asarray(Image.open(path)))


def test_size_and_crop_that_the_scenario_leaves_open_are_those_of_the_models_weights(tmp_path: Path) -> None:
    raw, out = write_raw(tmp_path / "raw", each=6), tmp_path / "out"
    run(raw, out, preprocess={"channels": 3})

    again(raw, out, {"name": "timm", "architecture": "test_vit"}, preprocess={"channels": 3})

    assert facts(out)["height"] == facts(out)["width"] == 160
    made_for = {"image_size": 160, "crop": 0.95, "crop_mode": "center", "interpolation": "bicubic"}
    assert facts(out)["preprocess"] == made_for | {"channels": 3}


def test_facts_hold_mean_and_std_of_the_training_images(tmp_path: Path) -> None:
    out = go(write_raw(tmp_path / "raw"), tmp_path / "out")
    rows = manifest(out)
    train = rows[(rows["domain"] == "line_a") & (rows["split"] == "train")]["image_id"]
    values = np.stack([arrays(out)[i] for i in train]).reshape(-1, 3) / 255

    assert facts(out)["mean"]["line_a"] == pytest.approx(values.mean(axis=0).tolist(), abs=1e-7)
    assert facts(out)["std"]["line_a"] == pytest.approx(values.std(axis=0).tolist(), abs=1e-7)
    assert facts(out)["count"] == {"line_a": 48, "line_b": 48}
    assert [facts(out)[k] for k in ("channels", "height", "width", "dtype", "sources")] == [3, 20, 20, "uint8", 1]


def test_deleted_broken_and_odd_images_leave_all_others_as_they_were(tmp_path: Path) -> None:
    """The issue's own list: one image deleted, three broken files, three odd but valid ones added."""
    raw = write_raw(tmp_path / "raw")
    before = go(raw, tmp_path / "before")
    folder, rng = raw / "line_a" / "good", np.random.default_rng(9)
    upright = pixels(rng)
    (folder / "img-005.png").unlink()
    whole = (folder / "img-006.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "zero.png").touch()
    (folder / "text.jpg").write_text("these are words, not pixels\n")
    deep = np.linspace(0, 65535, 400).astype(np.uint16).reshape(20, 20)
    Image.fromarray(deep).save(folder / "deep.png")
    (folder / "ink.jpg").write_bytes(cmyk(upright))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(upright))).save(folder / "turned.png", exif=exif)

    after = go(raw, tmp_path / "after")

    reasons = {Path(q["path"]).name: q["reason"] for q in json.loads((after / "quarantine.json").read_text())}
    assert set(reasons) == {"truncated.png", "zero.png", "text.jpg"}
    assert reasons["truncated.png"] == f"file is truncated (ends after {len(whole) // 2} bytes)"
    assert reasons["zero.png"] == "file is empty (0 bytes)"
    assert reasons["text.jpg"] == "content is text, not an image"
    found, ids = arrays(after), by_path(after)
    assert np.array_equal(found[ids["line_a/good/turned.png"]], upright)
    assert np.abs(found[ids["line_a/good/ink.jpg"]].astype(int) - upright).max() <= 6
    grey = found[ids["line_a/good/deep.png"]][..., 0]
    assert np.abs(grey.astype(int) - deep / 257).max() <= 3
    assert np.unique(grey).size > 200  # neither clipped nor cut to the low byte
    gone = by_path(before)["line_a/good/img-005.png"]
    older, newer = (manifest(o).set_index("image_id") for o in (before, after))
    pd.testing.assert_frame_equal(older.drop(index=gone), newer.loc[older.index.drop(gone)])
    assert gone not in newer.index
    assert len(newer) == len(older) - 1 + 3
    for image_id, array in arrays(before).items():
        assert image_id == gone or array.tobytes() == found[image_id].tobytes()
    untouched = before / "prepared" / "shards" / "domain1-all.npy"
    assert untouched.read_bytes() == (after / "prepared" / "shards" / "domain1-all.npy").read_bytes()


def test_permuting_the_targets_class_folders_leaves_manifest_and_shards_byte_identical(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    before = go(raw, tmp_path / "before")
    (raw / "line_b" / "crack").rename(raw / "line_b" / "aside")
    (raw / "line_b" / "good").rename(raw / "line_b" / "crack")
    (raw / "line_b" / "aside").rename(raw / "line_b" / "good")

    after = go(raw, tmp_path / "after")

    assert (before / "manifest.parquet").read_bytes() == (after / "manifest.parquet").read_bytes()
    assert hash_files([before / "prepared"]) == hash_files([after / "prepared"])
    assert (before / "labels_target.parquet").read_bytes() != (after / "labels_target.parquet").read_bytes()


def test_one_process_and_several_write_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_raw(tmp_path / "raw", each=70)
    monkeypatch.setattr(prepare, "processors", lambda: 1)
    one = go(raw, tmp_path / "one")
    monkeypatch.setattr(prepare, "processors", lambda: 2)

    two = go(raw, tmp_path / "two")

    assert hash_files([one / "prepared"]) == hash_files([two / "prepared"])


def test_an_image_that_the_kind_refuses_is_left_out_and_listed(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    Image.new("L", (8, 8)).save(raw / "line_a" / "good" / "small.png")
    industrial = {"kind": "industrial", "preprocess": {"image_size": 20, "roi": [0, 0, 20, 20]}}
    plain = go(write_raw(tmp_path / "plain"), tmp_path / "without", **industrial)

    out = go(raw, tmp_path / "out", **industrial)

    refused = facts(out)["quarantine"]
    assert [q["image_id"] for q in refused] == [by_path(out)["line_a/good/small.png"]]
    assert refused[0]["reason"].startswith("frame of 8 x 8 pixels does not contain the region")
    assert len(manifest(out)) == 97
    for part in ("index.parquet", "shards/domain0-all.npy", "shards/domain1-all.npy"):
        assert (out / "prepared" / part).read_bytes() == (plain / "prepared" / part).read_bytes()
    assert sorted(p.name for p in (out / "prepared").iterdir()) == ["facts.json", "index.parquet", "shards"]


def test_a_kind_that_refuses_everything_stops_with_the_reason(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")

    with pytest.raises(
        DataError, match=r"no training image of any domain could be prepared: frame of 20 x 20 .*'preprocess'"
    ):
        go(raw, tmp_path / "out", kind="industrial", preprocess={"roi": [0, 0, 99, 99]})

    assert not (tmp_path / "out" / "prepared").exists()


def test_an_image_that_changed_since_ingest_stops_the_run(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    out = run(raw, tmp_path / "out")
    shutil.copy(raw / "line_a" / "good" / "img-001.png", raw / "line_a" / "good" / "img-000.png")

    with pytest.raises(DataError, match=r"img-000\.png: changed or missing since 'ingest' read it\. Run 'dvc repro'"):
        again(raw, out)


def test_what_a_broken_off_run_prepared_is_taken_up_by_the_same_code_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = [tmp_path / "manifest", tmp_path / "locations"]
    for path in tables:
        path.touch()
    keys = {prepare._key(scenario(), tables) for _ in range(2)}
    monkeypatch.setattr(prepare.Code, "fingerprint", lambda *asked: f"other code of {asked[1:]}")

    assert prepare._key(scenario(), tables) not in keys
    assert len(keys) == 1


def test_tables_of_two_runs_are_refused(tmp_path: Path) -> None:
    one = run(write_raw(tmp_path / "raw"), tmp_path / "one")
    two = run(write_raw(tmp_path / "other", seed=1), tmp_path / "two")

    with pytest.raises(DataError, match="manifest and locations name different images"):
        prepare.run(
            prepare.Params(scenario=scenario()),
            raw=tmp_path / "raw",
            manifest=one / "manifest.parquet",
            locations=two / "locations.parquet",
            companions=one / "companions.parquet",
            checkpoints=one / "checkpoints",
            prepared=one / "prepared",
            masks_target=one / "masks_target",
        )


def test_large_images_are_decoded_one_at_a_time_while_fitting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_raw(tmp_path / "raw")
    small = go(raw, tmp_path / "small")
    monkeypatch.setattr(preparing, "_LARGE", 1)

    large = go(raw, tmp_path / "large")

    assert hash_files([small / "prepared"]) == hash_files([large / "prepared"])


SLOW = """
import sys, time
from pathlib import Path
from isthmus.data.preprocess import domain_statistics
from isthmus.data.preprocess import prepare as preparing
from tests.stages.test_prepare import again

domain_statistics._SECONDS = 0.2
row = preparing._row
preparing._row = lambda *given: (time.sleep(0.03), row(*given))[1]
again(Path(sys.argv[1]), Path(sys.argv[2]), **eval(sys.argv[3]))
"""


def killed(raw: Path, out: Path, after: int, **changes: object) -> int:
    """Starts the stage in a child, kills it once `after` images are on disk, and returns how many there were."""
    child = subprocess.Popen([sys.executable, "-c", SLOW, str(raw), str(out), repr(changes)])
    try:
        for _ in range(1200):
            states = list((out / "checkpoints").rglob("state.json"))
            if states and json.loads(states[0].read_text())["done"] >= after:
                break
            assert child.poll() is None
            time.sleep(0.05)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    return int(json.loads(states[0].read_text())["done"])


def test_a_killed_run_goes_on_where_it_was_and_ends_in_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = write_raw(tmp_path / "raw")
    for number in range(6):  # some are refused, so that they too must survive
        Image.new("L", (8, 8), number).save(raw / "line_a" / "good" / f"small-{number}.png")
    options = {"kind": "industrial", "preprocess": {"image_size": 20, "roi": [0, 0, 20, 20], "exposure": True}}
    whole = go(raw, tmp_path / "whole", **options)
    out = run(raw, tmp_path / "out", **options)
    done = killed(raw, out, 40, **options)
    assert not (out / "prepared").exists()
    rows: list[str] = []
    row = preparing._row
    monkeypatch.setattr(preparing, "_row", lambda *given: (rows.append(given[-1][0].image_id), row(*given))[1])
    monkeypatch.setattr(preparing, "_decoded", decoded := Counted(preparing._decoded))

    again(raw, out, **options)

    assert len(rows) == 102 - done
    assert decoded.calls < 102  # what was fitted is not fitted again
    assert len(facts(out)["quarantine"]) == 6
    assert hash_files([out / "prepared"]) == hash_files([whole / "prepared"])
    assert not any((out / "checkpoints").iterdir())


class Counted:
    """Counts the calls of a function."""

    def __init__(self, function: object) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *given: object) -> object:
        self.calls += 1
        return self.function(*given)


def test_a_run_that_was_cut_off_under_other_params_is_not_taken_up(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    whole = go(raw, tmp_path / "whole", preprocess={"image_size": 16})
    out = run(raw, tmp_path / "out")
    killed(raw, out, 16)

    again(raw, out, preprocess={"image_size": 16})

    assert hash_files([out / "prepared"]) == hash_files([whole / "prepared"])
    assert len(list((out / "checkpoints").iterdir())) == 1


def test_a_photograph_is_not_decoded_to_fit_what_does_not_look_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = write_raw(tmp_path / "raw")
    monkeypatch.setattr(preparing, "_decoded", decoded := Counted(preparing._decoded))

    go(raw, tmp_path / "out")

    assert decoded.calls == 97  # each image once, and the first one to learn the shape
