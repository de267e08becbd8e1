"""Two-dimensional networks of MONAI by name: random weights, a file of them, or a MONAI bundle as it is handed out.

MONAI Consortium, MONAI: An open-source framework for deep learning in healthcare, 2022,
https://arxiv.org/abs/2211.02701. Of a network all is kept but its classifier: convolutional networks give the mean of
their last maps, ViT its class token after the norm (with `options: {classification: false}`, which has no class token,
the mean of its patches). BasicUNet (Falk et al., U-Net: deep learning for cell counting, detection, and morphometry,
Nature Methods 2019) gives features of cells of 4 x 4 pixels, for masks: it runs at half the images' size, and its last
maps are averaged two by two. Values of images are handed on in [0, 1], as MONAI's own scaling makes them, unless
`backbone.mean` and `std` are set: neither a bundle nor a state dict states statistics.
"""

import tempfile
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from isthmus.core.errors import ConfigError, WeightsError
from isthmus.core.files import sha256_file
from isthmus.core.monai_import import monai_import
from isthmus.core.plugins import did_you_mean
from isthmus.models import weights
from isthmus.models.backbones import Backbone, BackboneConfig
from isthmus.models.bands import inflated, known_wavelengths, seeing_rgb

_BUNDLED = "models/model.pt"  # MONAI's bundle specification: where the weights of a bundle lie
_POSITIONS = "patch_embedding.position_embeddings"
_CELL, _LEAST = 4, 64  # [pixel] of BasicUNet: side of a cell, and of the smallest image
_OURS = {"in_channels", "out_channels", "num_classes", "spatial_dims", "img_size", "pretrained", "progress"}


class _Architecture(NamedTuple):
    """How MONAI makes a network.

    Attributes:
        make: `(monai.networks.nets, channels, image_size, options)` -> network.
        classifier: the part that a backbone does not have.
        first: the part that sees the image's channels.
    """

    make: Callable[[Any, int, int, dict[str, Any]], nn.Module]
    classifier: str
    first: str


def _vit(nets: Any, channels: int, side: int, options: dict[str, Any]) -> nn.Module:
    chosen = {"patch_size": 16, "classification": True} | options
    network: nn.Module = nets.ViT(in_channels=channels, img_size=side, spatial_dims=2, **chosen)
    return network


@lru_cache(maxsize=1)
def _unet_class() -> Any:
    """Returns MONAI's BasicUNet as a network with features by place; made late, as MONAI's import takes seconds."""
    with monai_import():
        from monai.networks.nets import BasicUNet

    class CellUNet(BasicUNet):  # type: ignore[misc]  # MONAI has no types here
        """Images `[B, C, H, W]` -> the mean of the features `[B, D]`; `forward_features` has those of each cell."""

        def forward_features(self, images: Tensor) -> Tensor:
            """Returns `[B, D, H / 4, W / 4]`."""
            return functional.avg_pool2d(super().forward(functional.avg_pool2d(images, 2)), 2)

        def forward(self, images: Tensor) -> Tensor:
            return self.forward_features(images).mean(dim=(2, 3))

    return CellUNet


def _unet(_: Any, channels: int, side: int, options: dict[str, Any]) -> nn.Module:
    chosen = {"features": (16, 16, 32, 64, 128, 16)} | options
    network: nn.Module = _unet_class()(2, channels, 1, **chosen)
    return network


ARCHITECTURES = {
    "BasicUNet": _Architecture(_unet, "final_conv", "conv_0.conv_0.conv"),
    "ViT": _Architecture(_vit, "classification_head", "patch_embedding.patch_embeddings"),
    "DenseNet121": _Architecture(
        lambda nets, channels, _, options: nets.DenseNet121(2, channels, 1, **options),
        "class_layers.out",
        "features.conv0",
    ),
    "SEResNet50": _Architecture(
        lambda nets, channels, _, options: nets.SEResNet50(
            spatial_dims=2, in_channels=channels, num_classes=1, **options
        ),
        "last_linear",
        "layer0.conv1",
    ),
    "EfficientNet-B0": _Architecture(
        lambda nets, channels, _, options: nets.EfficientNetBN(
            "efficientnet-b0", pretrained=False, spatial_dims=2, in_channels=channels, num_classes=1, **options
        ),
        "_fc",
        "_conv_stem",
    ),
}


