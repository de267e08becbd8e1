"""Which of timm's architectures a file was made for, by the shapes of its tensors."""

import re
from typing import Any

import torch
from torch import Tensor

from isthmus.models.weights.fit import dicts_of_tensors, find

_MOST = 24  # networks that are tried; each takes about a tenth of a second, without memory for its weights
_FAMILIES = {  # a name that identifies the family -> timm's modules
    r"dwconv|conv_dw\.bias|features\.1\.0\.layer_scale|stages\.0\.layers\.0\.depthwise_conv": "convnext",
    r"relative_position_bias_table|cpb_mlp|continuous_position_bias": "swin_transformer swin_transformer_v2 beit",
    r"layer1\.0\.conv1|encoder\.stages\.0\.layers\.0\.layer\.": "resnet",
    r"conv_stem|features\.0\.1\.running_mean|depthwise_conv\.": "efficientnet mobilenetv3",
    r"patch_embed|conv_proj|conv1\.weight": "vision_transformer deit eva",
}
_SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1152: "so", 1280: "huge", 1408: "giant", 1536: "gi"}


def fitting(contents: Any, asked: str) -> str:
    """Returns an architecture that takes the file whole, most like the one that was asked for; '' where none was found.

    Args:
        contents: what the file holds.
        asked: timm's name, as params.yaml has it.
    """
    import timm

    names = [name for _, tensors in dicts_of_tensors(contents) for name in tensors]
    shapes = {name: tuple(t.shape) for _, tensors in dicts_of_tensors(contents) for name, t in tensors.items()}
    modules = next((m for telling, m in _FAMILIES.items() if any(re.search(telling, n) for n in names)), "")
    candidates = [name for module in modules.split() for name in timm.list_models(module=module)]
    if "vision_transformer" in modules:
        candidates = [name for name in candidates if _could_be(name, shapes)]
    plain = asked.partition(".")[0]
    candidates.sort(key=lambda name: (-_alike(name, plain), len(name), name))
    empty = _without_values(contents)
    for name in candidates[:_MOST]:
        with torch.device("meta"):
            network = timm.create_model(name, pretrained=False, num_classes=0)
        fit = find(network, empty)
        if fit is not None and fit.whole:
            return name
    return ""


def _could_be(name: str, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Returns whether a vision transformer's name speaks of the file's patches and width."""
    kernels = [s for s in shapes.values() if len(s) == 4 and s[2] == s[3] and s[2] in (8, 14, 16, 32)]
    if not kernels:
        return False
    width, patch = kernels[0][0], kernels[0][2]
    return f"patch{patch}" in name and width in _SIZES and _SIZES[width] in name


def _alike(first: str, second: str) -> int:
    return len(set(first.split("_")) & set(second.split("_")))


def _without_values(contents: Any) -> Any:
    if isinstance(contents, Tensor):
        return contents.to("meta")
    if isinstance(contents, dict):
        return {name: _without_values(value) for name, value in contents.items()}
    return contents
