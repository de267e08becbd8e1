"""The backbone that `embed` stored beside its features: how to have it again, with the very same weights."""

import copy
import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from isthmus.core.device import Precision, has_bfloat16, make_deterministic, pick_device
from isthmus.core.files import atomic_file, read_json, write_json
from isthmus.core.progress import log
from isthmus.models import ModelConfig
from isthmus.models.backbones import Backbone
from isthmus.models.cells import CellEncoder
from isthmus.models.classifier import Encoder, Standardise, same_for_all

_FACTS, _WEIGHTS = "embed.json", "backbone.safetensors"
LEAST_COSINE = 0.999  # of features in bfloat16 to those in float32
COMPARED = 8  # [image] whose features are compared


@dataclass(frozen=True)
class StoredBackbone:
    """What `embed.json` says.

    Attributes:
        backbone: name and options as in params.yaml.
        origin: where the weights came from.
        feature_dim: D.
        channels: of the images.
        image_size: [pixel].
        mean: per channel, the network's own.
        std: per channel.
        data_config: what images the weights were made for, and on whose word mean and std are.
        grid: rows and columns of cells, where each has features of its own; empty: an image has one row of features.
        images: of one place in an example.
        layer: whose features the cells have; None: the network's end.
        precision: of the network's weights and layers when it made the features.
    """

    backbone: dict[str, Any]
    origin: str
    feature_dim: int
    channels: int
    image_size: int
    mean: list[float]
    std: list[float]
    data_config: dict[str, Any] = field(default_factory=dict)
    grid: tuple[int, ...] = ()
    images: int = 1
    layer: int | None = None
    precision: Precision = "float32"

    @property
    def cells(self) -> int:
        """Rows of features that an image has."""
        return math.prod(self.grid)


def store_backbone(
    folder: Path, built: Backbone, config: ModelConfig, channels: int, image_size: int, images: int = 0
) -> StoredBackbone:
    """Writes `embed.json` and `backbone.safetensors`: provenance is the bytes, not a name on a hub.

    Args:
        folder: where to write.
        built: the backbone.
        config: of the model.
        channels: of one image.
        image_size: [pixel].
        images: of one place in an example, where each cell has features of its own; 0: an image has one row of them.

    Raises:
        ConfigError: images have cells, and the network has no features by position, or no such layer.
    """
    facts = StoredBackbone(
        config.backbone, built.origin, built.feature_dim, channels, image_size, list(built.mean), list(built.std),
        built.data_config,
    )  # fmt: skip
    with atomic_file(folder / _WEIGHTS) as partial:
        save_file({name: tensor.contiguous() for name, tensor in built.network.state_dict().items()}, partial)
    if images:
        grid, width = _grid(built, channels, image_size, config.layer)
        facts = replace(facts, grid=grid, feature_dim=width * images, images=images, layer=config.layer)
    _write_facts(folder, facts)
    return facts


def _write_facts(folder: Path, facts: StoredBackbone) -> None:
    defaults = {"grid": (), "images": 1, "layer": None}
    write_json(folder / _FACTS, {k: v for k, v in facts.__dict__.items() if k not in defaults or v != defaults[k]})


def _grid(built: Backbone, channels: int, image_size: int, layer: int | None) -> tuple[tuple[int, int], int]:
    """Returns rows and columns of cells, and the width of their features."""
    pixels = Standardise(same_for_all(built.mean, 1), same_for_all(built.std, 1))
    encoder = CellEncoder(built.network.eval(), pixels, layer=layer)
    with torch.no_grad():
        found = encoder(torch.zeros(1, channels, image_size, image_size), torch.zeros(1, dtype=torch.int64))
    return encoder.grid, found.shape[2]


def view_prefix(number: int) -> str:
    """Returns what the names of the files begin with that hold the features of a photometric view, from 1."""
    return f"view{number}-"


def read_facts(folder: Path) -> StoredBackbone:
    """Reads `embed.json`."""
    return StoredBackbone(**read_json(folder / _FACTS))


def stored_encoder(
    folder: Path, domains: int, mean: torch.Tensor | None = None, std: torch.Tensor | None = None
) -> Encoder:
    """Rebuilds the encoder from the stored weights, in float32, as training takes it.

    Args:
        folder: what `embed` wrote.
        domains: number of domains, sources and target.
        mean: float32 `[domains, C]` to normalise by instead of the network's own.
        std: likewise.
    """
    facts = read_facts(folder)
    config = ModelConfig(mode="frozen", backbone=facts.backbone).backbone_config(f"{folder / _FACTS}: backbone.")
    with torch.random.fork_rng(devices=[]):
        network = config.skeleton(facts.channels, facts.image_size)
    network.load_state_dict(load_file(folder / _WEIGHTS), strict=True)
    own_mean, own_std = same_for_all(facts.mean, domains), same_for_all(facts.std, domains)
    pixels = Standardise(own_mean if mean is None else mean, own_std if std is None else std)
    return CellEncoder(network, pixels, facts.images, facts.layer) if facts.grid else Encoder(network, pixels)


