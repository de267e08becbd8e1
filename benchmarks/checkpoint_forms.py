"""The forms in which authors hand out weights, each made from a small random network of timm; which of them load.

`python -m benchmarks.checkpoint_forms --write` puts the tables into docs/weights.md. No form is made by the code that
reads it: names are turned round by hand here, or the file is that of the other library itself (torchvision).
"""

import argparse
import copy
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import isthmus  # noqa: F401 - before timm, on machines with torchvision's CUDA build

Tensors = dict[str, Tensor]
TABLE = re.compile(r"<!-- forms -->.*<!-- end of forms -->", re.DOTALL)
SHARES = re.compile(r"<!-- shares -->.*<!-- end of shares -->", re.DOTALL)
FAMILIES = {  # whose layers are counted, in full size
    "ViT": "vit_small_patch16_224",
    "DeiT, distilled": "deit_small_distilled_patch16_224",
    "DINOv2": "vit_small_patch14_dinov2",
    "DINOv3": "vit_small_patch16_dinov3",
    "EVA02": "eva02_small_patch14_224",
    "SigLIP": "vit_base_patch16_siglip_224",
    "Swin": "swin_tiny_patch4_window7_224",
    "SwinV2": "swinv2_tiny_window8_256",
    "ConvNeXt": "convnext_tiny",
    "ResNet": "resnet50",
    "EfficientNet": "efficientnet_b0",
    "MobileNet": "mobilenetv3_large_100",
}
VIT = {"depth": 2, "embed_dim": 48, "num_heads": 3}


@dataclass(frozen=True)
class Form:
    """One form.

    Attributes:
        name: what its authors call it.
        architecture: timm's name of the network.
        save: writes a network's weights in this form.
        suffix: of the file.
        options: what makes the network small.
        side: [pixel] of the images that features are compared on.
        classes: of the classifier in the file.
        other: makes the other library's network where `save` writes that one's own file; else timm's is written.
        features: of the other library's network, for images.
    """

    name: str
    architecture: str
    save: Callable[[nn.Module, Path], None]
    suffix: str = ".pth"
    options: dict[str, Any] = field(default_factory=lambda: dict(VIT))
    side: int = 64
    classes: int = 10
    other: Callable[[], nn.Module] | None = None
    features: Callable[[nn.Module, Tensor], Tensor] | None = None


def make(form: Form, folder: Path, seed: int = 0) -> tuple[Path, Tensor, Tensor]:
    """Writes a file in a form; returns it, images, and the features that its network gives of them."""
    import timm

    torch.manual_seed(seed)
    if form.other is None:
        network = timm.create_model(
            form.architecture, num_classes=form.classes, **form.options, **_any_size(form.architecture)
        )
    else:
        network = form.other()
    _spread(network, form.side)
    network.eval()
    images = torch.randn(2, 3, form.side, form.side) + 2 * torch.randn(2, 3, 1, 1)  # two that differ in colour too
    with torch.no_grad():
        if form.features is not None:
            wanted = form.features(copy.deepcopy(network), images)
        else:
            headless: Any = copy.deepcopy(network)
            headless.reset_classifier(0)
            wanted = headless(images)
    path = folder / f"weights{form.suffix}"
    form.save(network, path)
    return path, images, wanted


def _any_size(architecture: str) -> dict[str, Any]:
    return {"dynamic_img_size": True} if architecture.startswith(("vit", "deit", "swin")) else {}


def _spread(network: nn.Module, side: int) -> None:
    """Gives every tensor values of its own that matter, so that two that were taken for each other would be seen."""
    for name, parameter in network.named_parameters():
        if parameter.ndim < 2:  # biases of one sign would drown what differs from image to image
            nn.init.normal_(parameter, 0.0 if name.endswith("bias") else 0.5, 0.2)
        else:
            nn.init.kaiming_normal_(parameter)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if norms:  # statistics of what comes through, or deep features would not depend on the image
        for norm in norms:
            norm.momentum = 1.0
        with torch.no_grad():
            network.train()(torch.randn(4, 3, side, side))


def _state(network: nn.Module, prefix: str = "") -> Tensors:
    return OrderedDict((f"{prefix}{name}", tensor) for name, tensor in network.state_dict().items())


def _noise(tensors: Tensors) -> Tensors:
    """Returns weights that must not be taken."""
    return OrderedDict((name, torch.zeros_like(tensor)) for name, tensor in tensors.items())


def _renamed(tensors: Tensors, *rules: tuple[str, str]) -> Tensors:
    """Returns tensors under other names: every rule is tried on every name, in order."""
    out: Tensors = OrderedDict()
    for name, tensor in tensors.items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        out[name] = tensor
    return out


