"""How fast `embed` runs a frozen network in bfloat16 against float32, how alike the features are, and what scores say.

`python -m benchmarks.embed [--compile] [--write .]`, or with `--images FOLDER` or `--choices FLOAT32 BFLOAT16`

Speed is of ViT-S/14 with random weights, 32 images at once, forms by turns, in processor time of one thread.
`bfloat16` is what `embed: precision: bfloat16` runs. Cosines are of images below FOLDER, evenly spaced, with the
weights of `weights: auto`. FLOAT32 and BFLOAT16 are folders of `python -m benchmarks.choice`, one with each precision.
`--compile` adds torch.compile, which needs a C++ compiler, and its start-up.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from benchmarks.performance import DOCUMENT, Row, by_turns, facts, goals, ratio
from benchmarks.sections import table, write_section
from isthmus.core.device import has_bfloat16, make_deterministic
from isthmus.core.files import read_json
from isthmus.models import ModelConfig
from isthmus.models.backbones import Backbone
from isthmus.models.cells import CellEncoder
from isthmus.models.classifier import Encoder, Standardise, same_for_all
from isthmus.models.embedding import LEAST_COSINE, encode

SIDES = (98, 154, 224)  # [pixel]
_CPU, _THREADS, _BATCH = torch.device("cpu"), 1, 32
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif"}
_LEAST_SHARE = 0.95  # of the speed of the fastest form that keeps the cosine
_MOST_POINTS = 0.2  # that balanced accuracy may change


def backbone(side: int, weights: str, pool: str = "default") -> Backbone:
    """Builds ViT-S/14 as the shipped models name it."""
    options = {"name": "timm", "architecture": "vit_small_patch14_dinov2", "weights": weights, "pool": pool}
    config = ModelConfig(mode="frozen", backbone=options).backbone_config("benchmarks.embed: ")
    with tempfile.TemporaryDirectory() as cache:
        return config.build(3, side, Path(cache))


def encoder(built: Backbone, kind: type[Encoder] = Encoder) -> Encoder:
    """Returns the encoder that `embed` would run in float32."""
    pixels = Standardise(same_for_all(built.mean, 1), same_for_all(built.std, 1))
    return kind(copy.deepcopy(built.network), pixels).eval()


def forms(side: int, compiled: bool) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Returns name -> images to features, of each way to run one network."""
    built = backbone(side, "random")
    exact, rounded = encoder(built), encoder(built).at("bfloat16")
    last = encoder(built).at("bfloat16")
    last.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def autocast(images: np.ndarray) -> np.ndarray:
        with torch.autocast("cpu", torch.bfloat16):
            return encode(exact, images, _CPU)

    found: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "float32": lambda images: encode(exact, images, _CPU),
        "bfloat16": lambda images: encode(rounded, images, _CPU),
        "bfloat16, channels last": lambda images: encode(last, images, _CPU),
        "autocast": autocast,
    }
    if compiled:
        whole = encoder(built).at("bfloat16")
        whole.network = torch.compile(whole.network)  # type: ignore[assignment]
        found["bfloat16, compiled"] = lambda images: encode(whole, images, _CPU)
    return found


def speed(compiled: bool, rounds: int) -> Iterator[tuple[int, str, float, float, float]]:
    """Yields side, form, images a second, speed against float32, and start-up [s]: the first batch less a later one."""
    for side in SIDES:
        images = np.random.default_rng(0).integers(0, 256, (_BATCH, side, side, 3), dtype=np.uint8)
        runs = {name: partial(form, images) for name, form in forms(side, compiled).items()}
        first = {}
        for name, run in runs.items():
            start = time.process_time()
            run()
            first[name] = time.process_time() - start
        seconds = by_turns(runs, rounds)
        for name, each in seconds.items():
            gain = ratio(seconds["float32"], each)
            yield side, name, _BATCH / median(each), gain, max(0.0, first[name] - median(each))


