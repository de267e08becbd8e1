"""What training costs beside its arithmetic: our loop against one by hand, pytorch-adapt's hooks and skada's networks.

`python -m benchmarks.training [--write .]`

Processor time of one thread, forms by turns, medians over rounds. *Heads*: 200 steps of 64 + 64 rows on 2 x 640 cached
features of 384 numbers, with all that `train` does in them (validation each epoch, four kept epochs with logits and
embeddings of all images, curves). *Full*: steps of 16 + 16 images of 98 pixels through a ViT-S/14 in bfloat16, without
what ends an epoch; source_only sends as many source images. The loop by hand has the same network, loss and clipping,
torch's AdamW as it stands (ours is fused), draws rows by `randint` and does nothing else. pytorch-adapt's hooks have
its own losses and one optimiser a network; skada's networks have skorch's loop, their own losses and their own, smaller
discriminators. shot has a loop of its own and is left out; zscore and domain_randomisation are source_only with other
inputs.
"""

import argparse
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from pytorch_adapt import hooks, models
from skada import deep
from torch import nn

from benchmarks.performance import DOCUMENT, Row, by_turns, facts, goals, ratio
from benchmarks.pytorch_adapt_loop import Rows
from benchmarks.sections import write_section
from isthmus.adapt import Method, Shape
from isthmus.core import plugins
from isthmus.core.device import make_deterministic
from isthmus.data.batch import Batch
from isthmus.evaluation.selection.choice import SOURCE_ONLY
from isthmus.models import ModelConfig
from isthmus.models.classifier import Classifier, Encoder, Features, Standardise, same_for_all
from isthmus.training.data import TrainingData
from isthmus.training.loop import LoopSession, Plan, kept_epochs

CLASSES, WIDTH, DIM, RATE = 10, 256, 384, 1e-3
HEADS = (SOURCE_ONLY, "dann", "mmd", "coral", "mcc", "cdan")
FULL = (SOURCE_ONLY, "dann", "mmd", "cdan")
_BY_HAND, _FULL_BY_HAND, _AGAINST_SOURCE = 1.1, 1.02, 1.05


def training_data(count: int, images: bool, side: int = 98) -> TrainingData:
    """Returns `count` source rows, as many target rows, and a tenth of them for validation."""
    rng = np.random.default_rng(0)
    labels = np.arange(2 * count + count // 10) % CLASSES
    target = (np.arange(len(labels)) >= count) & (np.arange(len(labels)) < 2 * count)
    if images:
        values: NDArray[Any] = rng.integers(0, 255, (len(labels), side, side, 3), dtype=np.uint8)
    else:
        values = (np.eye(CLASSES, DIM)[labels] * 4 + rng.normal(0, 1, (len(labels), DIM))).astype(np.float32)
    seen = np.where(target, -1, labels)
    train, val = np.arange(count), np.arange(2 * count, len(labels))
    return TrainingData(
        Rows(values), target.astype(np.int64), seen, [train], val, np.flatnonzero(target), images, classes=CLASSES
    )


def new_model(images: bool) -> Classifier:
    """Returns the network before training."""
    torch.manual_seed(0)
    width = 3 if images else DIM
    standardise = Standardise(same_for_all([0.0] * width, 2), same_for_all([1.0] * width, 2))
    backbone: Any = Features(standardise)
    if images:
        network = timm.create_model("vit_small_patch14_dinov2", num_classes=0, img_size=98)
        backbone = Encoder(network, standardise)
    model = Classifier(backbone, DIM, CLASSES, WIDTH, "batch", 0)
    model.precision = torch.bfloat16 if images else None
    return model


def new_method(name: str, count: int) -> Method:
    """Returns a method with its defaults."""
    method: Method = plugins.load("adapt.methods", name).Config().build(Shape(CLASSES, WIDTH, 1, count, 0))
    return method


def session(
    name: str,
    data: TrainingData,
    epochs: int,
    batch_size: int,
    folder: Path,
    model: Classifier | None = None,
    device: torch.device = torch.device("cpu"),  # noqa: B008 - not changed
) -> LoopSession:
    """Returns a session that has not begun."""
    method, model = new_method(name, len(data.target_train)), model or new_model(data.images)
    precision: Any = "bf16" if data.images else "none"
    config = ModelConfig(mode="full", backbone={}, learning_rate=RATE, weight_decay=0.01, precision=precision)
    plan = Plan(epochs, kept_epochs(epochs, 4), batch_size, 0)
    return LoopSession(model.to(device), method.to(device), data, config, plan, device, folder, name)


def heads_by_ours(name: str, data: TrainingData, steps: int) -> None:
    """Trains heads as the stage `train` does."""
    with tempfile.TemporaryDirectory() as folder:
        opened = session(name, data, steps // data.steps(64), 64, Path(folder))
        opened.method.fit(opened)


def by_hand(name: str, data: TrainingData, steps: int, size: int) -> float:
    """Trains by the plainest loop; returns the seconds of its steps."""
    model, method = new_model(data.images), new_method(name, len(data.target_train))
    optimiser = torch.optim.AdamW([*model.parameters(), *method.parameters()], lr=RATE, weight_decay=0.01)
    rows = torch.from_numpy(data.inputs.take(np.arange(len(data.domains))))
    rows = rows.permute(0, 3, 1, 2).contiguous() if data.images else rows
    labels, count = torch.from_numpy(data.labels), len(data.target_train)
    wanted = size if method.sees_target else 0
    domains = torch.cat([torch.zeros(size, dtype=torch.int64), torch.ones(wanted, dtype=torch.int64)])
    model.train()
    start = time.process_time()
    for step in range(steps):
        source, target = torch.randint(0, count, (size,)), torch.randint(0, count, (wanted,))
        batch = Batch(rows[torch.cat([source, count + target])], domains, labels[source], target)
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(method.losses(model, batch, step / steps).values())).sum().backward()
        nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 10.0)
        optimiser.step()
    return time.process_time() - start


