"""How fast `ingest` and `prepare` take images, against a plain loop in one process, and what memory they need.

python -m benchmarks.ingest [--images 5000] [--form photographs] [--size 300 400] [--folder DIR] [--write .]

The loop opens, decodes and resizes each photograph by Pillow to the side that `prepare` writes, bicubic as `prepare`
does, and keeps nothing; of DICOM it reads the slice by pydicom and takes the window before that; of GeoTIFF it reads
each tile by rasterio, in windows of the size that `prepare` writes. All three run in the same folder, one after
another, so that the ratios hold on a busy machine too. Memory is the anonymous memory (RssAnon + RssShmem) of the
process and all its children, sampled every 200 ms (every 20 ms took a tenth of a processor from those that are
measured): files that are mapped belong to the system, which takes their pages back.
"""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import rasterio
from PIL import Image
from rasterio.windows import Window

from benchmarks.performance import DOCUMENT, Row, facts, goals
from benchmarks.sections import write_section
from isthmus.core.engine import processors
from isthmus.data.ingest.tables import IngestConfig
from isthmus.data.scenario import Scenario
from isthmus.data.simulate import chest
from isthmus.data.workers import in_order
from isthmus.stages import ingest, prepare

SIDE = 154  # [pixel] of prepared images
_SIZE = (300, 400)  # [pixel] of a photograph
_GOALS = {(150, 200): 4.0, _SIZE: 2.0, (600, 800): 3.5}  # [of the loop on one processor], by size
_BARE = 1 / 1.2  # [of the loop on one processor], of DICOM and GeoTIFF
_WINDOW = (40, 400)  # [HU] centre and width
_FRAME = 5 * SIDE  # [pixel] side of a raster: 25 tiles