def _apart(tensors: Tensors, names: str, attention: str) -> Tensors:
    """Returns queries, keys and values as three tensors named `attention`.format(block, part)."""
    out: Tensors = OrderedDict()
    for name, tensor in tensors.items():
        if match := re.fullmatch(names, name):
            for part, third in zip("qkv", tensor.chunk(3), strict=True):
                out[attention.format(*match.groups()[:-1], part) + match.groups()[-1]] = third
        else:
            out[name] = tensor
    return out


def plain(network: nn.Module, path: Path) -> None:
    """Writes a state dict."""
    torch.save(_state(network), path)


def safetensors(network: nn.Module, path: Path) -> None:
    """Writes safetensors with a note, as timm and the hub do."""
    save_file(dict(_state(network)), path, metadata={"format": "pt"})


def training(network: nn.Module, path: Path) -> None:
    """Writes what a training script keeps: optimiser, arguments, scores."""
    state = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    arguments = argparse.Namespace(lr=0.1, data=Path("images"), decay=None)
    torch.save(
        {"model": _state(network), "optimizer": state, "epoch": 9, "args": arguments, "best": np.float64(0.7)}, path
    )


def compiled_and_distributed(network: nn.Module, path: Path) -> None:
    """Writes a compiled network in DistributedDataParallel."""
    torch.save({"state_dict": _state(network, "module._orig_mod."), "arch": "vit"}, path)


def averaged(network: nn.Module, path: Path) -> None:
    """Writes weights beside their moving average; the average is what timm takes."""
    torch.save({"state_dict": _noise(_state(network)), "state_dict_ema": _state(network, "module.")}, path)


def lightning(network: nn.Module, path: Path) -> None:
    """Writes a Lightning checkpoint with settings of a configuration library."""
    state = _state(network, "model.backbone.") | {"criterion.weight": torch.ones(3)}
    torch.save({"state_dict": state, "hyper_parameters": Settings(rate=0.1), "epoch": 3, "loops": {}}, path)


class Settings(dict[str, Any]):
    """A mapping with attributes, as configuration libraries have them."""

    def __init__(self, **values: Any) -> None:
        super().__init__(values)
        self.flags = {"readonly": True}


def whole_module(network: nn.Module, path: Path) -> None:
    """Writes the module itself, not its state dict."""
    torch.save(network, path)


def old_format(network: nn.Module, path: Path) -> None:
    """Writes as torch did before 1.6."""
    torch.save({"state_dict": _state(network, "module.")}, path, _use_new_zipfile_serialization=False)


def dino(network: nn.Module, path: Path) -> None:
    """Writes DINO's student and teacher, each with its projection head."""
    head = {"head.mlp.0.weight": torch.ones(4, 4), "head.last_layer.weight_v": torch.ones(4, 4)}
    teacher = {n: t for n, t in _state(network, "backbone.").items() if not n.startswith("backbone.head")} | head
    student = {f"module.{name}": tensor for name, tensor in _noise(teacher).items()}
    torch.save({"student": student, "teacher": teacher, "epoch": 99, "args": argparse.Namespace(arch="vit")}, path)


def dinov2(network: nn.Module, path: Path) -> None:
    """Writes DINOv2's own file."""
    state = {name: tensor for name, tensor in _state(network).items() if not name.startswith("head")}
    torch.save(state | {"mask_token": torch.zeros(1, 48)}, path)


def dinov2_registers(network: nn.Module, path: Path) -> None:
    """Writes DINOv2's own file with registers: its class token has a position of its own, timm adds it up."""
    state = {name: tensor for name, tensor in _state(network).items() if not name.startswith("head")}
    place = torch.full((1, 1, 48), 0.25)
    state["register_tokens"] = state.pop("reg_token")
    state["cls_token"] = state["cls_token"] - place
    state["pos_embed"] = torch.cat([place, state["pos_embed"]], dim=1)
    torch.save(state | {"mask_token": torch.zeros(1, 48)}, path)


def dinov2_training(network: nn.Module, path: Path) -> None:
    """Writes a training checkpoint of DINOv2: blocks in chunks, the teacher's backbone beside its heads."""
    state = _renamed(_state(network, "backbone."), (r"blocks\.(\d+)", r"blocks.0.\1"))
    state = {name: tensor for name, tensor in state.items() if not name.startswith("backbone.head")}
    further = {"backbone.mask_token": torch.zeros(1, 48), "dino_head.last_layer.weight_v": torch.ones(3, 3)}
    torch.save({"teacher": state | further, "iteration": 7}, path)


def dinov3(network: nn.Module, path: Path) -> None:
    """Writes DINOv3's own file."""
    state = _renamed(
        _state(network),
        (r"^reg_token$", "storage_tokens"),
        (r"\.gamma_(\d)$", r".ls\1.gamma"),
    )
    for name in [name for name in state if name.endswith("q_bias")]:
        query, value = state.pop(name), state.pop(name.replace("q_bias", "v_bias"))
        state[name.replace("q_bias", "qkv.bias")] = torch.cat([query, torch.zeros_like(query), value])
        state[name.replace("q_bias", "qkv.bias_mask")] = torch.ones(len(query) * 3)
    state = {name: tensor for name, tensor in state.items() if not name.startswith("head")}
    torch.save(state | {"mask_token": torch.zeros(1, 48), "rope_embed.periods": torch.ones(4)}, path)