def by_pytorch_adapt(name: str, data: TrainingData, steps: int, size: int) -> None:
    """Trains heads by pytorch-adapt's hook of the same name."""
    model = new_model(False)
    parts: dict[str, nn.Module] = {"G": model.bottleneck, "C": model.head}
    if name in ("dann", "cdan"):
        parts["D"] = models.Discriminator(WIDTH, 256)

    def opts(*names: str) -> list[torch.optim.Optimizer]:
        return [torch.optim.AdamW(parts[each].parameters(), lr=RATE, weight_decay=0.01) for each in names]

    if name == SOURCE_ONLY:
        hook = hooks.ClassifierHook(opts("G", "C"))
    elif name == "dann":
        hook = hooks.DANNHook(opts("G", "C", "D"))
    elif name == "mcc":
        hook = hooks.ClassifierHook(opts("G", "C"), post=[hooks.MCCHook()])
    else:
        hook = hooks.AlignerPlusCHook(opts("G", "C"))
    rows = torch.from_numpy(data.inputs.take(np.arange(len(data.domains))))
    labels, count = torch.from_numpy(data.labels), len(data.target_train)
    model.train()
    for _ in range(steps):
        source, target = torch.randint(0, count, (size,)), torch.randint(0, count, (size,))
        given = {"src_imgs": rows[source], "src_labels": labels[source], "target_imgs": rows[count + target]}
        hook({**parts, **given, "src_domain": torch.zeros(size), "target_domain": torch.ones(size)})


def by_skada(name: str, data: TrainingData, steps: int, size: int) -> None:
    """Trains heads by skada's network of the same method."""
    model = new_model(False)
    options: dict[str, Any] = {
        "module": nn.Sequential(OrderedDict(bottleneck=model.bottleneck, head=model.head)),
        "layer_name": "bottleneck",
        "optimizer": torch.optim.AdamW,
        "optimizer__weight_decay": 0.01,
        "lr": RATE,
        "batch_size": size,  # of each domain
        "max_epochs": steps * size // len(data.target_train),
        "train_split": None,
        "verbose": 0,
    }
    made = {SOURCE_ONLY: deep.SourceOnly, "mmd": deep.DAN, "coral": deep.DeepCoral, "mcc": deep.MCC}
    if name == "dann":
        network = deep.DANN(num_features=WIDTH, **options)
    elif name == "cdan":
        network = deep.CDAN(num_features=WIDTH, n_classes=CLASSES, **options)
    else:
        network = made[name](**options)
    rows = np.concatenate([*data.source_train, data.target_train])
    domains = np.where(data.domains[rows] == 0, 1, -2)  # negative: a target
    network.fit(data.inputs.take(rows), np.where(domains > 0, data.labels[rows], -1), sample_domain=domains)


