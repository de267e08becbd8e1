"""A trained classifier as one folder that needs nothing else: from raw prepared pixels to logits.

`classifier.json` says how it is built, `weights.safetensors` holds every tensor, the frozen backbone's too.
"""

import copy
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from isthmus.core.errors import DataError
from isthmus.core.files import atomic_file, read_json, write_json
from isthmus.data.batch import Outputs
from isthmus.models import ModelConfig
from isthmus.models.cells import CellEncoder
from isthmus.models.classifier import Classifier, Encoder, Features, Mean, Standardise, same_for_all
from isthmus.models.embedding import at_precision, read_facts
from isthmus.models.extents import ExtentHead
from isthmus.models.neighbours import NeighbourHead
from isthmus.models.patch_memory import PatchMemory
from isthmus.models.tuning import add_prompts

FACTS, WEIGHTS = "classifier.json", "weights.safetensors"
Parts = Sequence[tuple[str, int, int]]  # (trained method, seed, kept epoch) of each network that answers


class Answered(NamedTuple):
    """What a trained classifier says of N images with T cells each, float32.

    Attributes:
        embeddings: `[N, B]`.
        logits: `[N, K]`, or `[N * T, K]`.
        maps: `[N, T]` of a model of defects, of others `[0, T]`.
        extents: `[N * T, 4]` of a model of boxes, of others `[0, 4]`.
    """

    embeddings: NDArray[np.float32]
    logits: NDArray[np.float32]
    maps: NDArray[np.float32]
    extents: NDArray[np.float32]


