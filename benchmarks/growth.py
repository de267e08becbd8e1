"""How time and memory of the stages grow with the images: writes the table of docs/scale.md.

python -m benchmarks.growth [--images 1000 10000 30000] [--folder DIR] [--write .]

Made photographs of 96 x 96 pixels in two domains and two classes go through ingest, prepare, embed (a tiny network with
random weights) and shift, each stage a process of its own, as `dvc repro` starts it. Time is that of the processor, of
all processes of a stage, which other work on the machine changes little; memory is the anonymous memory of all of them
together.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from benchmarks.ingest import used_by
from benchmarks.sections import write_section

PARAMS: dict[str, Any] = {
    "scenarios": {
        "demo": {
            "kind": "natural",
            "raw": "raw",
            "source": ["a"],
            "target": "b",
            "target_labels": "folders",
            "classes": ["dull", "red"],
            "model": "tiny",
            "preprocess": {"image_size": 160, "channels": 3},
        }
    },
    "models": {
        "tiny": {
            "mode": "frozen",
            "backbone": {"name": "timm", "architecture": "test_vit", "weights": "random", "image_size": 160},
            "epochs": 4,
            "views": 1,
        }
    },
    "methods": {"coral": {"weight": 10.0}},
    "train": {"seeds": [0, 1], "batch_size": 64, "keep": 2},
    "embed": {"batch_size": 32},
    "ingest": {"workers": 2},
    "shift": {},
    "seed": 0,
}
# stage -> its arguments, as in dvc.yaml
STAGES = {
    "ingest": "--raw raw --manifest out/manifest.parquet --locations out/locations.parquet"
    " --companions out/companions.parquet --labels-target out/labels_target.parquet --audit out/audit.json"
    " --quarantine out/quarantine.json",
    "labels": "--labels labels --manifest out/manifest.parquet --measure out/labels_measure.parquet"
    " --train out/labels_train.parquet",
    "prepare": "--raw raw --manifest out/manifest.parquet --locations out/locations.parquet"
    " --companions out/companions.parquet --checkpoints checkpoints --prepared out/prepared"
    " --masks-target out/masks_target",
    "embed": "--prepared out/prepared --cache cache --features out/features --model out/model.json",
    "shift": "--manifest out/manifest.parquet --prepared out/prepared --features out/features --shift out/shift",
    "train": "--method coral --manifest out/manifest.parquet --prepared out/prepared --features out/features"
    " --labels-train out/labels_train.parquet --checkpoints checkpoints --trained out/train/coral",
}
_MEASURED = ("ingest", "prepare", "embed", "shift")


def command(stage: str) -> list[str]:
    """Returns the command of a stage, for a folder with `params.yaml` and `raw`."""
    start = [sys.executable, "-m", f"isthmus.stages.{stage}", "--params", "params.yaml", "--scenario", "demo"]
    return [*start, *STAGES[stage].split()]


def write_project(folder: Path) -> None:
    """Writes `params.yaml` and what else the stages ask for."""
    (folder / "labels").mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))


def write_raw(raw: Path, count: int) -> None:
    """Writes JPEGs, all different; images of class `red` are redder, those of domain `b` darker."""
    for number in range(count):
        domain, red = number % 2, number // 2 % 2
        place = raw / "ab"[domain] / ("dull", "red")[red]
        place.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        colours = rng.uniform(60, 180, (6, 6, 3)).astype(np.uint8)
        colours[..., 0] += np.uint8(60 * red)
        stream = io.BytesIO()
        image = Image.fromarray(colours // np.uint8(1 + domain)).resize((96, 96), Image.Resampling.BICUBIC)
        image.save(stream, "JPEG", quality=90)
        (place / f"{number:07d}.jpg").write_bytes(stream.getvalue())


def measured(stage: str, folder: Path) -> dict[str, float]:
    """Runs a stage; returns wall time and processor time [s] and the largest memory [MB]."""
    start = time.perf_counter()
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    with subprocess.Popen(command(stage), cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        used = used_by(child)
        if child.returncode:
            raise RuntimeError(f"{stage}: {child.stderr.read()[-2000:]}")
    return {"seconds": time.perf_counter() - start} | used


def grown(counts: list[int], folder: Path) -> dict[str, dict[int, dict[str, float]]]:
    """Returns stage -> images -> what `measured` says."""
    found: dict[str, dict[int, dict[str, float]]] = {stage: {} for stage in _MEASURED}
    for count in counts:
        project = folder / str(count)
        write_project(project)
        write_raw(project / "raw", count)
        for stage in _MEASURED:
            found[stage][count] = measured(stage, project)
            print(count, stage, {name: round(value, 1) for name, value in found[stage][count].items()}, flush=True)
    return found


def table(found: dict[str, dict[int, dict[str, float]]]) -> str:
    """Returns the table; the last column is what each further image costs, between the two largest counts."""
    counts = sorted(next(iter(found.values())))
    head = [f"{count:,} images" for count in counts]
    lines = [
        f"| stage | {' | '.join(head)} | each image more |",
        f"| --- | {' | '.join(['---:'] * len(counts))} | ---: |",
    ]
    for stage, by_count in found.items():
        cells = [f"{row['cpu']:.0f} s, {row['peak_mb']:.0f} MB" for row in (by_count[count] for count in counts)]
        low, high, more = by_count[counts[-2]], by_count[counts[-1]], counts[-1] - counts[-2]
        time_more, memory_more = (high["cpu"] - low["cpu"]) / more, (high["peak_mb"] - low["peak_mb"]) / more
        lines.append(f"| `{stage}` | {' | '.join(cells)} | {1000 * time_more:.1f} ms, {1000 * memory_more:.1f} kB |")
    return "\n".join(lines)


def main() -> None:
    """Prints the table, and writes it into docs/scale.md of `--write`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 10_000, 30_000])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        text = table(grown(given.images, Path(folder)))
    print(text)
    if given.write:
        write_section(given.write / "docs" / "scale.md", "growth", text)


if __name__ == "__main__":
    main()
