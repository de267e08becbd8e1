"""SIMULATED: one product, two inspection lines that differ in light, surface texture and optics.

No camera ever saw these images. Kind of shift: covariate (texture, light, optics) with a mild change of class
shares. Every constant below was set from the cited models before any method ran on the images, and is not tuned
afterwards. A lot is a batch of sheet with its own finish: it groups images that must not cross splits.

Sources of the models:
    texture    self-affine roughness, PSD ~ (1 + (k/k0)^2)^-(1+H): Persson et al., J. Phys. Condens. Matter 17 (2005)
               R1; its stretch along the rolling direction: Peklenik, Proc. IMechE 182 (1967) 108-126
    shading    I = albedo (1 - tan(zenith) dh/dl), linear for small slopes: Kube and Pentland, IEEE TPAMI 10 (1988)
               704-707, eq. 3
    stain      dried drop with a darker rim: Deegan et al., Nature 389 (1997) 827-829
    optics     Gaussian point spread: Zhang, Zerubia, Olivo-Marin, Applied Optics 46 (2007) 1819-1829;
               cos^4 fall-off: Reiss, J. Opt. Soc. Am. 35 (1945) 283-288
    sensor     photon noise, dark noise, quantisation: EMVA Standard 1288, Release 4.0 (2021), section 2
    gamma      power law of a camera's encoded output: ITU-R BT.709-6 (2015), item 1.2
"""

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from isthmus.core.seeds import derive_seed
from isthmus.data.pairs import Pair, PairConfig, write_each

Frame = NDArray[np.float64]
Job = tuple[str, str, int, int]  # line, class, lot, number

SIDE = 200  # [pixel]
_CHANGED = 0.05  # [pixel] of height, or [share] of reflected light, by which a defect changes the surface it lies on
LOTS = 80  # a line: six images of a lot, so that a split by lot keeps near its shares


@dataclass(frozen=True)
class Line:
    """One inspection line.

    Attributes:
        counts: images a class.
        direction: of rolling in the image [degree].
        stretch: Peklenik's ratio of correlation lengths, along to across.
        roll_off: wavelength above which roughness no longer grows [pixel].
        hurst: exponent H of the roughness.
        slope: root mean square slope of the texture.
        albedo: share of light that the clean surface returns.
        zenith, azimuth: of the lamp [degree].
        gradient: change of light from one side of the frame to the other [share].
        blur: standard deviation of the point spread [pixel].
        half_field: angle from the axis to the frame's corner [degree].
        full_well: electrons at saturation; 8-bit output, so one grey level is full_well / 255 electrons.
        dark_noise: standard deviation [electron].
        exposure: mean signal of the clean surface [share of full well].
        gamma: exponent of the output.
    """

    counts: dict[str, int]
    direction: float
    stretch: float
    roll_off: float
    hurst: float
    slope: float
    albedo: float
    zenith: float
    azimuth: float
    gradient: float
    blur: float
    half_field: float
    full_well: float
    dark_noise: float
    exposure: float
    gamma: float


LINES = {
    # machine-vision camera with a telecentric-like lens, even light at 45 degrees, finely brushed sheet
    "line_a": Line(
        counts={"good": 150, "scratch": 120, "pit": 110, "stain": 100},
        direction=0,
        stretch=8,
        roll_off=20,
        hurst=0.8,
        slope=0.08,
        albedo=0.5,
        zenith=45,
        azimuth=60,
        gradient=0.05,
        blur=0.6,
        half_field=6,
        full_well=10_000,
        dark_noise=10,
        exposure=0.45,
        gamma=1.0,
    ),
    # older camera with a wide lens slightly out of focus, one low lamp from the side, coarser finish rolled upright
    "line_b": Line(
        counts={"good": 130, "scratch": 100, "pit": 130, "stain": 120},
        direction=90,
        stretch=3,
        roll_off=50,
        hurst=0.7,
        slope=0.12,
        albedo=0.4,
        zenith=60,
        azimuth=-20,
        gradient=0.45,
        blur=1.3,
        half_field=25,
        full_well=2_500,
        dark_noise=25,
        exposure=0.25,
        gamma=0.45,
    ),
}