def mae(network: nn.Module, path: Path) -> None:
    """Writes MAE's encoder and decoder."""
    decoder = {"mask_token": torch.zeros(1, 1, 32), "decoder_pos_embed": torch.zeros(1, 197, 32)}
    decoder |= {"decoder_embed.weight": torch.ones(32, 48), "decoder_blocks.0.norm1.weight": torch.ones(32)}
    decoder |= {"decoder_norm.weight": torch.ones(32), "decoder_pred.weight": torch.ones(768, 32)}
    encoder = {name: tensor for name, tensor in _state(network).items() if not name.startswith("head")}
    torch.save({"model": encoder | decoder}, path)


def moco(network: nn.Module, path: Path) -> None:
    """Writes MoCo v3's base and momentum encoder."""
    base = _renamed(_state(network, "module.base_encoder."), (r"\.head\.", ".head.0."))
    state = base | _noise(_renamed(base, ("base_encoder", "momentum_encoder")))
    torch.save({"epoch": 300, "state_dict": state | {"module.predictor.0.weight": torch.ones(3, 3)}}, path)


def google(network: nn.Module, path: Path) -> None:
    """Writes Google's arrays, in JAX's shapes and names."""
    state = {name: tensor.numpy() for name, tensor in _state(network).items()}
    heads, out = 3, {}
    out["embedding/kernel"] = state["patch_embed.proj.weight"].transpose(2, 3, 1, 0)
    out |= {"embedding/bias": state["patch_embed.proj.bias"], "cls": state["cls_token"]}
    out["Transformer/posembed_input/pos_embedding"] = state["pos_embed"]
    out["Transformer/encoder_norm/scale"] = state["norm.weight"]
    out["Transformer/encoder_norm/bias"] = state["norm.bias"]
    for block in range(2):
        own, theirs = f"blocks.{block}.", f"Transformer/encoderblock_{block}/"
        for norm, number in (("norm1", 0), ("norm2", 2)):
            out |= {f"{theirs}LayerNorm_{number}/scale": state[f"{own}{norm}.weight"]}
            out |= {f"{theirs}LayerNorm_{number}/bias": state[f"{own}{norm}.bias"]}
        width = state["cls_token"].shape[-1]
        for part, name in enumerate(("query", "key", "value")):
            rows = slice(part * width, (part + 1) * width)
            place = f"{theirs}MultiHeadDotProductAttention_1/{name}/"
            out[f"{place}kernel"] = state[f"{own}attn.qkv.weight"][rows].T.reshape(width, heads, -1)
            out[f"{place}bias"] = state[f"{own}attn.qkv.bias"][rows].reshape(heads, -1)
        place = f"{theirs}MultiHeadDotProductAttention_1/out/"
        out[f"{place}kernel"] = state[f"{own}attn.proj.weight"].T.reshape(heads, -1, width)
        out[f"{place}bias"] = state[f"{own}attn.proj.bias"]
        for layer, dense in (("fc1", 0), ("fc2", 1)):
            out[f"{theirs}MlpBlock_3/Dense_{dense}/kernel"] = state[f"{own}mlp.{layer}.weight"].T
            out[f"{theirs}MlpBlock_3/Dense_{dense}/bias"] = state[f"{own}mlp.{layer}.bias"]
    out |= {"head/kernel": state["head.weight"].T, "head/bias": state["head.bias"]}
    np.savez(path, **out)


def _openai_names(network: nn.Module) -> Tensors:
    state = _state(network)
    return OrderedDict(
        _renamed(
            {
                **{name: tensor for name, tensor in state.items() if not name.startswith("head")},
                "cls_token": state["cls_token"][0, 0],
                "pos_embed": state["pos_embed"][0],
                "proj": state["head.weight"].T,
            },
            (r"^patch_embed\.proj\.", "conv1."),
            (r"^cls_token$", "class_embedding"),
            (r"^pos_embed$", "positional_embedding"),
            (r"^norm_pre\.", "ln_pre."),
            (r"^norm\.", "ln_post."),
            (r"^blocks\.(\d+)\.norm(\d)\.", r"transformer.resblocks.\1.ln_\2."),
            (r"^blocks\.(\d+)\.attn\.qkv\.", r"transformer.resblocks.\1.attn.in_proj_"),
            (r"^blocks\.(\d+)\.attn\.proj\.", r"transformer.resblocks.\1.attn.out_proj."),
            (r"^blocks\.(\d+)\.mlp\.fc1\.", r"transformer.resblocks.\1.mlp.c_fc."),
            (r"^blocks\.(\d+)\.mlp\.fc2\.", r"transformer.resblocks.\1.mlp.c_proj."),
        )
    )


