import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom")

from isthmus.core.files import hash_files
from isthmus.data.pairs import medical
from isthmus.data.pairs.medical import FIELD, SCANNERS, Config, render
from isthmus.data.readers.dicom import FileReader


def slices(scanner: str, label: str, count: int = 6) -> np.ndarray:
    return np.stack(
        [
            render(SCANNERS[scanner], label, np.random.default_rng(i), np.random.default_rng(100 + i))
            for i in range(count)
        ]
    )


def few(monkeypatch: pytest.MonkeyPatch) -> None:
    scanners = {n: dataclasses.replace(s, counts=dict.fromkeys(s.counts, 2)) for n, s in SCANNERS.items()}
    monkeypatch.setattr(medical, "SCANNERS", scanners)


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
    assert [sum(s.counts.values()) for s in SCANNERS.values()] == [360, 360]
    assert SCANNERS["ct_a"].counts != SCANNERS["ct_b"].counts


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


@pytest.mark.parametrize("scanner", SCANNERS)
def test_findings_change_the_lung_as_their_sources_say(scanner: str) -> None:
    normal, emphysema, effusion, nodule = (
        slices(scanner, label) for label in ("normal", "emphysema", "effusion", "nodule")
    )
    body = slice(SCANNERS[scanner].side // 4, -SCANNERS[scanner].side // 4)

    def share(found: np.ndarray, low: float, high: float) -> float:
        inside = found[:, body, body]
        return float(((inside > low) & (inside < high)).mean())

    assert share(emphysema, -1100, -910) > share(normal, -1100, -910) + 0.01
    assert share(effusion, -20, 60) > share(normal, -20, 60) + 0.02
    assert share(nodule, -20, 80) > share(normal, -20, 80)


def test_the_noise_of_a_scanner_is_the_stated_one_and_the_sharp_kernel_is_sharper() -> None:
    water = {name: np.zeros((s.side, s.side)) for name, s in SCANNERS.items()}
    edge = {name: np.tile(np.arange(s.side) >= s.side // 2, (s.side, 1)) * 1000.0 for name, s in SCANNERS.items()}
    rng = np.random.default_rng(0)

    noise = {name: medical._reconstructed(s, water[name], rng).std() for name, s in SCANNERS.items()}
    width = {}
    for name, s in SCANNERS.items():
        profile = medical._reconstructed(dataclasses.replace(s, noise=1e-6), edge[name], rng)[s.side // 2]
        near = profile[s.side // 2 - 10 : s.side // 2 + 10]
        width[name] = ((near > 100) & (near < 900)).sum() * FIELD / s.side

    assert noise == pytest.approx({name: s.noise for name, s in SCANNERS.items()}, rel=1e-3)
    assert width["ct_b"] < width["ct_a"]


def test_the_kernel_passes_half_of_the_contrast_at_f50() -> None:
    scanner = dataclasses.replace(SCANNERS["ct_a"], noise=1e-9)
    pixel = FIELD / scanner.side
    cycles = round(scanner.f50 * FIELD)
    wave = np.cos(2 * np.pi * cycles * np.arange(scanner.side) * pixel / FIELD)

    passed = medical._reconstructed(scanner, np.tile(wave, (scanner.side, 1)), np.random.default_rng(0))

    assert np.ptp(passed) / 2 == pytest.approx(2 ** -((cycles / FIELD / scanner.f50) ** 2), rel=0.01)
