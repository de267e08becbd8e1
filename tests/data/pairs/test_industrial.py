import dataclasses
from pathlib import Path

import numpy as np
import pytest

from isthmus.core.files import hash_files
from isthmus.data.pairs import industrial
from isthmus.data.pairs.industrial import LINES, Config, render


def frames(line: str, label: str, count: int = 8) -> np.ndarray:
    return np.stack(
        [render(LINES[line], label, np.random.default_rng(i), np.random.default_rng(100 + i)) for i in range(count)]
    ).astype(float)


def few(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = {n: dataclasses.replace(line, counts=dict.fromkeys(line.counts, 2)) for n, line in LINES.items()}
    monkeypatch.setattr(industrial, "LINES", lines)


def test_files_are_named_by_lot_and_the_same_seed_writes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few(monkeypatch)

    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        Config().build().write(tmp_path / name, seed)

    files = sorted(p.relative_to(tmp_path / "one").as_posix() for p in (tmp_path / "one").rglob("*.png"))
    assert len(files) == 16
    assert all("/lot-" in f and "_img-" in f for f in files)
    assert hash_files([tmp_path / "one"]) == hash_files([tmp_path / "two"])
    assert hash_files([tmp_path / "one"]) != hash_files([tmp_path / "other"])


def test_the_pair_has_960_images_and_class_shares_that_differ_mildly() -> None:
    assert sum(sum(line.counts.values()) for line in LINES.values()) == 960
    assert LINES["line_a"].counts != LINES["line_b"].counts


@pytest.mark.parametrize("line", LINES)
def test_stains_and_pits_are_darker_and_scratches_rougher_than_a_good_surface(line: str) -> None:
    good, scratch, pit, stain = (frames(line, label) for label in ("good", "scratch", "pit", "stain"))

    def darkest(f: np.ndarray) -> float:
        return float(np.mean([np.quantile(one, 0.001) / np.median(one) for one in f]))

    def coarse(f: np.ndarray) -> float:  # spread of the means of 20 x 20 pixels
        return float(f.reshape(len(f), 10, 20, 10, 20).mean(axis=(2, 4)).std(axis=(1, 2)).mean())

    assert darkest(pit) < darkest(good)
    assert coarse(stain - good.mean(axis=0)) > 1.5 * coarse(good - good.mean(axis=0))
    assert np.ptp(scratch, axis=(1, 2)).mean() > 1.2 * np.ptp(good, axis=(1, 2)).mean()


def test_the_lines_differ_in_brightness_light_and_direction_of_texture() -> None:
    a, b = frames("line_a", "good"), frames("line_b", "good")

    def across(f: np.ndarray) -> float:  # variance of vertical steps over that of horizontal ones
        return float(np.diff(f, axis=1).var() / np.diff(f, axis=2).var())

    assert abs(a.mean() - b.mean()) > 10
    assert across(a) > 1.2 > 1 / 1.2 > across(b)


def test_sensor_noise_follows_the_emva_1288_model() -> None:
    flat = dataclasses.replace(LINES["line_a"], gradient=0, half_field=0, blur=0)
    radiance = np.full((200, 200), flat.albedo)
    grey = flat.full_well / 255  # [electron] a level

    frame = industrial._exposed(flat, radiance, np.random.default_rng(0)).astype(float)

    expected = np.sqrt(frame.mean() * grey + flat.dark_noise**2) / grey  # levels: photons and dark noise
    assert frame.std() == pytest.approx(np.hypot(expected, np.sqrt(1 / 12)), rel=0.05)


def test_vignetting_is_the_fourth_power_of_the_cosine() -> None:
    quiet = dataclasses.replace(LINES["line_a"], gradient=0, half_field=30, blur=0, full_well=10_000_000, dark_noise=0)

    frame = industrial._exposed(quiet, np.full((200, 200), quiet.albedo), np.random.default_rng(0)).astype(float)

    assert frame[0, 0] / frame[100, 100] == pytest.approx(np.cos(np.deg2rad(30)) ** 4, abs=0.02)
