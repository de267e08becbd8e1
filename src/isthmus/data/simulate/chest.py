"""A chest phantom under two CT scanners: slices with their findings, and the DICOM files that the scanners write.

The scanners differ in kernel, noise, tube voltage, pixel size, encoding of the pixels, size of the patients, and how
far these breathe in. Every constant below was set from the cited models, or within the range they give, before any
method ran on the images, and is not tuned afterwards. Slices of one patient share body and breath.

Sources of the models:
    scale      HU = 1000 (mu - mu_water) / mu_water: Hounsfield, Br. J. Radiol. 46 (1973) 1016-1022
    phantom    sum of ellipses: Shepp and Logan, IEEE Trans. Nucl. Sci. 21 (1974) 21-43
    voltage    bone changes with the energy and water does not: Alvarez and Macovski, Phys. Med. Biol. 21 (1976) 733-744
    kernel     modulation transfer, here Gaussian with 50 % at f50: Boone, Med. Phys. 28 (2001) 356-360
    noise      power spectrum ~ f MTF(f)^2 of filtered back-projection: Riederer, Pelc, Chesler, Phys. Med. Biol. 23
               (1978) 446-454
    nodule     rounded, at most 30 mm: Hansell et al., Fleischner Society glossary, Radiology 246 (2008) 697-722
    emphysema  lung below -910 HU: Mueller, Staples, Miller, Abboud, Chest 94 (1988) 782-787
    effusion   fluid of about 12 to 17 HU: Nandalur et al., Acta Radiol. 46 (2005) 121-124
    encoding   slope, intercept, MONOCHROME1, window: DICOM PS3.3, C.7.6.3, C.11.1, C.11.2
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

Frame = NDArray[np.floating[Any]]

FIELD = 384.0  # [mm] side of the reconstructed square
AIR, FAT, SOFT, HEART, BONE = -1000.0, -100.0, 45.0, 40.0, 450.0  # [HU] at 120 kV
RIB = 0.8  # of the bone's value, for ribs are part marrow


@dataclass(frozen=True)
class Scanner:
    """One CT scanner and the people who are sent to it.

    Attributes:
        side: of the matrix [pixel]; the pixel is `FIELD / side` [mm].
        f50: frequency at which the kernel passes half of the contrast [line pairs/mm].
        noise: standard deviation in the middle of the body [HU].
        bone: contrast of bone against that at 120 kV.
        lung: of a breath held [HU].
        size: of the body against the standard one.
        slope, intercept: HU = slope * stored + intercept.
        signed: whether stored pixels are two's complement.
        photometric: DICOM's word for which end is black.
        window: centre and width that the scanner proposes [HU].
    """

    side: int
    f50: float
    noise: float
    bone: float
    lung: float
    size: float
    slope: float
    intercept: float
    signed: bool
    photometric: str
    window: tuple[float, float]


SCANNERS = {
    # soft kernel, full dose at 120 kV, deep inspiration, the commonest encoding
    "ct_a": Scanner(
        side=192,
        f50=0.14,
        noise=10,
        bone=1.0,
        lung=-850,
        size=1.0,
        slope=1.0,
        intercept=-1024,
        signed=False,
        photometric="MONOCHROME2",
        window=(-600, 1500),
    ),
    # sharp kernel, low dose at 80 kV, shallower breath, larger bodies, signed and inverted, a mediastinal window
    "ct_b": Scanner(
        side=160,
        f50=0.26,
        noise=40,
        bone=1.35,
        lung=-780,
        size=1.1,
        slope=0.5,
        intercept=0,
        signed=True,
        photometric="MONOCHROME1",
        window=(40, 400),
    ),
}


def render(
    scanner: Scanner,
    label: str,
    body: np.random.Generator,
    rng: np.random.Generator,
    radius: tuple[float, float] = (4.5, 13.0),
) -> tuple[Frame, Frame]:
    """Returns one slice [HU] `[side, side]` (anatomy, finding, kernel, noise), and the finding's share of each pixel.

    Args:
        scanner: where it is taken.
        label: `normal`, `nodule`, `emphysema` or `effusion`.
        body: draws what the patient's slices share.
        rng: draws everything else.
        radius: least and greatest of a nodule [mm].
    """
    size, breath, ribs = scanner.size * body.lognormal(0, 0.07), body.normal(0, 25), body.uniform(0, np.pi / 6)
    y, x = (np.indices((scanner.side, scanner.side)) + 0.5 - scanner.side / 2) * (FIELD / scanner.side)
    x, y = ((axis - rng.normal(0, 4)).astype(np.float32) / np.float32(size) for axis in (x, y))
    image, lungs = _anatomy(scanner, x, y, scanner.lung + breath + rng.normal(0, 10), ribs, rng)
    finding: Frame = np.zeros_like(image)
    if label == "nodule":
        image, finding = _nodule(image, lungs, x, y, rng, radius)
    elif label != "normal":
        image, finding = _FINDINGS[label](image, lungs, x, y, rng)
    return _reconstructed(scanner, image, rng), finding


def _ellipse(x: Frame, y: Frame, middle: tuple[float, float], half: tuple[float, float], turn: float = 0) -> Frame:
    """Returns the share of each pixel inside an ellipse, with an edge 2.4 mm wide; lengths in [mm]."""
    reach = max(half) * (1 + 2.4 / min(half))  # beyond it the share is zero, and most ellipses are small
    rows = slice(*np.searchsorted(y[:, 0], [middle[1] - reach, middle[1] + reach]))
    columns = slice(*np.searchsorted(x[0], [middle[0] - reach, middle[0] + reach]))
    c, s = float(np.cos(turn)), float(np.sin(turn))
    right, down = x[rows, columns] - middle[0], y[rows, columns] - middle[1]
    u, v = right * (c / half[0]) + down * (s / half[0]), down * (c / half[1]) - right * (s / half[1])
    share = np.zeros_like(x)
    share[rows, columns] = np.clip(0.5 - (np.sqrt(u * u + v * v) - 1) * (min(half) / 2.4), 0, 1)
    return share


def _put(image: Frame, cover: Frame, value: float | Frame) -> Frame:
    return image * (1 - cover) + value * cover


def _anatomy(
    scanner: Scanner, x: Frame, y: Frame, lung: float, ribs: float, rng: np.random.Generator
) -> tuple[Frame, Frame]:
    """Returns a chest without a finding [HU], and the share of lung in each pixel."""
    image: Frame = np.full(x.shape, AIR, np.float32)
    image = _put(image, _ellipse(x, y, (0, 0), (150, 105)), FAT)
    image = _put(image, _ellipse(x, y, (0, 0), (136, 93)), SOFT)
    lungs = np.maximum(
        _ellipse(x, y, (-66, -2), (49 + rng.normal(0, 3), 72 + rng.normal(0, 3)), 0.12),
        _ellipse(x, y, (66, -2), (49 + rng.normal(0, 3), 72 + rng.normal(0, 3)), -0.12),
    )
    heart = _ellipse(x, y, (14 + rng.normal(0, 3), -22), (46, 36), 0.5)
    lungs = lungs * (1 - heart)
    image = _put(image, lungs, lung + 30 * y / 72)  # the lower lung, on which the patient lies, is denser
    image = _put(image, heart, HEART)
    bone = BONE * scanner.bone
    image = _put(image, _ellipse(x, y, (0, 62), (19, 16)), bone * 0.6)
    image = _put(image, _ellipse(x, y, (0, 82), (7, 13)), bone)
    for angle in np.arange(12) * np.pi / 6 + ribs:
        place = (127 * np.cos(angle), 86 * np.sin(angle))
        image = _put(image, _ellipse(x, y, place, (11, 4), angle + np.pi / 2), bone * RIB)
    return _with_vessels(image, lungs, x, y, rng), lungs


def _with_vessels(image: Frame, lungs: Frame, x: Frame, y: Frame, rng: np.random.Generator) -> Frame:
    """Returns the slice with vessels cut across and along: thicker near the hilum, where they come from."""
    for _ in range(26):
        side, away = rng.choice([-1.0, 1.0]), rng.uniform(0.1, 1)
        place = (float(side) * (28 + 72 * away), rng.normal(0, 26))
        thick = (2.6 - 1.7 * away) * rng.uniform(0.7, 1.2)
        long = thick * rng.choice([1.0, 1.3, 5.0])
        image = _put(image, _ellipse(x, y, place, (long, thick), rng.uniform(0, np.pi)) * lungs, SOFT)
    return image


def _inside_lung(lungs: Frame, rng: np.random.Generator) -> tuple[int, int]:
    places = np.argwhere(lungs > 0.95)
    row, column = places[rng.integers(len(places))]
    return int(row), int(column)


def _nodule(
    image: Frame, lungs: Frame, x: Frame, y: Frame, rng: np.random.Generator, radii: tuple[float, float]
) -> tuple[Frame, Frame]:
    """Returns one or two rounded solid nodules."""
    finding: Frame = np.zeros_like(image)
    for _ in range(rng.integers(1, 3)):
        row, column = _inside_lung(lungs, rng)
        radius = rng.uniform(*radii)
        half = (radius, radius * rng.uniform(0.75, 1))
        cover = _ellipse(x, y, (x[row, column], y[row, column]), half, rng.uniform(0, np.pi)) * lungs
        image, finding = _put(image, cover, rng.uniform(15, 60)), np.maximum(finding, cover)
    return image, finding


def _emphysema(image: Frame, lungs: Frame, x: Frame, y: Frame, rng: np.random.Generator) -> tuple[Frame, Frame]:
    """Returns holes of 6 to 28 mm without tissue, -985 to -930 HU, in a third of the lung or so."""
    finding: Frame = np.zeros_like(image)
    for _ in range(rng.integers(18, 40)):
        row, column = _inside_lung(lungs, rng)
        radius = rng.uniform(3, 14)
        half = (radius, radius * rng.uniform(0.6, 1))
        cover = _ellipse(x, y, (x[row, column], y[row, column]), half, rng.uniform(0, np.pi))
        tissue = np.clip((image + 700) / 300, 0, 1)  # vessels stay
        cover = cover * lungs * (1 - tissue) * 0.9
        image, finding = _put(image, cover, rng.uniform(-985, -930)), np.maximum(finding, cover)
    return image, finding


def _effusion(image: Frame, lungs: Frame, x: Frame, y: Frame, rng: np.random.Generator) -> tuple[Frame, Frame]:
    """Returns fluid behind the lung of one or both sides: below a level that rises to the chest wall."""
    finding: Frame = np.zeros_like(image)
    for side in (-1, 1) if rng.random() < 0.4 else (rng.choice([-1, 1]),):
        level = rng.uniform(18, 48) - 0.0025 * (x * side - 50) ** 2
        cover = 1 / (1 + np.exp(np.clip((level - y) / 1.5, -60, 60))) * (x * side > 0) * lungs
        image, finding = _put(image, cover, rng.uniform(8, 20)), np.maximum(finding, cover)
    return image, finding


_FINDINGS = {"emphysema": _emphysema, "effusion": _effusion}


def _reconstructed(scanner: Scanner, image: Frame, rng: np.random.Generator) -> Frame:
    """Returns what the scanner makes of a slice: MTF = exp(-ln 2 (f / f50)^2), noise with power ~ f MTF^2."""
    pixel = FIELD / scanner.side
    axes = np.fft.fftfreq(scanner.side, pixel), np.fft.rfftfreq(scanner.side, pixel)
    frequency = np.hypot(*np.meshgrid(*axes, indexing="ij"))
    passed = np.exp(-np.log(2) * (frequency / scanner.f50) ** 2)
    spread = np.sqrt(frequency) * passed
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(image.shape)) * spread, s=image.shape)
    sharp = np.fft.irfft2(np.fft.rfft2(image) * passed, s=image.shape)
    return sharp + noise * (scanner.noise / noise.std())


def save(path: Path, scanner: Scanner, name: str, patient: int, number: int, seed: int, image: Frame) -> None:
    """Writes one CT image.

    Args:
        path: of the file.
        scanner: that took it.
        name: of whose patients it is; UIDs follow from it, the numbers and the seed.
        patient, number: of the slice.
        seed: of the pair.
        image: the slice [HU].
    """
    low, high = (-32768, 32767) if scanner.signed else (0, 4095)
    stored = np.clip(np.rint((image - scanner.intercept) / scanner.slope), low, high)
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(seed), name, "image", str(number)])
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[str(seed), name, "study", str(patient)])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[str(seed), name, "series", str(patient)])
    dataset.PatientName, dataset.PatientID = "Simulated^Phantom", f"SIM-{name}-{patient:02d}"
    dataset.Modality, dataset.ImageType = "CT", ["DERIVED", "PRIMARY", "AXIAL"]
    dataset.Manufacturer, dataset.BodyPartExamined = "simulated", "CHEST"
    dataset.InstanceNumber, dataset.BurnedInAnnotation = str(number), "NO"
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-FIELD / 2, -FIELD / 2, number]
    dataset.PixelSpacing, dataset.SliceThickness = [FIELD / scanner.side] * 2, "3"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, scanner.photometric
    dataset.Rows = dataset.Columns = scanner.side
    dataset.BitsAllocated, dataset.PixelRepresentation = 16, int(scanner.signed)
    dataset.BitsStored = 16 if scanner.signed else 12
    dataset.HighBit = dataset.BitsStored - 1
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = scanner.slope, scanner.intercept, "HU"
    dataset.WindowCenter, dataset.WindowWidth = scanner.window
    dataset.PixelData = stored.astype("<i2" if scanner.signed else "<u2").tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
