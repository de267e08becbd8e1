"""How much of a backbone trains, and how: plain functions on the network of an `Encoder`.

A network is a stack of layers, numbered from its input. timm says of each of its networks which these are
(`group_matcher`): what stands before the blocks is layer 0, every block of every stage one more. A layer of norms alone
at the end belongs to the block before it. Where timm says nothing, or counts whole stages, a layer is a child, and a
child that holds more than a third of all weights and is a stack of blocks gives way to these.
"""

import copy
import math
from collections import Counter
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
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    depth = _layers_of_timm(network)
    if not depth or _counts_stages(network, depth, sizes):
        depth = _layers_by_children(network, sizes)
    last = max(depth.values(), default=0)
    flat = {name for name, parameter in network.named_parameters() if parameter.ndim < 2}
    if all(name in flat for name, layer in depth.items() if layer == last):
        depth = {name: min(layer, max(last - 1, 0)) for name, layer in depth.items()}
    return depth


def _layers_of_timm(network: nn.Module) -> dict[str, int]:
    matcher: Any = getattr(network, "group_matcher", None)
    if matcher is None:
        return {}
    from timm.models import group_parameters  # timm is there: it made this network

    found: dict[str, int] = group_parameters(network, matcher(coarse=False), reverse=True)
    return {name: found[name] for name, _ in network.named_parameters()}


def _counts_stages(network: nn.Module, depth: dict[str, int], sizes: dict[str, int]) -> bool:
    """Returns whether several blocks of one stack are one layer that holds more than a third of all weights."""
    weights = Counter[int]()
    for name, layer in depth.items():
        weights[layer] += sizes[name]
    large = {layer for layer, count in weights.items() if 3 * count > sum(sizes.values())}
    for path, stack in network.named_modules():
        if isinstance(stack, nn.Sequential | nn.ModuleList):
            blocks = {
                f"{path}.{name}." for name, block in stack.named_children() if any(True for _ in block.children())
            }
            seen = Counter(layer for block in blocks for layer in {depth[n] for n in depth if n.startswith(block)})
            if any(seen[layer] > 1 for layer in large):
                return True
    return False


def _layers_by_children(network: nn.Module, sizes: dict[str, int]) -> dict[str, int]:
    paths = _opened(network, "", sum(sizes.values()))
    place = {name: next(n for n, path in enumerate(paths) if f"{name}.".startswith(path)) for name in sizes}
    order = sorted(set(place.values()))
    return {name: order.index(layer) for name, layer in place.items()}


def _opened(network: nn.Module, path: str, total: int) -> list[str]:
    """Returns where layers lie: a network's own tensors, then its children, or theirs where one is a large stack."""
    own = [f"{path}{name}." for name, _ in network.named_parameters(recurse=False)]
    for name, child in network.named_children():
        large = 3 * sum(parameter.numel() for parameter in child.parameters()) > total
        own += _opened(child, f"{path}{name}.", total) if large and _stacks(child) else [f"{path}{name}."]
    return own


def _stacks(module: nn.Module) -> bool:
    """Returns whether a module is, or has, a list of like blocks; a block itself has none."""
    for part in (module, *module.children()):
        if isinstance(part, nn.Sequential | nn.ModuleList):
            kinds = Counter(type(block) for block in part if any(True for _ in block.children()))
            if max(kinds.values(), default=0) > 1 or any(_stacks(block) for block in part):
                return True
    return False


def trained_share(network: nn.Module) -> float:
    """Returns the share of a network's weights that train now; 0 where it has none.

    >>> network = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 5))
    >>> trained_share(network), trained_share(network[0].requires_grad_(False))
    (1.0, 0.0)
    """
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    total = sum(count for count, _ in counts)
    return sum(count for count, trains in counts if trains) / total if total else 0.0


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

    @property
    def weight(self) -> Tensor:
        """The changed weight: BEiT, EVA and Swin v2 multiply by it themselves instead of calling the layer."""
        return self.base.weight + self.scale * self.up @ self.down

    @property
    def bias(self) -> Tensor | None:
        """The bias, which stays; None: the layer has none."""
        return self.base.bias

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
