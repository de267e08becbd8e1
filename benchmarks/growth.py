"""How time and memory of the stages grow with the images: writes tables and plot of docs/scale.md.

python -m benchmarks.growth --out DIR [--images 1000 10000 30000] [--engines-at 3000] [--write .]

Made photographs of 96 x 96 pixels in two domains and two classes go through ingest, prepare, embed (a tiny network with
random weights) and shift, each stage a process of its own, as `dvc repro` starts it. Then `isthmus predict` answers for
all of them, with a model that a project of 300 such images published. Time is that of the processor, of all processes
of a stage, which other work on the machine changes little; memory is the anonymous memory of all of them together,
where pages that forked workers share count once for each. `--engines-at` measures one count by engine too. What is in
DIR is not measured again.
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from benchmarks.growth_plot import plot
from benchmarks.ingest import used_by
from benchmarks.sections import table, write_section
from isthmus.core.files import read_json, write_json

Used = dict[str, float]  # `seconds`, `cpu` [s], `peak_mb`

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
_MEASURED = ("ingest", "prepare", "embed", "shift", "predict")
ENGINES = {  # name -> ISTHMUS_ENGINE, and the processors that the stage sees, of which `local` makes its workers
    "local, 1 worker": ("local", 1),
    "local, 2 workers": ("local", 2),
    "dask, 2 workers": ("dask workers=2 memory=3", 2),
    "ray, 2 workers": ("ray workers=2", 2),
}
_LEARNED = 300  # images that the predicting model learned from
_MODEL = "isthmus-demo@candidate"
PLOT = "images/growth.svg"


def command(stage: str) -> list[str]:
    """Returns the command of a stage, for a folder with `params.yaml` and `raw`."""
    start = [sys.executable, "-m", f"isthmus.stages.{stage}", "--params", "params.yaml", "--scenario", "demo"]
    return [*start, *STAGES[stage].split()]


def write_project(folder: Path, workers: int = 2) -> None:
    """Writes `params.yaml` and what else the stages ask for; `workers` are of `ingest` without an engine."""
    (folder / "labels").mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS | {"ingest": {"workers": workers}}))


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


def published(project: Path) -> Path:
    """Makes a project, runs all its stages and registers the model of its scenario `demo`; returns the project."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    run = partial(subprocess.run, check=True, env=environment, stdout=sys.stderr)
    isthmus = [sys.executable, "-m", "isthmus.cli"]
    run([*isthmus, "init", str(project)])
    write_raw(project / "data" / "raw" / "demo", _LEARNED)
    document = yaml.safe_load((project / "params.yaml").read_text())
    document["scenarios"] = {"demo": PARAMS["scenarios"]["demo"] | {"raw": "data/raw/demo"}}
    document |= {"models": PARAMS["models"], "train": PARAMS["train"], "methods": {"source_only": {}, "zscore": {}}}
    (project / "params.yaml").write_text(yaml.safe_dump(document))
    run([sys.executable, "-m", "dvc", "repro", "-q", "report@demo"], cwd=project)
    run([*isthmus, "publish", "demo"], cwd=project)
    return project


def measured(stage: str, folder: Path, model: Path, engine: str = "local", processors: int = 2) -> Used:
    """Runs a stage, or `predict`; returns wall time and processor time [s] and the largest memory [MB].

    Args:
        stage: its name.
        folder: with `raw`, `params.yaml` and what earlier stages wrote.
        model: project that published a model.
        engine: as ISTHMUS_ENGINE has it.
        processors: which the stage may use, at most.
    """
    raw, answers = str(folder / "raw"), str(folder / "answers.parquet")
    predict = [sys.executable, "-m", "isthmus.cli", "predict", _MODEL, raw, "--out", answers]
    seen = sorted(os.sched_getaffinity(0))[:processors]
    with (
        (folder / f"{stage}.log").open("w+") as said,
        subprocess.Popen(
            predict if stage == "predict" else command(stage),
            cwd=model if stage == "predict" else folder,
            env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "ISTHMUS_ENGINE": engine},
            stdout=subprocess.DEVNULL,
            stderr=said,
            text=True,
            preexec_fn=partial(os.sched_setaffinity, 0, seen),
        ) as child,
    ):
        start = time.perf_counter()
        used = used_by(child)
        if child.returncode:
            said.seek(0)
            raise RuntimeError(f"{stage}: {said.read()[-2000:]}")
    return {"seconds": time.perf_counter() - start} | used