_TEXT = {
    "token_embedding.weight": torch.ones(5, 4),
    "transformer.resblocks.0.attn.in_proj_weight": torch.ones(12, 4),
    "transformer.resblocks.0.ln_1.weight": torch.ones(4),
    "ln_final.weight": torch.ones(4),
    "text_projection": torch.ones(4, 10),
    "logit_scale": torch.tensor(4.6),
}


def clip(network: nn.Module, path: Path) -> None:
    """Writes both towers in OpenAI's names."""
    torch.save({f"visual.{name}": tensor for name, tensor in _openai_names(network).items()} | _TEXT, path)


def clip_visual(network: nn.Module, path: Path) -> None:
    """Writes the visual tower alone, in half precision."""
    torch.save({name: tensor.half() for name, tensor in _openai_names(network).items()}, path)


class Holder(nn.Module):
    """Holds tensors under dotted names: what TorchScript needs to save them."""

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            first, _, rest = name.partition(".")
            if not rest:
                self.register_parameter(first, nn.Parameter(tensor.clone(), requires_grad=False))
            elif not hasattr(self, first):
                below = {n[len(first) + 1 :]: t for n, t in tensors.items() if n.startswith(f"{first}.")}
                self.add_module(first, Holder(below))

    def forward(self, images: Tensor) -> Tensor:
        """Returns what it is given."""
        return images


def clip_script(network: nn.Module, path: Path) -> None:
    """Writes a TorchScript archive, as OpenAI hands its models out."""
    both = {f"visual.{name}": tensor for name, tensor in _openai_names(network).items()} | _TEXT
    torch.jit.save(torch.jit.script(Holder(both)), path)


def open_clip(network: nn.Module, path: Path) -> None:
    """Writes a training checkpoint of open_clip."""
    both = {f"module.visual.{name}": tensor for name, tensor in _openai_names(network).items()}
    both |= {f"module.{name}": tensor for name, tensor in _TEXT.items()}
    torch.save({"epoch": 30, "name": "run", "state_dict": both, "scaler": {"scale": 65536.0}}, path)


def open_clip_of_timm(network: nn.Module, path: Path) -> None:
    """Writes open_clip's model around a network of timm, as SigLIP has it."""
    state = {name: tensor for name, tensor in _state(network, "visual.trunk.").items() if ".head." not in name}
    torch.save(state | {"text.token_embedding.weight": torch.ones(5, 4), "logit_bias": torch.zeros(1)}, path)


_QKV = r"blocks\.(\d+)\.attn\.qkv(\.(?:weight|bias))"
_VIT_NAMES = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^dist_token$", "embeddings.distillation_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layer.\1.attention.output.dense."),
    (r"attention\.q\.", "attention.query."),
    (r"attention\.k\.", "attention.key."),
    (r"attention\.v\.", "attention.value."),
)


def transformers_vit(prefix: str, *further: tuple[str, str]) -> Callable[[nn.Module, Path], None]:
    """Returns what writes transformers' ViT or DeiT with a prefix and a classifier."""

    def save(network: nn.Module, path: Path) -> None:
        state = _apart(_state(network), _QKV, "encoder.layer.{}.attention.attention.{}")
        state = _renamed(
            state,
            *_VIT_NAMES,
            (r"^blocks\.(\d+)\.mlp\.fc1\.", r"encoder.layer.\1.intermediate.dense."),
            (r"^blocks\.(\d+)\.mlp\.fc2\.", r"encoder.layer.\1.output.dense."),
            (r"^blocks\.(\d+)\.norm1\.", r"encoder.layer.\1.layernorm_before."),
            (r"^blocks\.(\d+)\.norm2\.", r"encoder.layer.\1.layernorm_after."),
            (r"^(?!head)", prefix),
            *further,
        )
        _write(state, path)

    return save


def _write(tensors: Tensors, path: Path) -> None:
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if path.suffix == ".safetensors":
        save_file(contiguous, path, metadata={"format": "pt"})
    else:
        torch.save(contiguous, path)


def transformers_dinov2(network: nn.Module, path: Path) -> None:
    """Writes transformers' DINOv2."""
    state = _apart(_state(network), _QKV, "encoder.layer.{}.attention.attention.{}")
    state = _renamed(
        state,
        *_VIT_NAMES,
        (r"^blocks\.(\d+)\.ls(\d)\.gamma$", r"encoder.layer.\1.layer_scale\2.lambda1"),
        (r"^blocks\.", "encoder.layer."),
    )
    state = {name: tensor for name, tensor in state.items() if not name.startswith("head")}
    _write(state | {"embeddings.mask_token": torch.zeros(1, 48)}, path)