class Config(PairConfig):
    """No options: what the lines are is written above."""

    def build(self) -> "Industrial":
        """Returns the pair."""
        return Industrial()


class Industrial(Pair):
    """Writes 960 grey PNG of 200 x 200 pixels: `<line>/<class>/lot-NN_img-NNNN.png`."""

    def write(self, folder: Path, seed: int) -> None:
        """Writes all images of both lines; the same seed writes the same bytes."""
        jobs = [job for name, line in LINES.items() for job in _jobs(name, line, seed)]
        write_each(partial(_write, folder, seed), jobs, "industrial")


def _write(folder: Path, seed: int, job: Job) -> None:
    name, label, lot, number = job
    rng = np.random.default_rng(derive_seed(seed, name, "image", number))
    finish = np.random.default_rng(derive_seed(seed, name, "lot", lot))
    path = folder / name / label / f"lot-{lot:02d}_img-{number:04d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(render(LINES[name], label, finish, rng)).save(path)


def _jobs(name: str, line: Line, seed: int) -> list[Job]:
    labels = [label for label, count in line.counts.items() for _ in range(count)]
    order = np.random.default_rng(derive_seed(seed, name, "order")).permutation(len(labels))
    return [(name, labels[place], number % LOTS, number) for number, place in enumerate(order)]


def render(line: Line, label: str, finish: np.random.Generator, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Returns one frame, uint8 `[200, 200]`: surface, defect, light, lens, sensor.

    Args:
        line: where it is seen.
        label: `good`, `scratch`, `pit` or `stain`.
        finish: draws what the lot's images share.
        rng: draws everything else.
    """
    return seen(line, label, finish, rng)[0]


def seen(
    line: Line, label: str, finish: np.random.Generator, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Returns a frame as `render`, and which of its pixels are changed by the defect, bool `[200, 200]`."""
    turn, rough, bright = finish.normal(0, 3), finish.lognormal(0, 0.15), finish.normal(1, 0.05)
    height = _texture(line, turn, rng) * line.slope * rough
    albedo = np.full((SIDE, SIDE), line.albedo * bright)
    defect = np.zeros((SIDE, SIDE), np.bool_)
    if label != "good":
        shape, cover = _DEFECTS[label](line, rng)
        height, albedo = height + shape, albedo * cover
        defect = (np.abs(shape) > _CHANGED) | (np.abs(cover - 1) > _CHANGED)
    toward = np.deg2rad(line.azimuth + rng.normal(0, 2))
    down, across = np.gradient(height)
    slope = across * np.cos(toward) + down * np.sin(toward)
    radiance = albedo * np.clip(1 - np.tan(np.deg2rad(line.zenith)) * slope, 0.02, None)
    return _exposed(line, radiance, rng), defect


def _texture(line: Line, turn: float, rng: np.random.Generator) -> Frame:
    """Returns a rolled surface whose slope has a root mean square of one."""
    ky, kx = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.rfftfreq(SIDE), indexing="ij")
    angle = np.deg2rad(line.direction + turn)
    along, across = kx * np.cos(angle) + ky * np.sin(angle), ky * np.cos(angle) - kx * np.sin(angle)
    k = np.hypot(along * np.sqrt(line.stretch), across / np.sqrt(line.stretch))
    amplitude = (1 + (k * line.roll_off) ** 2) ** (-(1 + line.hurst) / 2)
    amplitude[0, 0] = 0
    height = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) * amplitude, s=(SIDE, SIDE))
    return height / np.sqrt(np.mean(np.sum(np.square(np.gradient(height)), axis=0)))


def _scratch(line: Line, rng: np.random.Generator) -> tuple[Frame, Frame]:
    """Returns one to three grooves with ridges ploughed up on both sides, and the brighter metal inside them."""
    height, cover = np.zeros((SIDE, SIDE)), np.ones((SIDE, SIDE))
    for _ in range(rng.integers(1, 4)):
        u, v = _axes(rng.uniform(0.25, 0.75, 2) * SIDE, line.direction + rng.uniform(-75, 75))
        half, width = rng.uniform(30, 90), rng.uniform(0.8, 2.0)
        v = v - rng.normal(0, 4e-4) * u**2
        inside = 1 / (1 + np.exp((np.abs(u) - half) / 3))
        groove, ridge = np.exp(-(v**2) / (2 * width**2)), np.exp(-((np.abs(v) - 2.5 * width) ** 2) / (2 * width**2))
        height += rng.uniform(0.4, 1.0) * width * (0.3 * ridge - groove) * inside
        cover += rng.uniform(0.1, 0.4) * groove * inside
    return height, cover


