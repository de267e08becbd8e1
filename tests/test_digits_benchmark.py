from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from benchmarks import digits
from isthmus.core.files import read_json, write_json
from isthmus.data.manifest import INDEX, MANIFEST, read_table, write_table


def test_what_was_measured_is_not_measured_again_unless_the_settings_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(digits, "trained", lambda params, pair, method, folder, work: float(not ran.append(pair)))
    monkeypatch.setattr(digits, "boxed", lambda folder, box, into: folder)
    monkeypatch.setattr(digits, "accuracies", lambda folder, run, split, score: ([0.75], []))
    params, kept = tmp_path / "digits.yaml", tmp_path / "kept" / "digits.json"
    kept.parent.mkdir()
    params.write_text("epochs: 20")

    plain = digits.Change(mnist=None, box=None)
    for _ in range(2):
        found = digits.measure(params, tmp_path, ["shot"], tmp_path, kept, plain)
    digits.measure(params, tmp_path, ["shot"], tmp_path, kept, replace(plain, box=20))
    params.write_text("epochs: 40")
    digits.measure(params, tmp_path, ["shot"], tmp_path, kept, plain)

    assert found == {"shot": {"usps_mnist": [0.75], "mnist_usps": [0.75]}}
    assert ran == ["usps_mnist", "mnist_usps"] * 3
    assert len(read_json(kept)) == 3


def test_fewer_mnist_images_train_and_nothing_else_changes(tmp_path: Path) -> None:
    frame = pd.DataFrame({f.name: [""] * 60 if pa.types.is_string(f.type) else [1] * 60 for f in MANIFEST})
    frame["image_id"] = [f"{n:032x}" for n in range(60)]
    frame["domain"] = ["mnist", "usps"] * 30
    frame["split"] = ["train", "train", "test"] * 20
    (tmp_path / "all").mkdir()
    write_table(tmp_path / "all" / "manifest.parquet", frame, MANIFEST)

    fewer = read_table(digits.thinned(tmp_path / "all", 7, tmp_path / "fewer") / "manifest.parquet", MANIFEST)

    before = frame.set_index("image_id")["split"]
    changed = fewer[fewer["split"] != before.loc[fewer["image_id"]].to_numpy()]
    assert ((fewer["domain"] == "mnist") & (fewer["split"] == "train")).sum() == 7
    assert set(changed["split"]) == {"cal"}
    assert set(changed["domain"]) == {"mnist"}


def test_usps_digits_are_shrunk_and_nothing_else_changes(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    images = {name: generator.integers(1, 256, (4, 28, 28, 1), np.uint8) for name in ("mnist", "usps")}
    frame = pd.DataFrame({f.name: [""] * 8 if pa.types.is_string(f.type) else [1] * 8 for f in MANIFEST})
    frame["image_id"], frame["domain"] = [f"{n:032x}" for n in range(8)], ["mnist", "usps"] * 4
    frame["split"] = ["train"] * 4 + ["test"] * 4
    index = frame[["image_id", "domain"]].assign(shard=frame["domain"], row=[n // 2 for n in range(8)])
    prepared = tmp_path / "all" / "prepared"
    (prepared / "shards").mkdir(parents=True)
    write_table(tmp_path / "all" / "manifest.parquet", frame, MANIFEST)
    write_table(prepared / "index.parquet", index, INDEX)
    for name, pixels in images.items():
        np.save(prepared / "shards" / f"{name}.npy", pixels)
    both = {"mnist": [0.5], "usps": [0.5]}
    facts = {"height": 28, "width": 28, "dtype": "uint8", "mean": both, "std": both}
    write_json(prepared / "facts.json", facts)

    made = digits.boxed(tmp_path / "all", 20, tmp_path / "boxed") / "prepared"

    shrunk = np.load(made / "shards" / "usps.npy")
    kept = np.load(prepared / "shards" / "usps.npy")
    assert shrunk.shape == (4, 28, 28, 1)
    assert shrunk[:, 4:24, 4:24].all()
    assert shrunk.sum(dtype=int) == shrunk[:, 4:24, 4:24].sum(dtype=int)
    assert (kept == images["usps"]).all()
    assert (np.load(made / "shards" / "mnist.npy") == images["mnist"]).all()
    told = read_json(made / "facts.json")
    assert told["mean"] == {"mnist": [0.5], "usps": [pytest.approx(shrunk[:2].mean() / 255, abs=1e-6)]}
    assert told["std"]["usps"] == [pytest.approx(shrunk[:2].std() / 255, abs=1e-6)]
    assert read_json(prepared / "facts.json") == facts


def test_the_table_has_ours_beside_the_published() -> None:
    lines = digits.table({"mcd": {"usps_mnist": [0.9, 0.92], "mnist_usps": [0.5]}}).splitlines()

    assert lines[2].startswith("| mcd | 91.0 (90.0 to 92.0) | 94.1 | 50.0 (50.0 to 50.0) | 94.2 |")