def transformers_dinov3(network: nn.Module, path: Path) -> None:
    """Writes transformers' DINOv3."""
    state = _renamed(
        _apart(_state(network), _QKV, "layer.{}.attention.{}_proj"),
        (r"^(cls_token|patch_embed)", r"embeddings.\1"),
        (r"patch_embed\.proj", "patch_embeddings"),
        (r"^reg_token$", "embeddings.register_tokens"),
        (r"\.attn\.proj\.", ".attention.o_proj."),
        (r"\.attn\.([qv])_bias$", r".attention.\1_proj.bias"),
        (r"\.gamma_(\d)$", r".layer_scale\1.lambda1"),
        (r"\.mlp\.fc1\.", ".mlp.up_proj."),
        (r"\.mlp\.fc2\.", ".mlp.down_proj."),
        (r"^blocks\.", "layer."),
    )
    state = {name: tensor for name, tensor in state.items() if not name.startswith("head")}
    _write(state | {"embeddings.mask_token": torch.zeros(1, 1, 48)}, path)


_CLIP_NAMES = (
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^pos_embed$", "embeddings.position_embedding.weight"),
    (r"^norm_pre\.", "pre_layrnorm."),
    (r"^norm\.", "post_layernorm."),
    (r"^blocks\.(\d+)\.norm(\d)\.", r"encoder.layers.\1.layer_norm\2."),
    (r"self_attn\.([qkv])\.", r"self_attn.\1_proj."),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.self_attn.out_proj."),
    (r"^blocks\.(\d+)\.mlp\.", r"encoder.layers.\1.mlp."),
)


def transformers_clip(network: nn.Module, path: Path) -> None:
    """Writes transformers' CLIP with both towers."""
    state = {name: tensor for name, tensor in _state(network).items() if not name.startswith("head")}
    state["embeddings.class_embedding"] = state.pop("cls_token")[0, 0]
    state["pos_embed"] = state["pos_embed"][0]
    state = _renamed(_apart(state, _QKV, "encoder.layers.{}.self_attn.{}"), *_CLIP_NAMES, (r"^", "vision_model."))
    text = {"text_model.embeddings.position_embedding.weight": torch.ones(5, 4), "logit_scale": torch.tensor(4.6)}
    _write(state | text | {"visual_projection.weight": torch.ones(10, 48)}, path)


def transformers_siglip(network: nn.Module, path: Path) -> None:
    """Writes transformers' SigLIP."""
    state = _state(network)
    for kind in ("weight", "bias"):
        query, both = state.pop(f"attn_pool.q.{kind}"), state.pop(f"attn_pool.kv.{kind}")
        state[f"head.attention.in_proj_{kind}"] = torch.cat([query, both])
    state["pos_embed"] = state["pos_embed"][0]
    state = _renamed(
        _apart(state, _QKV, "encoder.layers.{}.self_attn.{}"),
        *_CLIP_NAMES,
        (r"^attn_pool\.latent$", "head.probe"),
        (r"^attn_pool\.proj\.", "head.attention.out_proj."),
        (r"^attn_pool\.norm\.", "head.layernorm."),
        (r"^attn_pool\.mlp\.", "head.mlp."),
        (r"^", "vision_model."),
    )
    _write(state, path)


def microsoft_swin(network: nn.Module, path: Path) -> None:
    """Writes Swin as its authors do: a stage ends with the downsampling that timm begins the next one with."""
    state = _renamed(_state(network), (r"^layers\.(\d+)\.downsample", r"down.\1"), (r"^head\.fc\.", "head."))
    state = {re.sub(r"^down\.(\d+)", lambda m: f"layers.{int(m[1]) - 1}.downsample", n): t for n, t in state.items()}
    torch.save({"model": state | {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49)}}, path)


