from pathlib import Path

import pytest

from benchmarks import digits
from isthmus.core.files import read_json


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


def test_the_table_has_ours_beside_the_published() -> None:
    lines = digits.table({"mcd": {"usps_mnist": [0.9, 0.92], "mnist_usps": [0.5]}}).splitlines()

    assert lines[2].startswith("| mcd | 91.0 (90.0 to 92.0) | 94.1 | 50.0 (50.0 to 50.0) | 94.2 |")
