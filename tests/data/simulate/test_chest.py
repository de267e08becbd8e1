import dataclasses

import numpy as np
import pytest

pytest.importorskip("pydicom")

from isthmus.data.simulate import chest
from isthmus.data.simulate.chest import FIELD, SCANNERS, render


def slices(scanner: str, label: str, count: int = 6) -> np.ndarray:
    return np.stack(
        [
            render(SCANNERS[scanner], label, np.random.default_rng(i), np.random.default_rng(100 + i))[0]
            for i in range(count)
        ]
    )


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

    noise = {name: chest._reconstructed(s, water[name], rng).std() for name, s in SCANNERS.items()}
    width = {}
    for name, s in SCANNERS.items():
        profile = chest._reconstructed(dataclasses.replace(s, noise=1e-6), edge[name], rng)[s.side // 2]
        near = profile[s.side // 2 - 10 : s.side // 2 + 10]
        width[name] = ((near > 100) & (near < 900)).sum() * FIELD / s.side

    assert noise == pytest.approx({name: s.noise for name, s in SCANNERS.items()}, rel=1e-3)
    assert width["ct_b"] < width["ct_a"]


def test_the_kernel_passes_half_of_the_contrast_at_f50() -> None:
    scanner = dataclasses.replace(SCANNERS["ct_a"], noise=1e-9)
    pixel = FIELD / scanner.side
    cycles = round(scanner.f50 * FIELD)
    wave = np.cos(2 * np.pi * cycles * np.arange(scanner.side) * pixel / FIELD)

    passed = chest._reconstructed(scanner, np.tile(wave, (scanner.side, 1)), np.random.default_rng(0))

    assert np.ptp(passed) / 2 == pytest.approx(2 ** -((cycles / FIELD / scanner.f50) ** 2), rel=0.01)


@pytest.mark.parametrize("label", ["nodule", "emphysema", "effusion"])
def test_the_share_of_a_finding_is_where_the_slice_differs_from_one_without_it(label: str) -> None:
    scanner = dataclasses.replace(SCANNERS["ct_a"], noise=1e-9, f50=10.0)
    made = {
        name: render(scanner, name, np.random.default_rng(1), np.random.default_rng(2)) for name in ("normal", label)
    }

    changed = np.abs(made[label][0] - made["normal"][0])

    share = made[label][1]
    assert not made["normal"][1].any()
    assert 0 <= share.min() < share.max() <= 1
    assert changed[share == 0].max() < 1
    assert changed[share > 0.5].mean() > 50
