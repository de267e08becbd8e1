from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom")

from isthmus.core.files import hash_files
from isthmus.data.pairs import medical
from isthmus.data.pairs.medical import COUNTS, Config
from isthmus.data.readers.dicom import FileReader
from isthmus.data.simulate.chest import FIELD, SCANNERS


def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(medical, "COUNTS", {name: dict.fromkeys(counts, 2) for name, counts in COUNTS.items()})


def test_files_are_named_by_patient_and_the_same_seed_writes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch)

    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        Config().build().write(tmp_path / name, seed)

    files = sorted(p.relative_to(tmp_path / "one").as_posix() for p in (tmp_path / "one").rglob("*.dcm"))
    assert len(files) == 16
    assert all("/patient-" in f and "_img-" in f for f in files)
    assert hash_files([tmp_path / "one"]) == hash_files([tmp_path / "two"])
    assert hash_files([tmp_path / "one"]) != hash_files([tmp_path / "other"])


def test_the_pair_has_720_images_and_class_shares_that_differ_mildly() -> None:
    assert [sum(counts.values()) for counts in COUNTS.values()] == [360, 360]
    assert COUNTS["ct_a"] != COUNTS["ct_b"]


def test_both_scanners_files_read_back_to_hounsfield_units_by_their_own_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch)
    Config().build().write(tmp_path, 0)

    for name, scanner in SCANNERS.items():
        image = FileReader().read(next((tmp_path / name / "normal").iterdir()), "")
        middle = image.pixels[:, :, 0][scanner.side // 3 : scanner.side // 2, scanner.side // 2]
        assert image.mode == "hu"
        assert image.facts["pixel_spacing_mm"] == [FIELD / scanner.side] * 2
        assert image.facts["monochrome1"] == (scanner.photometric == "MONOCHROME1")
        assert image.facts["burned_in"] == "no"
        assert np.median(image.pixels[:5]) == pytest.approx(-1000, abs=25)
        assert np.median(middle) == pytest.approx(40, abs=60)