def write_images(folder: Path, count: int, broken: int = 0, size: tuple[int, int] = _SIZE) -> None:
    """Writes JPEGs of two domains and two classes, all different; the same arguments, the same bytes.

    Args:
        folder: new.
        count: images.
        broken: so many of the files are cut in the middle.
        size: height and width [pixel]; the default makes about 20 kB a file.
    """
    paths = _paths(folder, count, ".jpg")
    for number, data in enumerate(in_order(partial(photograph, size), range(count), processors())):
        paths[number].write_bytes(data[: len(data) // 2] if number < broken else data)


def _paths(folder: Path, count: int, ending: str) -> list[Path]:
    """Returns where files of two domains and two classes go, and makes their folders."""
    for domain in ("a", "b"):
        for name in ("bad", "good"):
            (folder / domain / name).mkdir(parents=True, exist_ok=True)
    return [folder / "ab"[n % 2] / ("bad", "good")[n // 2 % 2] / f"lot-{n // 10}_{n:06d}{ending}" for n in range(count)]


def write_slices(folder: Path, count: int) -> None:
    """Writes DICOM slices of 512 x 512 pixels, 16 bits and not compressed, as scanners store them.

    Args:
        folder: new.
        count: slices.
    """
    scanner = replace(next(iter(chest.SCANNERS.values())), side=512)
    for number, path in enumerate(_paths(folder, count, ".dcm")):
        image = np.random.default_rng(number).normal(0, 200, (512, 512))
        chest.save(path, scanner, path.parts[-3], number // 10, number, 0, image)


def write_rasters(folder: Path, count: int) -> None:
    """Writes GeoTIFFs of four bands, 16 bits, in compressed blocks of 256 x 256 pixels.

    Args:
        folder: new.
        count: tiles in all; at least 24 rasters, for splits keep a raster whole.
    """
    for number, path in enumerate(_paths(folder, max(24, round(count / (_FRAME // SIDE) ** 2)), ".tif")):
        rng = np.random.default_rng(number)
        pixels = (rng.normal(1500, 100, (4, _FRAME, _FRAME)) + 500 * rng.normal(size=(4, 1, _FRAME))).astype(np.uint16)
        with rasterio.open(
            path, "w", driver="GTiff", count=4, height=_FRAME, width=_FRAME, dtype="uint16", nodata=0, crs="EPSG:32632",
            transform=rasterio.Affine(10, 0, 400_000, 0, -10, 5_300_000 + number * 1e5), tiled=True, blockxsize=256,
            blockysize=256, compress="deflate",
        ) as raster:  # fmt: skip
            raster.write(pixels)


def photograph(size: tuple[int, int], number: int) -> bytes:
    """Returns a JPEG of a smooth scene with grain.

    Args:
        size: height and width [pixel].
        number: of the scene.
    """
    rng = np.random.default_rng(number)
    height, width = size
    colours = rng.uniform(70, 180, (5, 6, 3)).astype(np.float32)
    smooth = np.stack(
        [
            np.asarray(Image.fromarray(colours[..., c]).resize((width, height), Image.Resampling.BICUBIC))
            for c in range(3)
        ],
        axis=2,
    )
    grain = np.roll(_grain(size), (int(rng.integers(height)), int(rng.integers(width))), (0, 1))
    pixels = np.clip(smooth + grain[..., None] * rng.uniform(0.5, 1.0, 3), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=85)
    return stream.getvalue()


@lru_cache(maxsize=1)
def _grain(size: tuple[int, int]) -> np.ndarray:
    rng, total = np.random.default_rng(0), np.zeros(size, np.float32)
    for side, strength in ((24, 14.0), (96, 7.0), (300, 3.0)):
        small = Image.fromarray(rng.normal(0, strength, (side, side)).astype(np.float32))
        total += np.asarray(small.resize(size[::-1], Image.Resampling.BICUBIC))
    return total


def scenario(form: str = "photographs") -> Scenario:
    """Returns the scenario of `write_images`, `write_slices` or `write_rasters`."""
    own: dict[str, Any] = {
        "photographs": {"kind": "natural", "preprocess": {"image_size": SIDE}},
        "slices": {"kind": "medical", "preprocess": {"image_size": SIDE, "window": list(_WINDOW)}, "group": "lot"},
        "rasters": {
            "kind": "remote_sensing",
            "preprocess": {"image_size": SIDE, "bands": [1, 2, 3, 4], "channels": 4},
            "tiles": {"size": SIDE},
        },
    }
    return Scenario(
        raw=Path("raw"), source=["a"], target="b", target_labels="folders", classes=["bad", "good"], **own[form]
    )


def plain_loop(raw: Path, form: str = "photographs") -> None:
    """Decodes and resizes one after another, as a script would."""
    for path in sorted(file for file in raw.rglob("*") if file.is_file()):
        _LOOPS[form](path)


def _photograph(path: Path) -> None:
    with contextlib.suppress(OSError), Image.open(path) as image:  # a broken file
        np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _slice(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    values = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    grey = np.clip((values - _WINDOW[0]) / _WINDOW[1] + 0.5, 0, 1).astype(np.float32)
    np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _raster(path: Path) -> None:
    with rasterio.open(path) as raster:
        for top in range(0, raster.height, SIDE):
            for left in range(0, raster.width, SIDE):
                raster.read(window=Window(left, top, SIDE, SIDE))


_LOOPS = {"photographs": _photograph, "slices": _slice, "rasters": _raster}


def run_ingest(raw: Path, out: Path, form: str) -> None:
    """Runs the stage with one process a processor."""
    names = ("manifest", "locations", "companions", "labels_target")
    tables: dict[str, Any] = {name: out / f"{name}.parquet" for name in names}
    params = ingest.Params(scenario=scenario(form), ingest=IngestConfig(workers=processors()), seed=0)
    ingest.run(params, raw=raw, audit=out / "audit.json", quarantine=out / "quarantine.json", **tables)


def run_prepare(raw: Path, out: Path, form: str) -> None:
    """Runs the stage."""
    prepare.run(
        prepare.Params(scenario=scenario(form)),
        raw=raw,
        manifest=out / "manifest.parquet",
        locations=out / "locations.parquet",
        companions=out / "companions.parquet",
        checkpoints=out / "checkpoints",
        prepared=out / "prepared",
        masks_target=out / "masks_target",
    )


def measured(what: str, raw: Path, out: Path, form: str = "photographs") -> dict[str, float]:
    """Runs `loop`, `ingest` or `prepare` in a process of its own.

    Returns:
        `seconds` of the work alone, `cpu` seconds of all processes, and `peak_mb`, the largest memory of them together.
    """
    command = [sys.executable, "-m", "benchmarks.ingest", "--only", what, "--form", form]
    command += ["--folder", str(raw), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        used = used_by(child)
        assert child.stdout is not None
        text = child.stdout.read()
    if child.returncode:
        raise RuntimeError(f"{what} ended with status {child.returncode}")
    return json.loads(text.splitlines()[-1]) | used


def used_by(child: subprocess.Popen[str]) -> dict[str, float]:
    """Waits for a process and returns `cpu` seconds and `peak_mb` of it and all its descendants together."""
    peak, ticks = 0, dict[int, int]()
    while child.poll() is None:
        tree = _tree(child.pid)
        peak = max(peak, sum(_anonymous(process) for process in tree))
        ticks |= {process: _ticks(process) or ticks.get(process, 0) for process in tree}
        time.sleep(0.2)
    return {"cpu": sum(ticks.values()) / os.sysconf("SC_CLK_TCK"), "peak_mb": peak / 2**20}


def _tree(root: int) -> list[int]:
    """Returns a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:  # it has just ended
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, pending = [], [root]
    while pending:
        found.append(pending.pop())
        pending += children.get(found[-1], [])
    return found


def _ticks(process: int) -> int:
    """Returns the processor time that a process has used, in the system's ticks."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _anonymous(process: int) -> int:
    """Returns the memory of a process that is not a file's [byte]."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def ratios(raw: Path, out: Path, form: str = "photographs") -> dict[str, float]:
    """Measures loop, ingest and prepare on one folder; a ratio over 1 is faster than the loop.

    `_by_cpu` is what the processor time of all processes allows where nobody else uses the processors: start-up and
    waiting for each other left out.
    """
    found = {what: measured(what, raw, out, form) for what in ("loop", "ingest", "prepare")}
    seconds = {what: values["seconds"] for what, values in found.items()}
    return {
        **{f"{what}_seconds": round(value, 2) for what, value in seconds.items()},
        **{f"{what}_peak_mb": round(values["peak_mb"], 1) for what, values in found.items()},
        **{f"{what}_cpu": round(values["cpu"], 2) for what, values in found.items()},
        "ingest_ratio_by_cpu": round(processors() * found["loop"]["cpu"] / found["ingest"]["cpu"], 3),
        "prepare_ratio_by_cpu": round(processors() * found["loop"]["cpu"] / found["prepare"]["cpu"], 3),
        "ingest_ratio": round(seconds["loop"] / seconds["ingest"], 3),
        "prepare_ratio": round(seconds["loop"] / seconds["prepare"], 3),
        "both_ratio": round(seconds["loop"] / (seconds["ingest"] + seconds["prepare"]), 3),
    }


def _only(what: str, raw: Path, out: Path, form: str) -> None:
    runs = {
        "loop": partial(plain_loop, raw, form),
        "ingest": partial(run_ingest, raw, out, form),
        "prepare": partial(run_prepare, raw, out, form),
    }
    start = time.perf_counter()
    runs[what]()
    print(json.dumps({"seconds": time.perf_counter() - start}))


def _rows(what: str, goal: float, found: dict[str, float]) -> list[Row]:
    return [
        Row(
            f"`{stage}` of {what}: processor time of the loop, times processors, to the stage's",
            f"{found[f'{stage}_cpu']:.1f} s, the loop {found['loop_cpu']:.1f} s",
            f"at least {goal:.2g}",
            f"{found[f'{stage}_ratio_by_cpu']:.2f}",
            found[f"{stage}_ratio_by_cpu"] >= goal,
        )
        for stage in ("ingest", "prepare")
    ]


def main() -> None:
    """Prints the ratios as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--form", choices=list(_LOOPS))
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of photographs")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only")
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    if given.only:
        _only(given.only, given.folder, given.out, given.form)
        return
    sizes = [tuple(given.size)] if given.size else list(_GOALS)
    trials = [
        ("photographs", f"{size[0]} x {size[1]} JPEGs", _GOALS.get(size), partial(write_images, size=size))
        for size in sizes
    ]
    trials += [
        ("slices", "DICOM slices of 512 x 512 pixels", _BARE, write_slices),
        ("rasters", f"GeoTIFF tiles of {SIDE} x {SIDE} pixels and four bands", _BARE, write_rasters),
    ]
    rows = []
    for form, what, goal, write in trials:
        if given.form not in (None, form):
            continue
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            write(Path(folder) / "raw", given.images)
            found = ratios(Path(folder) / "raw", Path(folder) / "out", form)
        print(json.dumps({"images": given.images, "what": what} | found, indent=2), flush=True)
        rows += _rows(what, goal, found) if goal else []
    if given.write:
        text = f"{facts('pillow', 'simplejpeg', 'pydicom', 'rasterio')} {given.images} images of each.\n\n{goals(rows)}"
        write_section(given.write / DOCUMENT, "ingest", text, keep_rows=bool(given.form or given.size))


if __name__ == "__main__":
    main()