def transformers_swin(network: nn.Module, path: Path) -> None:
    """Writes transformers' Swin and SwinV2."""
    state = _apart(
        _state(network), r"layers\.(\d+)\.blocks\.(\d+)\.attn\.qkv(\.(?:weight|bias))", "layers.{}.blocks.{}.self.{}"
    )
    state = _renamed(
        state,
        (r"self\.q\.", "attention.self.query."),
        (r"self\.k\.", "attention.self.key."),
        (r"self\.v\.", "attention.self.value."),
        (r"\.attn\.q_bias$", ".attention.self.query.bias"),
        (r"\.attn\.v_bias$", ".attention.self.value.bias"),
        (r"\.attn\.cpb_mlp\.", ".attention.self.continuous_position_bias_mlp."),
        (r"\.attn\.(relative_position_bias_table|logit_scale)", r".attention.self.\1"),
        (r"\.attn\.proj\.", ".attention.output.dense."),
        (r"\.mlp\.fc1\.", ".intermediate.dense."),
        (r"\.mlp\.fc2\.", ".output.dense."),
        (r"\.norm1\.", ".layernorm_before."),
        (r"\.norm2\.", ".layernorm_after."),
        (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
        (r"^patch_embed\.norm\.", "embeddings.norm."),
        (r"^norm\.", "layernorm."),
        (r"^layers\.", "encoder.layers."),
        (r"^head\.fc\.", "classifier."),
        (r"^(?!classifier)", "swin."),
        (r"^swin\.encoder\.layers\.(\d+)\.downsample", r"swin.down.\1"),
    )
    back = {
        re.sub(r"down\.(\d+)", lambda m: f"encoder.layers.{int(m[1]) - 1}.downsample", n): t for n, t in state.items()
    }
    _write(back, path)


def meta_convnext(network: nn.Module, path: Path) -> None:
    """Writes ConvNeXt as its authors do."""
    state = _renamed(
        _state(network),
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"^stages\.(\d)\.blocks\.", r"stages.\1."),
        (r"conv_dw", "dwconv"),
        (r"mlp\.fc", "pwconv"),
        (r"^head\.norm\.", "norm."),
        (r"^head\.fc\.", "head."),
    )
    torch.save({"model": state}, path)


def transformers_convnext(network: nn.Module, path: Path) -> None:
    """Writes transformers' ConvNeXt and ConvNeXt V2."""
    state = {n: t.view(1, 1, 1, -1) if ".grn." in n else t for n, t in _state(network).items()}
    state = _renamed(
        state,
        (r"^stem\.0\.", "embeddings.patch_embeddings."),
        (r"^stem\.1\.", "embeddings.layernorm."),
        (r"^stages\.(\d)\.downsample\.", r"encoder.stages.\1.downsampling_layer."),
        (r"^stages\.(\d)\.blocks\.(\d)\.", r"encoder.stages.\1.layers.\2."),
        (r"\.conv_dw\.", ".dwconv."),
        (r"(layers\.\d)\.norm\.", r"\1.layernorm."),
        (r"\.mlp\.fc(\d)\.", r".pwconv\1."),
        (r"\.mlp\.grn\.", ".grn."),
        (r"\.gamma$", ".layer_scale_parameter"),
        (r"^head\.norm\.", "layernorm."),
        (r"^head\.fc\.", "classifier."),
        (r"^(?!classifier)", "convnext."),
    )
    _write(state, path)


def transformers_resnet(network: nn.Module, path: Path) -> None:
    """Writes transformers' ResNet."""
    state = _renamed(
        _state(network),
        (r"^conv1\.", "embedder.embedder.convolution."),
        (r"^bn1\.", "embedder.embedder.normalization."),
        *((rf"^layer{s + 1}\.", f"encoder.stages.{s}.layers.") for s in range(4)),
        *((rf"\.conv{k + 1}\.", f".layer.{k}.convolution.") for k in range(3)),
        *((rf"\.bn{k + 1}\.", f".layer.{k}.normalization.") for k in range(3)),
        (r"\.downsample\.0\.", ".shortcut.convolution."),
        (r"\.downsample\.1\.", ".shortcut.normalization."),
        (r"^fc\.", "classifier.1."),
        (r"^(?!classifier)", "resnet."),
    )
    _write(state, path)


def mmpretrain(network: nn.Module, path: Path) -> None:
    """Writes OpenMMLab's checkpoint of a ResNet."""
    state = {name: tensor for name, tensor in _state(network, "backbone.").items() if ".fc." not in name}
    torch.save({"meta": {"epoch": 100}, "state_dict": state | {"head.fc.weight": torch.ones(10, 64)}}, path)


def _torchvision(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from functools import partial

        from torchvision.models import convnext, mobilenetv2, mobilenetv3, resnet, swin_transformer, vision_transformer
        from torchvision.models import efficientnet as eff

        blocks = [convnext.CNBlockConfig(*sizes) for sizes in ((8, 16, 1), (16, 24, 1), (24, 32, 1), (32, None, 1))]
        makers: dict[str, Callable[[], nn.Module]] = {
            "resnet": lambda: resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=10),
            "convnext": lambda: convnext.ConvNeXt(blocks, num_classes=10),
            "swin": lambda: swin_transformer.SwinTransformer(
                [4, 4], 24, [1, 1, 1, 1], [1, 2, 4, 8], [7, 7], num_classes=10
            ),
            "swin2": lambda: swin_transformer.SwinTransformer(
                [4, 4],
                24,
                [1, 1, 1, 1],
                [1, 2, 4, 8],
                [8, 8],
                num_classes=10,
                block=swin_transformer.SwinTransformerBlockV2,
                downsample_layer=swin_transformer.PatchMergingV2,
            ),
            "vit": lambda: vision_transformer.VisionTransformer(224, 16, 2, 3, 48, 192, num_classes=10),
            "efficientnet": lambda: eff.efficientnet_b0(num_classes=10),
            "mobilenetv2": lambda: mobilenetv2.MobileNetV2(num_classes=10, width_mult=0.35),
            "mobilenetv3": lambda: mobilenetv3.mobilenet_v3_small(
                num_classes=10, norm_layer=partial(nn.BatchNorm2d, eps=1e-5)
            ),
        }
        return makers[name]()

    return build