def _pit(line: Line, rng: np.random.Generator) -> tuple[Frame, Frame]:
    """Returns a cluster of spherical caps, darker inside, where corrosion traps light."""
    height, cover = np.zeros((SIDE, SIDE)), np.ones((SIDE, SIDE))
    middle = rng.uniform(0.3, 0.7, 2) * SIDE
    for _ in range(rng.integers(4, 15)):
        y, x = _axes(middle + rng.normal(0, 28, 2), 0)
        radius = rng.uniform(2, 6)
        cap = np.clip(1 - (x**2 + y**2) / radius**2, 0, None)
        height -= rng.uniform(0.3, 0.6) * radius * cap
        cover *= 1 - rng.uniform(0.3, 0.6) * np.sqrt(cap)
    return height, cover


def _stain(line: Line, rng: np.random.Generator) -> tuple[Frame, Frame]:
    """Returns one or two flat dried drops: darker, with a rim darker still, and no relief."""
    cover = np.ones((SIDE, SIDE))
    for _ in range(rng.integers(1, 3)):
        x, y = _axes(rng.uniform(0.25, 0.75, 2) * SIDE, rng.uniform(0, 360))
        around, outline = np.arctan2(y, x), np.ones((SIDE, SIDE))
        for mode in range(2, 7):
            outline += rng.normal(0, 0.25 / mode) * np.cos(mode * around + rng.uniform(0, 2 * np.pi))
        edge = np.hypot(x, y * rng.uniform(0.8, 1.4)) - rng.uniform(18, 45) * outline
        inside, rim = 1 / (1 + np.exp(edge / 1.5)), np.exp(-((edge + 3) ** 2) / (2 * 2.0**2))
        cover *= 1 - rng.uniform(0.15, 0.35) * inside - rng.uniform(0.08, 0.2) * rim
    return np.zeros((SIDE, SIDE)), cover


_DEFECTS = {"scratch": _scratch, "pit": _pit, "stain": _stain}


def _axes(middle: Frame, angle: float) -> tuple[Frame, Frame]:
    """Returns coordinates along and across a direction, zero at `middle` [pixel]."""
    places = np.arange(SIDE, dtype=np.float64)
    y, x = places[:, None] - middle[0], places - middle[1]
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return x * c + y * s, y * c - x * s


@lru_cache
def _optics(blur: float, half_field: float) -> tuple[Frame, Frame]:
    """Returns the Fourier transform of a line's Gaussian point spread, and how its light falls off to the corners."""
    fy, fx = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.rfftfreq(SIDE), indexing="ij")
    x, y = _axes(np.full(2, (SIDE - 1) / 2), 0)
    fall = np.cos(np.arctan(np.hypot(x, y) / (SIDE / np.sqrt(2)) * np.tan(np.deg2rad(half_field)))) ** 4
    return np.exp(-2 * (np.pi * blur) ** 2 * (fx**2 + fy**2)), fall


def _exposed(line: Line, radiance: Frame, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Returns what the camera makes of the light that leaves the surface."""
    spread, fall = _optics(line.blur, line.half_field)
    image = np.fft.irfft2(np.fft.rfft2(radiance) * spread, s=(SIDE, SIDE))
    along, _ = _axes(np.full(2, (SIDE - 1) / 2), line.azimuth + 180)
    light = fall * (1 + line.gradient * along / SIDE)
    level = line.exposure * line.full_well / line.albedo * rng.normal(1, 0.03)
    electrons = rng.poisson(np.clip(image * light * level, 0, None)) + rng.normal(0, line.dark_noise, image.shape)
    signal = np.clip(electrons / line.full_well, 0, 1) ** line.gamma
    return np.rint(signal * 255).astype(np.uint8)