class TrainedClassifier(nn.Module):
    """Images -> logits, whatever the transfer mode was; of each image, or of each cell of its grid.

    Attributes:
        grid: rows and columns of the cells that have logits, or a map, of their own; empty: an image has one row.
        whole: the head takes all cells of an image together, and answers once an image.
        classes: names of the outputs, in order.
        domains: sources first, the target last.
        width: B, of the embeddings; of a mean the sum over its parts.
    """

    def __init__(
        self,
        encoder: Encoder | None,
        classifier: Classifier | Mean,
        classes: list[str],
        domains: list[str],
        width: int,
        grid: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.grid = grid
        self.whole = any(isinstance(part, PatchMemory) for part in classifier.modules())
        self.width = width
        self.encoder = encoder
        self.classifier = classifier
        self.classes = classes
        self.domains = domains

    def forward(self, pixels: Tensor, domains: Tensor) -> Outputs:
        """Returns embeddings and logits of prepared images `[N, C, H, W]`, each of the domain of its number `[N]`.

        With a grid of T cells logits are `[N * T, K]`, and an image's embedding is the mean over its cells.
        """
        seen = pixels if self.encoder is None else self.encoder(pixels, domains)
        if self.grid and self.encoder is not None:
            seen = seen.half().float()  # as `embed` stores them
        found: Outputs = self.classifier(seen, domains)
        if not self.grid or self.whole:
            return found
        of_images = found.features.reshape(len(pixels), -1, found.features.shape[1]).mean(dim=1)
        return Outputs(of_images, found.logits, extents=found.extents)

    def predict_logits(self, images: NDArray[Any], domain: str, batch_size: int = 32) -> NDArray[np.float32]:
        """Returns float32 logits `[N, K]`, or `[N * T, K]`, of prepared images `[N, H, W, C]` of one domain.

        Raises:
            DataError: the model knows no such domain.
        """
        return self.predict(images, domain, batch_size)[1]

    def predict(
        self, images: NDArray[Any], domain: str, batch_size: int = 32
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns float32 embeddings `[N, B]`, after the bottleneck, and logits `[N, K]`, as `predict_logits`.

        Raises:
            DataError: the model knows no such domain.
        """
        answered = self.predict_all(images, domain, batch_size)
        return answered.embeddings, answered.logits

    @torch.no_grad()
    def predict_all(self, images: NDArray[Any], domain: str, batch_size: int = 32) -> Answered:
        """Returns what `predict` does, and what a model of defects or of boxes says of each cell.

        Raises:
            DataError: the model knows no such domain.
        """
        if domain not in self.domains:
            raise DataError(f"the model knows no domain '{domain}'. Allowed: {', '.join(self.domains)}")
        self.eval()
        embeddings, logits = [np.zeros((0, self.width), np.float32)], [np.zeros((0, len(self.classes)), np.float32)]
        maps = [np.zeros((0, int(np.prod(self.grid))), np.float32)]
        extents = [np.zeros((0, 4), np.float32)]
        for start in range(0, len(images), batch_size):
            pixels = torch.from_numpy(np.array(images[start : start + batch_size])).permute(0, 3, 1, 2)
            domains = torch.full((len(pixels),), self.domains.index(domain), dtype=torch.int64)
            found = self(pixels, domains)
            embeddings.append(found.features.float().numpy())
            logits.append(found.logits.float().numpy())
            if found.maps is not None:
                maps.append(found.maps.numpy())
            if found.extents is not None:
                extents.append(found.extents.float().numpy())
        return Answered(
            np.concatenate(embeddings), np.concatenate(logits), np.concatenate(maps), np.concatenate(extents)
        )


def export_trained(trained: Path, parts: Parts, features: Path, seed: int, folder: Path) -> None:
    """Writes one kept epoch of one seed, backbone included, into a folder of its own; or the mean of several networks.

    Args:
        trained: what `train` wrote, one folder a method.
        parts: the networks that answer together, all of one model and scenario.
        features: what `embed` wrote; its backbone made the features.
        seed: of the networks whose embeddings are returned.
        folder: where to write.
    """
    run, stored = read_json(trained / parts[0][0] / "run.json"), read_facts(features)
    model = ModelConfig.model_validate(run["config"]["model"])
    tensors: dict[str, Tensor] = {}
    for number, (method, own, epoch) in enumerate(parts):
        kept = load_file(trained / method / "seeds" / str(own) / "epochs" / f"{epoch:03d}.safetensors")
        tensors |= {f"{_prefix(number, len(parts))}.{name}": value for name, value in kept.items()}
    if model.mode == "frozen":
        frozen = load_file(features / "backbone.safetensors")
        tensors |= {f"encoder.network.{name}": value for name, value in frozen.items()}
        statistics = {"mean": same_for_all(stored.mean, len(run["domains"]))}
        statistics |= {"std": same_for_all(stored.std, len(run["domains"]))}
        tensors |= {f"encoder.standardise.{name}": value for name, value in statistics.items()}
    facts = {
        "mode": model.mode,
        "backbone": stored.backbone,
        "origin": stored.origin,
        "data_config": stored.data_config,
        "feature_dim": stored.feature_dim,
        "channels": stored.channels,
        "image_size": stored.image_size,
        "bottleneck": model.bottleneck,
        "norm": model.norm,
        "linear": model.head == "linear",
        "neighbours": model.neighbours.model_dump() if model.head == "knn" else {},
        "memory": model.head == "memory",
        "prompts": model.tuning.prompts if model.tuning.how == "prompts" else 0,
        "classes": run["classes"],
        "domains": run["domains"],
        "grid": list(stored.grid),
        "images": stored.images,
        "layer": stored.layer,
        "precision": stored.precision if model.mode == "frozen" else "float32",
        "extents": any(".extents." in name for name in tensors),
        "parts": [{"method": method, "seed": own, "epoch": epoch} for method, own, epoch in parts],
        "seed": seed,
    }
    with atomic_file(folder / WEIGHTS) as partial:
        save_file({name: value.contiguous() for name, value in tensors.items()}, partial)
    write_json(folder / FACTS, facts)


def load_trained(folder: Path) -> TrainedClassifier:
    """Builds the classifier that `export_trained` wrote; every tensor must be there and fit."""
    facts, tensors = read_json(folder / FACTS), load_file(folder / WEIGHTS)
    for name in [name for name, value in tensors.items() if ".extents." in name and value.dim() == 2]:
        tensors[name] = tensors[name][..., None, None]  # linear layers of older versions are 1 x 1 convolutions
    config = ModelConfig(mode=facts["mode"], backbone=facts["backbone"]).backbone_config(f"{folder / FACTS}: backbone.")
    with torch.random.fork_rng(devices=[]):
        network = config.skeleton(facts["channels"], facts["image_size"])
    if facts["prompts"]:
        add_prompts(network, facts["prompts"], 0)
    domains = len(facts["domains"])
    pixels = Standardise(torch.zeros(domains, facts["channels"]), torch.ones(domains, facts["channels"]))
    grid = tuple(facts.get("grid", ()))  # models of older versions have none
    encoder = CellEncoder(network, pixels, facts["images"], facts.get("layer")) if grid else Encoder(network, pixels)
    frozen = facts["mode"] == "frozen"
    if frozen:
        at_precision(encoder, facts.get("precision", "float32"), torch.device("cpu"))  # likewise
    count = len(facts["parts"])
    heads = [
        _classifier(facts, None if frozen else copy.deepcopy(encoder), tensors, _prefix(number, count))
        for number in range(count)
    ]
    shown = [number for number, part in enumerate(facts["parts"]) if part["seed"] == facts["seed"]]
    memory = facts.get("memory", False)  # models of older versions do not say
    width = facts["feature_dim"] if facts["linear"] or facts["neighbours"] or memory else facts["bottleneck"]
    classifier = heads[0] if count == 1 else Mean(heads, shown)
    width *= max(1, len(shown))
    model = TrainedClassifier(
        encoder if frozen else None,
        classifier,
        facts["classes"],
        facts["domains"],
        width,
        grid,
    )
    model.load_state_dict(tensors, strict=True)
    return model.eval()


def _prefix(number: int, count: int) -> str:
    return "classifier" if count == 1 else f"classifier.parts.{number}"


def _classifier(
    facts: dict[str, Any], encoder: Encoder | None, tensors: Mapping[str, Tensor], prefix: str
) -> Classifier:
    """Returns one part, its weights still to come; an encoder of its own in full mode."""
    domains, classes, width = len(facts["domains"]), len(facts["classes"]), facts["feature_dim"]
    backbone = encoder or Features(Standardise(torch.zeros(domains, width), torch.ones(domains, width)))
    head: nn.Module | None = None
    if facts["neighbours"]:
        count, votes = len(tensors[f"{prefix}.head.labels"]), facts["neighbours"]
        head = NeighbourHead(count, width, classes, votes["count"], votes["temperature"])
    if facts.get("memory"):
        head = PatchMemory(width, domains)
    classifier = Classifier(backbone, width, classes, facts["bottleneck"], facts["norm"], 0, facts["linear"], head)
    if facts.get("extents"):  # models of older versions do not say
        by_cell = f"{prefix}.extents.layers.6.weight" not in tensors
        classifier.extents = ExtentHead(width, facts["grid"], by_cell)
    return classifier


def load_candidate(trained: Path, parts: Parts, features: Path, seed: int) -> TrainedClassifier:
    """Builds the classifier of one seed straight from what `train` and `embed` wrote; arguments as `export_trained`."""
    with tempfile.TemporaryDirectory() as folder:
        export_trained(trained, parts, features, seed, Path(folder))
        return load_trained(Path(folder))
