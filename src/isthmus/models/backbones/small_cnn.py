"""A LeNet-sized network for digits and tests: two convolutions, trained from scratch.

LeCun, Bottou, Bengio, Haffner, Proceedings of the IEEE 86 (1998), section II; widths 20 and 50 as in the
MNIST <-> USPS protocol of Hoffman et al., CyCADA, ICML 2018, and Liang et al., SHOT, ICML 2020.
"""

from pathlib import Path

import torch
from pydantic import Field
from torch import nn

from isthmus.core.errors import ConfigError
from isthmus.models.backbones import Backbone, BackboneConfig
from isthmus.models.bands import known_wavelengths, seeing_rgb


class Config(BackboneConfig):
    """Options of the small network."""

    width: int = Field(20, ge=1, description="channels of the first convolution; the second has 2.5 times as many")
    dropout: float = Field(0.5, ge=0, lt=1, description="[share] of feature maps that a training step leaves out")

    def build(self, channels: int, image_size: int, cache: Path) -> Backbone:
        """Returns the network with random weights from `seed`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = self.skeleton(channels, image_size)
        dim = _feature_dim(self.width, image_size)
        mean, std = (self.set_statistic(name, channels) or (0.5,) * channels for name in ("mean", "std"))
        return Backbone(network, dim, mean, std, f"random weights, seed {self.seed}")

    def skeleton(self, channels: int, image_size: int) -> nn.Module:
        """Returns the network as it is initialised by the current random state; random weights need no inflation."""
        if self.bands == "rgb" and not self.takes_rgb(channels):
            narrow = self.model_copy(update={"bands": "inflate"}).skeleton(3, image_size)
            return seeing_rgb(narrow, known_wavelengths(self.wavelengths, channels))
        if image_size < 16:
            raise ConfigError(
                f"small_cnn: preprocess.image_size {image_size} is too small. Allowed: 16 or more [pixel]"
            )
        second = self.width * 5 // 2
        return nn.Sequential(
            nn.Conv2d(channels, self.width, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(self.width, second, 5),
            nn.Dropout2d(self.dropout),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
        )


def _feature_dim(width: int, image_size: int) -> int:
    side = ((image_size - 4) // 2 - 4) // 2
    return width * 5 // 2 * side * side