class Config(BackboneConfig):
    """Options of a MONAI backbone."""

    architecture: str = Field(description=f"{', '.join(ARCHITECTURES)}")
    weights: str = Field(
        "random", description="random; or a path: a file of weights, or a MONAI bundle (its folder or its zip)"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="further arguments of MONAI's network")

    def build(self, channels: int, image_size: int, cache: Path) -> Backbone:
        """Returns the network with its weights.

        Raises:
            WeightsError: the file is not there, is none, or does not fit the network or the channels.
            ConfigError: there is no such network, or it does not take images of this size.
        """
        waves = known_wavelengths(self.wavelengths, channels)
        given, origin, place = 3, f"random weights, seed {self.seed}", ""
        contents = None
        if self.weights != "random":
            contents, origin, given = self._contents(image_size)
        elif self.bands == "inflate":
            given = channels
        network = self._seeded(given, image_size)
        if contents is not None:
            place = str(weights.load_strictly(network, contents, origin))
        inflates = self.bands == "inflate" and (given != 3 or contents is None)
        if given != channels or not (inflates or self.takes_rgb(channels)):
            network = self._for_channels(network, given, waves, image_size, origin)
        mean = self.set_statistic("mean", channels) or (0.0,) * channels
        std = self.set_statistic("std", channels) or (1.0,) * channels
        used = {"architecture": self.architecture, "mean": list(mean), "std": list(std), "weights_found": place}
        used["statistics_from"] = "models: backbone" if self.mean or self.std else "values in [0, 1] as they are"
        return Backbone(
            network, _feature_dim(network, channels, image_size, self.architecture), mean, std, origin, used
        )

    def check_weights(self, image_size: int) -> None:
        """Reads the file that `weights` names, if it names one, and compares its tensors with the network's.

        Raises:
            WeightsError: as `build`. What a stage writes to `out` may not be there yet, and is not looked for.
        """
        if self.weights == "random" or Path(self.weights).parts[:1] == ("out",):
            return
        contents, origin, given = self._contents(image_size)
        weights.fitted(self._meta(given, image_size), contents, origin)

    def skeleton(self, channels: int, image_size: int) -> nn.Module:
        """Returns the network without pretrained weights.

        Raises:
            ConfigError: there is no such network, or it takes no images of this size or these bands.
        """
        if self.bands == "rgb" and not self.takes_rgb(channels):
            return seeing_rgb(self._network(3, image_size), known_wavelengths(self.wavelengths, channels))
        return self._network(channels, image_size)

    def _contents(self, image_size: int) -> tuple[Any, str, int]:
        """Returns what the file of weights holds, its origin, and for how many channels it was made.

        Raises:
            WeightsError: it cannot be read, or its positions are of images of another size.
        """
        contents, origin = read(self.weights)
        network = self._meta(3, image_size)
        own = dict(network.state_dict()).get(_POSITIONS)
        found = [
            tensors[name] for _, tensors in weights.dicts_of_tensors(contents) for name in tensors if _POSITIONS in name
        ]
        if own is not None and found and own.shape[1] != found[0].shape[1]:
            side = round(found[0].shape[1] ** 0.5) * image_size // round(own.shape[1] ** 0.5)
            raise WeightsError(
                f"weights from {origin} have positions of images of {side} [pixel] (got preprocess.image_size"
                f" {image_size}). Set it to {side}"
            )
        return contents, origin, weights.bands(network, contents)

    def _for_channels(
        self, network: nn.Module, given: int, waves: list[float | None], image_size: int, origin: str
    ) -> nn.Module:
        """Returns a network of one or three channels for N, by `bands`; one channel's weights are shared evenly."""
        if given == 3 and self.bands == "rgb":
            return seeing_rgb(network, waves)
        if given not in (1, 3) or self.bands == "rgb":
            raise WeightsError(
                f"weights from {origin} are for images of {given} channels (got {len(waves)} channels, bands:"
                f" {self.bands}). Prepare these {given} channels, or name weights made for one or three"
            )
        first = f"{ARCHITECTURES[self.architecture].first}.weight"
        wide, tensors = self._network(len(waves), image_size), network.state_dict()
        grey = tensors[first].repeat(1, len(waves), 1, 1) / len(waves)
        tensors[first] = grey if given == 1 else inflated(tensors[first], waves)
        wide.load_state_dict(tensors, strict=True)
        return wide

    def _seeded(self, channels: int, image_size: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self._network(channels, image_size)

    def _meta(self, channels: int, image_size: int) -> nn.Module:
        with torch.device("meta"):
            return self._network(channels, image_size)

    def _network(self, channels: int, image_size: int) -> Any:
        if self.architecture not in ARCHITECTURES:
            raise ConfigError(
                f"models: backbone.architecture: no network '{self.architecture}' of MONAI is known here."
                f"{did_you_mean(self.architecture, list(ARCHITECTURES))} Allowed: {', '.join(ARCHITECTURES)}"
            )
        if reserved := sorted(_OURS & set(self.options)):
            raise ConfigError(f"models: backbone.options: {', '.join(reserved)} cannot be set here. Drop it")
        made, patch = ARCHITECTURES[self.architecture], self.options.get("patch_size", 16)
        if self.architecture == "ViT" and isinstance(patch, int) and image_size % patch:
            raise ConfigError(
                f"preprocess.image_size {image_size} is not a multiple of the patch size {patch} of 'ViT'. Nearest"
                f" allowed: {max(patch, round(image_size / patch) * patch)} [pixel]"
            )
        if self.architecture == "BasicUNet" and (image_size % _CELL or image_size < _LEAST):
            raise ConfigError(
                f"preprocess.image_size {image_size}: BasicUNet halves images five times and answers for cells of"
                f" {_CELL} x {_CELL} pixels. Nearest allowed: {max(_LEAST, round(image_size / _CELL) * _CELL)} [pixel]"
            )
        with monai_import():
            from monai.networks import nets
        try:
            network: Any = made.make(nets, channels, image_size, self.options)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"models: backbone.options: MONAI's {self.architecture} does not take them ({error}). Allowed: the"
                " arguments of that class"
            ) from error
        parent, _, child = made.classifier.rpartition(".")
        if hasattr(network.get_submodule(parent), child):
            setattr(network.get_submodule(parent), child, nn.Identity())
        # what `models.weights` needs of a network's facts, under timm's names
        network.pretrained_cfg = {
            "architecture": self.architecture, "classifier": made.classifier, "first_conv": made.first,
        }  # fmt: skip
        if self.architecture == "ViT":
            network.register_forward_hook(_features)
        return network