def frozen_encoder(
    folder: Path, domains: int, asked: Precision | Literal["auto"], images: NDArray[Any], device: torch.device
) -> Encoder:
    """Rebuilds the encoder at the precision that its features will have, and adds that precision to `embed.json`.

    `auto` follows what the device offers and what rounding does to features, never a timing: features must not depend
    on how busy the machine is.

    Args:
        folder: where `store_backbone` wrote.
        domains: number of domains, sources and target.
        asked: as params.yaml has it.
        images: prepared, `[N, H, W, C]`; with `auto` their features must keep `LEAST_COSINE` to those of float32.
        device: which computes.
    """
    encoder = stored_encoder(folder, domains).eval().to(device)
    precision: Precision = "float32" if asked == "auto" else asked
    if asked == "auto" and has_bfloat16(device):
        kept = _least_cosine(
            encode(encoder, images, device), encode(copy.deepcopy(encoder).at("bfloat16"), images, device)
        )
        precision = "bfloat16" if kept >= LEAST_COSINE else "float32"
        log(f"embed: {precision}: features in bfloat16 have a cosine of {kept:.5f} to float32, {LEAST_COSINE} is asked")
    _write_facts(folder, replace(read_facts(folder), precision=precision))
    return at_precision(encoder, precision, device)


def at_precision(encoder: Encoder, precision: Precision, device: torch.device) -> Encoder:
    """Returns the encoder at a precision, and logs where the device has no instructions for it."""
    if precision == "bfloat16" and not has_bfloat16(device):
        log(
            "this machine has no bfloat16 instructions: torch emulates them, which is slower, and features differ by"
            " about a hundredth from those of a machine that has them. Features of embed: {precision: float32} do not"
        )
    return encoder.at(precision)


class FrozenNetwork:
    """The frozen encoder on a device. Pickled it is the files it was made of: another process reads them, once.

    Args:
        folder: where `store_backbone` and `frozen_encoder` wrote.
        key: hash of these files.
        domains: number of domains.
        device: which computes.
        threads: of the CPU.
        encoder: of these files, at its precision.
    """

    def __init__(
        self, folder: Path, key: str, domains: int, device: torch.device, threads: int, encoder: Encoder
    ) -> None:
        self._made_of = (folder, key, domains, device, threads)
        self._encoder = encoder

    def __reduce__(self) -> Any:
        return read_network, self._made_of

    def encode(self, images: NDArray[Any]) -> NDArray[Any]:
        """Returns features of images `[N, H, W, C]`, as `encode`."""
        make_deterministic(self._made_of[4])  # torch counts threads for each thread that computes
        return encode(self._encoder, images, self._made_of[3])


@lru_cache(maxsize=1)  # once for all units that a worker computes; the key renews it
def read_network(folder: Path, key: str, domains: int, device: torch.device, threads: int) -> FrozenNetwork:
    """Reads a network again; arguments as of `FrozenNetwork`."""
    pick_device(device.type)  # type: ignore[arg-type]  # refuses a device that this machine lacks; its type is its name
    encoder = stored_encoder(folder, domains).eval().to(device)
    return FrozenNetwork(
        folder, key, domains, device, threads, at_precision(encoder, read_facts(folder).precision, device)
    )


def _least_cosine(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Returns the smallest cosine between an image's features in two arrays, of cells their mean; 0 where not finite.

    >>> _least_cosine(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 0.0]]))
    1.0
    """
    a, b = torch.from_numpy(one).double(), torch.from_numpy(other).double()
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=-1)
    cosine[(a == b).all(dim=-1)] = 1.0  # both zero
    return float(cosine.reshape(len(one), -1).mean(dim=1).nan_to_num(nan=0.0).min())


@torch.inference_mode()
def encode(encoder: Encoder, images: NDArray[Any], device: torch.device) -> NDArray[Any]:
    """Returns features of images `[N, H, W, C]`: float32 `[N, D]`, or float16 `[N, T, D]` of cells."""
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).to(device)
    domains = torch.zeros(len(images), dtype=torch.int64, device=device)
    features: NDArray[np.float32] = encoder(pixels, domains).float().cpu().numpy()
    return features.astype(np.float16) if isinstance(encoder, CellEncoder) else features
