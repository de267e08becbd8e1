from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from benchmarks import digits
from isthmus.core.files import read_json
from isthmus.data.manifest import MANIFEST, read_table, write_table


def test_what_was_measured_is_not_measured_again_unless_the_settings_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(digits, "trained", lambda params, pair, method, folder, work: float(not ran.append(pair)))
    monkeypatch.setattr(digits, "accuracies", lambda folder, run, split, score: ([0.75], []))
    params, kept = tmp_path / "digits.yaml", tmp_path / "kept" / "digits.json"
    kept.parent.mkdir()
    params.write_text("epochs: 20")

    for _ in range(2):
        found = digits.measure(params, tmp_path, ["shot"], tmp_path, kept)
    params.write_text("epochs: 40")
    digits.measure(params, tmp_path, ["shot"], tmp_path, kept)

    assert found == {"shot": {"usps_mnist": [0.75], "mnist_usps": [0.75]}}
    assert ran == ["usps_mnist", "mnist_usps"] * 2
    assert len(read_json(kept)) == 2


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


def test_the_table_has_ours_beside_the_published() -> None:
    lines = digits.table({"mcd": {"usps_mnist": [0.9, 0.92], "mnist_usps": [0.5]}}).splitlines()

    assert lines[2].startswith("| mcd | 91.0 (90.0 to 92.0) | 94.1 | 50.0 (50.0 to 50.0) | 94.2 |")