def read(source: str) -> tuple[Any, str]:
    """Returns what a file of weights holds, and one line on its origin; of a bundle, what its `models/model.pt` holds.

    Raises:
        WeightsError: there is no such file, it is a bundle without weights, or holds no tensors.
    """
    path = Path(source)
    if path.is_dir():
        if not (path / _BUNDLED).is_file():
            raise WeightsError(
                f"models: backbone.weights: the folder '{path}' is no MONAI bundle with weights: {_BUNDLED} is not in"
                " it. Download the bundle with its weights, or name a file"
            )
        contents, origin = weights.pretrained("", str(path / _BUNDLED), Path())
        return _without_stale(contents), f"MONAI bundle {path.name}, {origin}"
    if not path.is_file():
        raise WeightsError(
            f"models: backbone.weights: '{path}' is neither a file nor a folder, nor 'random'. Name a file of weights"
            " (.pt, .pth, .safetensors) or a MONAI bundle (its folder or its zip)"
        )
    inside = _bundled(path)
    if not inside:
        contents, origin = weights.pretrained("", source, Path())
        return _without_stale(contents), origin
    with tempfile.TemporaryDirectory() as temporary:
        try:
            with zipfile.ZipFile(path) as archive:
                found = archive.extract(inside, temporary)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # RuntimeError: it is encrypted
            raise WeightsError(
                f"models: backbone.weights: '{path}': {inside} cannot be unpacked ({error}). Download the bundle again"
            ) from error
        contents, _ = weights.pretrained("", found, Path())
    return _without_stale(contents), f"MONAI bundle {path.name}, sha256 {sha256_file(path)[:16]}"


def _without_stale(contents: Any) -> Any:
    """Returns what a file holds without the cross-attention that ViT of older versions made and never used."""
    if not isinstance(contents, dict):
        return contents
    return {name: _without_stale(value) for name, value in contents.items() if ".cross_attn." not in str(name)}


def _bundled(path: Path) -> str:
    """Returns the name of a bundle's weights in its zip; empty: the file is none (torch's own files are zips too)."""
    if not zipfile.is_zipfile(path):
        return ""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    found = [name for name in names if name == _BUNDLED or name.endswith(f"/{_BUNDLED}")]
    if not found and any(name.endswith("configs/metadata.json") for name in names):
        raise WeightsError(
            f"models: backbone.weights: '{path}' is a MONAI bundle without weights: {_BUNDLED} is not in it. Download"
            " the bundle with its weights"
        )
    return found[0] if found else ""


def _features(_: nn.Module, __: Any, output: tuple[Tensor, Any]) -> Tensor:
    """Returns `[B, D]` of what ViT gives: the class token, which its head has taken, or the mean of the patches."""
    return output[0] if output[0].dim() == 2 else output[0].mean(dim=1)


def _feature_dim(network: nn.Module, channels: int, image_size: int, architecture: str) -> int:
    """Returns D by running the network on one image.

    Raises:
        ConfigError: it does not take images of this size.
    """
    was = network.training
    try:
        with torch.no_grad():
            features: Tensor = network.eval()(torch.zeros(1, channels, image_size, image_size))
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"models: backbone.architecture: MONAI's {architecture} does not take images of {image_size} [pixel]"
            f" ({error}). Set preprocess.image_size to 32 or more"
        ) from error
    network.train(was)
    return int(features.shape[1])
