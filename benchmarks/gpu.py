"""How much of a GPU's measured peak `embed` and full training use.

`make bench-gpu`, which is `python -m benchmarks.gpu [--images 2048] [--side 224] [--write .]`. Where there is no GPU,
`--device cpu --images 16 --side 96 --batch 16` tries the script.

The peak is that of a bfloat16 product of two square matrices, measured in the same call. Operations of a network are
counted by torch's `FlopCounterMode` on one image, and training counts three times a forward pass. `embed` runs what the
stage runs in bfloat16, copies from and to memory included; training is a step of DANN on whole images with
`precision: bf16`, through the stage's own loop. Weights are random.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.performance import DOCUMENT, Row, facts, goals
from benchmarks.sections import write_section
from benchmarks.training import session, training_data
from isthmus.core.device import pick_device
from isthmus.models.classifier import Classifier, Encoder, Standardise, same_for_all
from isthmus.models.embedding import encode

NETWORKS = {"ViT-S/16": "vit_small_patch16_224", "ViT-B/16": "vit_base_patch16_224"}
_EMBED, _TRAIN = 0.60, 0.45  # shares of the peak that are the goal
_ROUNDS, _SIZE = 5, 8192


def clock(device: torch.device, run: Callable[[], object], rounds: int = _ROUNDS) -> float:
    """Returns the median seconds of a run, by the clock, after one to warm up."""
    found = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return median(found[1:])


def peak(device: torch.device, size: int) -> float:
    """Returns operations a second of a product of two bfloat16 matrices."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / clock(device, lambda: left @ right)


def network(name: str, side: int) -> nn.Module:
    """Returns a network with random weights that answers features."""
    torch.manual_seed(0)
    made: nn.Module = timm.create_model(name, num_classes=0, img_size=side, pretrained=False)
    return made


def operations(made: nn.Module, side: int) -> int:
    """Returns the operations of one image's forward pass."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        made(torch.zeros(1, 3, side, side))
    return int(counter.get_total_flops())


def embedding(device: torch.device, name: str, side: int, images: int, batch: int) -> float:
    """Returns images a second of what `embed` runs."""
    pixels = Standardise(same_for_all([0.5] * 3, 1), same_for_all([0.5] * 3, 1))
    encoder = Encoder(network(name, side), pixels).eval().to(device).at("bfloat16")
    given = np.random.default_rng(0).integers(0, 255, (images, side, side, 3), dtype=np.uint8)

    @torch.no_grad()
    def run() -> None:
        for start in range(0, images, batch):
            encode(encoder, given[start : start + batch], device)

    return images / clock(device, run, 3)


def training(device: torch.device, name: str, side: int, images: int, batch: int) -> float:
    """Returns images a second, source and target, of steps of DANN on whole images."""
    data = training_data(max(images // 2, batch), True, side)
    made = network(name, side)
    standardise = Standardise(same_for_all([0.0] * 3, 2), same_for_all([1.0] * 3, 2))
    model = Classifier(Encoder(made, standardise), int(made.num_features), data.classes, 256, "batch", 0)
    with tempfile.TemporaryDirectory() as folder:
        opened = session("dann", data, 2, batch, Path(folder), model, device)
        seconds = []
        for _ in opened.epochs():  # the first warms up
            start, seen = time.perf_counter(), 0
            for given in opened.batches():
                opened.step(opened.method.losses(opened.model, given, opened.progress))
                seen += len(given.inputs)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append((time.perf_counter() - start) / seen)
    return 1 / seconds[-1]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--side", type=int, default=224, help="[pixel]")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/performance.md gets the table")
    given = parser.parse_args()
    device = pick_device(given.device)
    most = peak(device, _SIZE if device.type == "cuda" else 1024)
    rows = []
    for shown, name in NETWORKS.items():
        each = operations(network(name, given.side), given.side)
        for what, goal, times, rate in (
            ("embed", _EMBED, 1, embedding(device, name, given.side, given.images, given.batch)),
            ("full training by DANN", _TRAIN, 3, training(device, name, given.side, given.images, given.batch // 4)),
        ):
            share = times * each * rate / most
            row = (f"{shown}, {what} at {given.side} px, share of the peak", f"{rate:.0f} images/s", f"at least {goal}")
            rows.append(Row(*row, f"{share:.2f}", share >= goal))
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    text = f"{where}: {most / 1e12:.1f} TFLOP/s measured. {facts('torch', 'timm')}\n\n{goals(rows)}"
    print(text)
    if given.write:
        write_section(given.write / DOCUMENT, "gpu", text)


if __name__ == "__main__":
    main()