def _headless(part: str, last: int | None = None) -> Callable[[nn.Module, Tensor], Tensor]:
    """Returns what runs a network without its classifier: all of a part, or from its layer `last` on."""

    def run(network: nn.Module, images: Tensor) -> Tensor:
        kept = nn.Identity() if last is None else getattr(network, part)[:last]
        setattr(network, part, kept)
        found: Tensor = network(images)
        return found

    return run


_SWIN = {"depths": (1, 1, 1, 1), "embed_dim": 24, "num_heads": (1, 2, 4, 8)}
_CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
_RESNET = {"layers": (1, 1, 1, 1), "channels": (16, 24, 32, 64)}
_CLIP_VIT, _DINOV2 = "vit_base_patch32_clip_quickgelu_224", "vit_small_patch14_dinov2"

FORMS = (
    Form("timm, safetensors", "vit_tiny_patch16_224", safetensors, ".safetensors"),
    Form("timm, state dict", "vit_tiny_patch16_224", plain),
    Form("training script: `model`, `optimizer`, `args`", "vit_tiny_patch16_224", training),
    Form("`module._orig_mod.` (DDP, torch.compile)", "vit_tiny_patch16_224", compiled_and_distributed),
    Form("`state_dict_ema` beside `state_dict`", "vit_tiny_patch16_224", averaged),
    Form("Lightning .ckpt, `model.backbone.`", "vit_tiny_patch16_224", lightning, ".ckpt"),
    Form("whole module, pickled", "vit_tiny_patch16_224", whole_module),
    Form("torch before 1.6", "vit_tiny_patch16_224", old_format, ".pth.tar"),
    Form("DeiT, distilled", "deit_tiny_distilled_patch16_224", training),
    Form("DINO: `teacher`, `backbone.`", "vit_tiny_patch16_224", dino),
    Form("DINOv2", _DINOV2, dinov2, side=70),
    Form("DINOv2 with registers", "vit_small_patch14_reg4_dinov2", dinov2_registers, side=70),
    Form("DINOv2, training checkpoint in chunks", _DINOV2, dinov2_training, side=70),
    Form("DINOv3", "vit_small_patch16_dinov3_qkvb", dinov3),
    Form("MAE, encoder and decoder", "vit_tiny_patch16_224", mae),
    Form("MoCo v3", "vit_tiny_patch16_224", moco, ".pth.tar"),
    Form("Google .npz (ViT)", "vit_tiny_patch16_224", google, ".npz"),
    Form("CLIP, OpenAI's names", _CLIP_VIT, clip),
    Form("CLIP, visual part alone, half precision", _CLIP_VIT, clip_visual),
    Form("CLIP, TorchScript archive", _CLIP_VIT, clip_script, ".pt"),
    Form("open_clip, training checkpoint", _CLIP_VIT, open_clip, ".pt"),
    Form("open_clip around timm (SigLIP)", "vit_base_patch16_siglip_224", open_clip_of_timm, ".bin"),
    Form(
        "transformers ViT, .bin", "vit_tiny_patch16_224", transformers_vit("vit.", (r"^head\.", "classifier.")), ".bin"
    ),
    Form(
        "transformers DeiT, distilled",
        "deit_tiny_distilled_patch16_224",
        transformers_vit("deit.", (r"^head\.", "cls_classifier."), (r"^head_dist\.", "distillation_classifier.")),
        ".safetensors",
    ),
    Form("transformers DINOv2", _DINOV2, transformers_dinov2, ".safetensors", side=70),
    Form("transformers DINOv3", "vit_small_patch16_dinov3_qkvb", transformers_dinov3, ".safetensors"),
    Form("transformers CLIP", _CLIP_VIT, transformers_clip, ".safetensors"),
    Form("transformers SigLIP", "vit_base_patch16_siglip_224", transformers_siglip, ".safetensors", classes=0),
    Form("transformers Swin", "swin_tiny_patch4_window7_224", transformers_swin, ".safetensors", _SWIN),
    Form("transformers SwinV2", "swinv2_tiny_window8_256", transformers_swin, ".safetensors", _SWIN),
    Form("transformers ConvNeXt V2", "convnextv2_atto", transformers_convnext, ".safetensors", _CONVNEXT, 112),
    Form("transformers ConvNeXt", "convnext_tiny", transformers_convnext, ".safetensors", _CONVNEXT, 112),
    Form("transformers ResNet", "resnet18", transformers_resnet, ".safetensors", _RESNET, 112),
    Form("Swin, authors' file", "swin_tiny_patch4_window7_224", microsoft_swin, options=_SWIN),
    Form("ConvNeXt, authors' file", "convnext_tiny", meta_convnext, options=_CONVNEXT, side=112),
    Form("OpenMMLab ResNet", "resnet18", mmpretrain, options=_RESNET, side=112),
    Form(
        "torchvision ResNet", "resnet18", plain, options={"layers": (1, 1, 1, 1)}, side=112,
        other=_torchvision("resnet"), features=_headless("fc"),
    ),
    Form(
        "torchvision ConvNeXt", "convnext_tiny", plain, options=_CONVNEXT, side=112,
        other=_torchvision("convnext"), features=_headless("classifier", 2),
    ),
    Form(
        "torchvision Swin", "swin_tiny_patch4_window7_224", plain, options=_SWIN,
        other=_torchvision("swin"), features=_headless("head"),
    ),
    Form(
        "torchvision SwinV2", "swinv2_tiny_window8_256", plain, options=_SWIN, side=256,
        other=_torchvision("swin2"), features=_headless("head"),
    ),
    Form(
        "torchvision ViT", "vit_tiny_patch16_224", plain, side=224,
        other=_torchvision("vit"), features=_headless("heads"),
    ),
    Form(
        "torchvision EfficientNet", "efficientnet_b0", plain, options={}, side=112,
        other=_torchvision("efficientnet"), features=_headless("classifier"),
    ),
    Form(
        "torchvision MobileNetV2", "mobilenetv2_035", plain, options={}, side=112,
        other=_torchvision("mobilenetv2"), features=_headless("classifier"),
    ),
    Form(
        "torchvision MobileNetV3", "mobilenetv3_small_100", plain, options={}, side=112,
        other=_torchvision("mobilenetv3"), features=_headless("classifier", 2),
    ),
)  # fmt: skip