def grown(counts: list[int], out: Path, engines: dict[str, tuple[str, int]], name: str) -> dict[str, dict[str, Used]]:
    """Returns stage -> images (of several engines: engine) -> what `measured` says; kept in `out` under a name."""
    kept = out / f"{name}.json"
    found: dict[str, dict[str, Used]] = read_json(kept) if kept.is_file() else {stage: {} for stage in _MEASURED}
    model = out / "model"
    if not (model / "mlflow.db").is_file():
        shutil.rmtree(model, ignore_errors=True)
        published(model)
    for count in counts:
        for label, (engine, processors) in engines.items():
            key = str(count) if len(engines) == 1 else label
            if all(key in by_key for by_key in found.values()):
                continue
            project = out / "project"
            shutil.rmtree(project, ignore_errors=True)
            write_project(project, processors)
            write_raw(project / "raw", count)
            for stage in _MEASURED:
                found[stage][key] = measured(stage, project, model, engine, processors)
                print(count, label, stage, {k: round(v, 1) for k, v in found[stage][key].items()}, flush=True)
            write_json(kept, found)
            shutil.rmtree(project)
    return {stage: found[stage] for stage in _MEASURED}


def growth_table(found: dict[str, dict[str, Used]]) -> str:
    """Returns the table; the last column is what each further image costs, between a stage's two largest counts."""
    counts = sorted({int(count) for by_count in found.values() for count in by_count})
    rows: list[tuple[str, ...]] = [("stage", *(f"{count:,} images" for count in counts), "each image more")]
    for stage, by_count in found.items():
        cells = [_shown(by_count[str(count)]) if str(count) in by_count else "" for count in counts]
        rows.append((f"`{stage}`", *cells, _each_more(by_count)))
    return table(*rows)


def _each_more(by_count: dict[str, Used]) -> str:
    if len(by_count) < 2:
        return ""
    low, high = sorted(by_count, key=int)[-2:]
    more = int(high) - int(low)
    time_more, memory_more = (1000 * (by_count[high][key] - by_count[low][key]) / more for key in ("cpu", "peak_mb"))
    return f"{time_more:.1f} ms, {memory_more:.1f} kB"


def engine_table(found: dict[str, dict[str, Used]], count: int) -> str:
    """Returns the table of one count by engine."""
    rows = [(f"`{stage}`", *(_shown(by_engine[label]) for label in ENGINES)) for stage, by_engine in found.items()]
    return f"{count:,} images:\n\n{table(('stage', *ENGINES), *rows)}"


def _shown(used: Used) -> str:
    return f"{used['cpu']:.0f} s, {used['peak_mb']:.0f} MB"


def main() -> None:
    """Prints the tables, and writes them and the plot into docs of `--write`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 10_000, 30_000])
    parser.add_argument("--engines-at", type=int, help="number of images; without it engines are not measured")
    parser.add_argument("--out", type=Path, required=True, help="working folder; what is there is not done again")
    parser.add_argument("--write", type=Path, help="folder of the repository")
    given = parser.parse_args()
    out = given.out.absolute()
    found = grown(given.images, out, {"local": ("local", 2)}, "growth")
    sections = {"growth": f"{growth_table(found)}\n\n![Processor time and memory for each image]({PLOT})"}
    if given.engines_at:
        by_engine = grown([given.engines_at], out, ENGINES, f"engines-{given.engines_at}")
        sections["engines"] = engine_table(by_engine, given.engines_at)
    for name, text in sections.items():
        print(text)
        if given.write:
            write_section(given.write / "docs" / "scale.md", name, text)
    if given.write:
        (given.write / "docs" / PLOT).write_text(plot(found), encoding="utf-8")


if __name__ == "__main__":
    main()
