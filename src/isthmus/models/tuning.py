"""How much of a backbone trains, and how: plain functions on the network of an `Encoder`.

A network is a stack of layers. In a vision transformer what stands before the blocks is layer 0, block i (from 0) is
layer i + 1, and a final norm belongs to the last block; elsewhere each child with parameters is a layer.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.core.errors import ConfigError
from isthmus.models.recipe import Tuning


def layers(network: nn.Module) -> dict[str, int]:
    """Returns the layer of each parameter, by name.

    >>> layers(nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)))
    {'0.weight': 0, '0.bias': 0, '2.weight': 1, '2.bias': 1}
    """
    blocks = getattr(network, "blocks", None)
    names = [name for name, _ in network.named_parameters()]
    if isinstance(blocks, nn.ModuleList | nn.Sequential) and hasattr(network, "patch_embed"):
        return {name: _layer_of_transformer(name, len(blocks)) for name in names}
    children = list(dict.fromkeys(name.partition(".")[0] for name in names))
    return {name: children.index(name.partition(".")[0]) for name in names}


def prepare(network: nn.Module, tuning: Tuning, seed: int) -> None:
    """Adds what the way of tuning adds (LoRA, prompts) and sets which parameters train, in place.

    Raises:
        ConfigError: the network has no such layers.
    """
    if tuning.how == "lora":
        network.requires_grad_(False)
        add_lora(network, tuning.rank, tuning.alpha, seed)
    elif tuning.how == "prompts":
        network.requires_grad_(False)
        add_prompts(network, tuning.prompts, seed)
    elif tuning.how == "partial":
        train_last(network, tuning.blocks)


def train_last(network: nn.Module, blocks: int) -> None:
    """Lets only the last `blocks` layers train; 0: none."""
    depth = layers(network)
    highest = max(depth.values())
    if blocks > highest:
        raise ConfigError(
            f"params.yaml: models: tuning.blocks: the backbone has {highest} layers after its first (got {blocks})."
            f" Allowed: 0 to {highest}; all of it: tuning.how: full"
        )
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(depth[name] > highest - blocks)


def unfreeze(network: nn.Module, tuned: Sequence[str], epoch: int, every: int) -> None:
    """Lets one more layer train after each `every` epochs, the last first; in the first ones only what is above it.

    Howard and Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018, section 3.3. It depends
    on the epoch alone, so that a resumed run has the same layers.

    Args:
        network: the backbone's.
        tuned: names of the parameters that train in the end.
        epoch: from 1.
        every: [epoch].
    """
    depth = layers(network)
    lowest = max(depth.values()) + 1 - (epoch - 1) // every
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in tuned and depth[name] >= lowest)


class LoraLinear(nn.Module):
    """A frozen linear layer with a trained change of low rank: W x + b + alpha / r B A x.

    Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022, equation 3: A is random, B zero, so that
    training begins at the layer itself.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, seed: int) -> None:
        super().__init__()
        self.base = base
        self.scale = alpha / rank
        generator = torch.Generator().manual_seed(seed)
        bound = 1 / math.sqrt(base.in_features)  # kaiming_uniform with a = sqrt(5), as the authors' code has it
        start = (2 * torch.rand(rank, base.in_features, generator=generator) - 1) * bound
        self.down = nn.Parameter(start)
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns `[..., out]` of `[..., in]`."""
        changed: Tensor = self.base(inputs) + self.scale * (inputs @ self.down.T @ self.up.T)
        return changed

    def merged(self) -> nn.Linear:
        """Returns one plain layer that answers the same."""
        layer = copy.deepcopy(self.base)
        with torch.no_grad():
            layer.weight += self.scale * self.up @ self.down
        return layer


def add_lora(network: nn.Module, rank: int, alpha: float, seed: int) -> None:
    """Replaces each linear layer of the blocks' attention by a `LoraLinear`, in place.

    Raises:
        ConfigError: there is none.
    """
    places = [
        (parent, child, layer)
        for path, parent in network.named_modules()
        for child, layer in parent.named_children()
        if isinstance(layer, nn.Linear) and "attn" in path.split(".")
    ]
    if not places:
        raise ConfigError(
            "params.yaml: models: tuning.how: lora changes the attention of a vision transformer, and this backbone has"
            " none. Allowed: a timm backbone, or tuning.how: full or partial"
        )
    for number, (parent, child, layer) in enumerate(places):
        setattr(parent, child, LoraLinear(layer, rank, alpha, seed + number))


def merged(model: nn.Module) -> nn.Module:
    """Returns the model itself, or a copy whose LoRA layers are plain again: its weights have the standard names."""
    if not any(isinstance(module, LoraLinear) for module in model.modules()):
        return model
    plain = copy.deepcopy(model)
    for parent in list(plain.modules()):
        for child, layer in list(parent.named_children()):
            if isinstance(layer, LoraLinear):
                setattr(parent, child, layer.merged())
    return plain


class Prompts(nn.Module):
    """Learned tokens that join the patches before the first block.

    Jia et al., Visual Prompt Tuning, ECCV 2022, equation 4 (shallow). They stand at the end instead of after the class
    token: they have no position, so that attention is the same, and the class token stays the first.
    """

    def __init__(self, before: nn.Module, tokens: Tensor) -> None:
        super().__init__()
        self.before = before
        self.tokens = nn.Parameter(tokens)

    def forward(self, patches: Tensor) -> Tensor:
        """Returns tokens `[N, L + P, D]` of `[N, L, D]`."""
        normed = self.before(patches)
        return torch.cat([normed, self.tokens.to(normed.dtype).expand(len(normed), -1, -1)], dim=1)


def add_prompts(network: nn.Module, count: int, seed: int) -> None:
    """Adds `count` prompts to a timm vision transformer that reads its class token, in place.

    Raises:
        ConfigError: it is none.
    """
    vit: Any = network
    if not (hasattr(network, "norm_pre") and getattr(network, "global_pool", "") == "token"):
        raise ConfigError(
            "params.yaml: models: tuning.how: prompts needs a timm vision transformer that reads its class token."
            " Allowed: such a backbone, or tuning.how: full, partial or lora"
        )
    width, patch = int(vit.embed_dim), int(vit.patch_embed.patch_size[0])
    bound = math.sqrt(6.0 / (3 * patch**2 + width))  # the authors' Xavier uniform over patch and width
    generator = torch.Generator().manual_seed(seed)
    vit.norm_pre = Prompts(vit.norm_pre, (2 * torch.rand(1, count, width, generator=generator) - 1) * bound)


def distance_to_start(parameters: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Returns 1/2 sum ||w - w_0||^2 over pairs of a weight and its start.

    Li, Grandvalet and Davoine, Explicit Inductive Bias for Transfer Learning with Convolutional Networks, ICML 2018,
    equation 3 (L2-SP), its first term; the second, on new layers, is weight decay.
    """
    return 0.5 * torch.stack([((weight - start) ** 2).sum() for weight, start in parameters]).sum()


def _layer_of_transformer(name: str, blocks: int) -> int:
    parts = name.split(".")
    if parts[0] == "blocks":
        return int(parts[1]) + 1
    return blocks if parts[0] in ("norm", "fc_norm") else 0