def load(form: Form, path: Path, cache: Path) -> Any:
    """Returns the backbone that the file gives."""
    from isthmus.models.backbones.timm import Config

    config = Config(architecture=form.architecture, weights=str(path), options=form.options)
    return config.build(3, form.side, cache)


def outcome(form: Form, folder: Path) -> tuple[bool, str]:
    """Returns whether a form loads to the features of its own network, and where the tensors were found, or why not."""
    from isthmus.core.errors import IsthmusError

    path, images, wanted = make(form, folder)
    try:
        built = load(form, path, folder)
    except IsthmusError as error:
        return False, str(error)
    with torch.no_grad():
        features: Tensor = built.network.eval()(images)
    found = f"{form.name}: {built.data_config['weights_found'] or 'as it is'}"
    return bool(torch.allclose(features, wanted, rtol=2e-3, atol=2e-3 * float(wanted.abs().max()))), found


def table(folder: Path) -> str:
    """Returns the table for docs/weights.md."""
    lines = ["| form | tried with | file | loads |", "| --- | --- | --- | --- |"]
    for form in FORMS:
        loads, found = outcome(form, folder)
        said = "yes" if loads else f"no: {found}"
        lines.append(f"| {form.name} | `{form.architecture}` | `{form.suffix}` | {said} |")
    return "\n".join(["<!-- forms -->", "", *lines, "", "<!-- end of forms -->"])


def shares(architecture: str, blocks: int = 2) -> tuple[int, float]:
    """Returns how many layers a network has, and the share of its weights that train with `tuning.how: partial`."""
    import timm

    from isthmus.models.tuning import layers, train_last, trained_share

    with torch.device("meta"):
        network = timm.create_model(architecture, num_classes=0)
    train_last(network, blocks)
    return max(layers(network).values()) + 1, trained_share(network)


def table_of_shares() -> str:
    """Returns the table of trained shares for docs/weights.md."""
    lines = ["| family | network | layers | weights in the last two |", "| --- | --- | --- | --- |"]
    for family, architecture in FAMILIES.items():
        count, share = shares(architecture)
        lines.append(f"| {family} | `{architecture}` | {count} | {share:.1%} |")
    return "\n".join(["<!-- shares -->", "", *lines, "", "<!-- end of shares -->"])


def main() -> None:
    """Prints the tables, or writes them into docs/weights.md."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/weights.md instead of printing it")
    write = parser.parse_args().write
    with tempfile.TemporaryDirectory() as folder:
        forms, shared = table(Path(folder)), table_of_shares()
    if not write:
        print(forms, shared, sep="\n\n")
        return
    page = Path(__file__).parents[1] / "docs" / "weights.md"
    text = TABLE.sub(lambda _: forms, page.read_text(encoding="utf-8"))
    page.write_text(SHARES.sub(lambda _: shared, text), encoding="utf-8")


if __name__ == "__main__":
    main()