def full_by_ours(name: str, data: TrainingData, size: int) -> float:
    """Trains an epoch of whole images; returns the seconds of its steps, without what ends the epoch."""
    with tempfile.TemporaryDirectory() as folder:
        opened = session(name, data, 1, size, Path(folder))
        epoch = opened.epochs()
        next(epoch)
        start = time.process_time()
        for batch in opened.batches():
            opened.step(opened.method.losses(opened.model, batch, opened.progress))
        return time.process_time() - start


def heads(rounds: int, steps: int) -> str:
    """Returns the tables of heads on cached features."""
    data = training_data(640, False)
    theirs = (SOURCE_ONLY, "dann", "mmd", "mcc")
    runs: dict[str, Callable[[], object]] = {}
    for name in HEADS:
        runs[f"{name}, ours"] = lambda name=name: heads_by_ours(name, data, steps)
        runs[f"{name}, by hand"] = lambda name=name: by_hand(name, data, steps, 64)
        if name in theirs:
            runs[f"{name}, pytorch-adapt"] = lambda name=name: by_pytorch_adapt(name, data, steps, 64)
        runs[f"{name}, skada"] = lambda name=name: by_skada(name, data, steps, 64)
    found = by_turns(runs, rounds)
    rows = []
    for name in HEADS:
        ours, hand = found[f"{name}, ours"], found[f"{name}, by hand"]
        against = ratio(ours, hand)
        measured = f"{median(ours):.2f} s, by hand {median(hand):.2f} s"
        if name in theirs:
            measured += f", pytorch-adapt {median(found[f'{name}, pytorch-adapt']):.2f} s"
        measured += f", skada {median(found[f'{name}, skada']):.2f} s"
        row = (f"{name} on features, {steps} steps, against a loop by hand", measured, f"at most {_BY_HAND}")
        rows.append(Row(*row, f"{against:.2f}", against <= _BY_HAND))
    return goals(rows)


def full(rounds: int, steps: int, size: int) -> str:
    """Returns the tables of steps on whole images."""
    data = training_data(steps * size, True)
    runs: dict[str, Callable[[], object]] = {"mmd, by hand": lambda: by_hand("mmd", data, steps, size)}
    for name in FULL:
        rows_of_source = 2 * size if name == SOURCE_ONLY else size
        runs[name] = lambda name=name, rows=rows_of_source: full_by_ours(name, data, rows)
    found = by_turns(runs, rounds)
    found[SOURCE_ONLY] = [2 * each for each in found[SOURCE_ONLY]]  # half as many steps of an epoch
    steps_of = {name: median(each) / steps for name, each in found.items()}
    against = ratio(found["mmd"], found["mmd, by hand"])
    what = f"full step of mmd, {size} + {size} images, against a loop by hand"
    measured = f"{steps_of['mmd']:.2f} s, by hand {steps_of['mmd, by hand']:.2f} s"
    rows = [Row(what, measured, f"at most {_FULL_BY_HAND}", f"{against:.3f}", against <= _FULL_BY_HAND)]
    for name in FULL[1:]:
        over = ratio(found[name], found[SOURCE_ONLY])
        measured = f"{steps_of[name]:.2f} s, source_only {steps_of[SOURCE_ONLY]:.2f} s"
        what = f"full step of {name}, against source_only on as many images"
        rows.append(Row(what, measured, f"at most {_AGAINST_SOURCE}", f"{over:.3f}", over <= _AGAINST_SOURCE))
    return goals(rows)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/performance.md gets the tables")
    given = parser.parse_args()
    make_deterministic(1)
    tables = [heads(given.rounds, 200), full(max(3, given.rounds // 2), 4, 16)]
    text = "\n\n".join([f"{facts('torch', 'timm', 'pytorch-adapt', 'skada')} Processor time of one thread.", *tables])
    print(text)
    if given.write:
        write_section(given.write / DOCUMENT, "training", text)


if __name__ == "__main__":
    main()