def cosines(folder: Path, count: int, side: int) -> Iterator[tuple[str, float, float]]:
    """Yields which features, and the smallest and the mean cosine of those in bfloat16 to those in float32."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    files = [files[place] for place in np.linspace(0, len(files) - 1, min(count, len(files))).astype(int)]
    images = np.stack([np.asarray(Image.open(path).convert("RGB").resize((side, side))) for path in files])
    for name, kind in {"class": Encoder, "mean": Encoder, "both": Encoder, "cells": CellEncoder}.items():
        exact = encoder(backbone(side, "auto", "default" if name == "cells" else name), kind)
        rounded = copy.deepcopy(exact).at("bfloat16")
        found = []
        for start in range(0, len(images), _BATCH):
            both = (encode(form, images[start : start + _BATCH], _CPU).astype(np.float64) for form in (exact, rounded))
            one, other = both
            found.append((one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1))
        each = np.concatenate(found).reshape(len(images), -1).mean(axis=1)
        yield name, float(each.min()), float(each.mean())


def accuracies(float32: Path, bfloat16: Path) -> list[tuple[str, float, float]]:
    """Returns pair, and the chosen model's balanced accuracy on the target's test split in each precision [%]."""
    found = []
    for result in sorted(float32.glob("*/result.json")):
        name = result.parent.name
        both = [
            read_json(folder / name / "result.json")["accuracy"]["chosen"]["test"] for folder in (float32, bfloat16)
        ]
        found.append((name, both[0], both[1]))
    return found


def speed_text(compiled: bool, rounds: int) -> str:
    """Returns the speed of all forms with their goal as Markdown."""
    found, rows = list(speed(compiled, rounds)), []
    for side in SIDES:
        gains = {name: gain for at, name, _, gain, _ in found if at == side}
        rate = next(rate for at, name, rate, _, _ in found if (at, name) == (side, "bfloat16"))
        share = gains["bfloat16"] / max(gains.values())
        what = f"images/s at {side} px in bfloat16, share of the fastest form"
        rows.append(Row(what, f"{rate:.1f}", f"at least {_LEAST_SHARE}", f"{share:.2f}", share >= _LEAST_SHARE))
    head = ("side [px]", "form", "images/s", "against float32", "start-up [s]")
    lines = [(f"{side}", name, f"{rate:.1f}", f"{gain:.2f}", f"{start:.1f}") for side, name, rate, gain, start in found]
    here = "" if has_bfloat16(_CPU) else " This processor has no bfloat16 instructions: `auto` is float32 here."
    return f"{facts('torch', 'timm')} Processor time of one thread.{here}\n\n{goals(rows)}\n\n{table(head, *lines)}"


def cosine_text(folder: Path, count: int) -> str:
    """Returns the cosines with their goal as Markdown."""
    rows = []
    for name, least, mean in cosines(folder, count, 154):
        what, shown = f"cosine to float32, {name}, {count} images at 154 px", f"{least:.5f} (mean {mean:.5f})"
        rows.append(Row(what, shown, f"at least {LEAST_COSINE}", f"{least:.5f}", least >= LEAST_COSINE))
    return f"Images of `{folder.name}`. {facts('torch', 'timm')}\n\n{goals(rows)}"


def accuracy_text(float32: Path, bfloat16: Path) -> str:
    """Returns the change of balanced accuracy with its goal as Markdown."""
    rows = []
    for name, exact, rounded in accuracies(float32, bfloat16):
        change, goal = rounded - exact, f"at most {_MOST_POINTS} points"
        shown = f"{exact:.1f} in float32, {rounded:.1f} in bfloat16"
        rows.append(
            Row(
                f"balanced accuracy of the choice, {name} [%]",
                shown,
                goal,
                f"{change:+.2f}",
                abs(change) <= _MOST_POINTS,
            )
        )
    return f"{facts('torch', 'timm')}\n\n{goals(rows)}"


def main() -> None:
    """Measures what the command line names; without a name, the speed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of images whose features are compared")
    parser.add_argument("--choices", type=Path, nargs=2, metavar=("FLOAT32", "BFLOAT16"))
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=64, help="[image] whose features are compared")
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/performance.md gets the tables")
    given = parser.parse_args()
    make_deterministic(_THREADS)
    sections = {}
    if given.images:
        sections["embed: features"] = cosine_text(given.images, given.count)
    if given.choices:
        sections["embed: accuracy"] = accuracy_text(*given.choices)
    for name, text in (sections or {"embed: speed": speed_text(given.compile, given.rounds)}).items():
        print(text)
        if given.write:
            write_section(given.write / DOCUMENT, name, text)


if __name__ == "__main__":
    main()
