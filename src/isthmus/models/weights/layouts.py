"""Rules from the tensor names of other libraries to the names that timm or its filters know.

A layout is recognised by one tensor (`anchor`); the text before its name is the network's prefix. Where timm has a
filter for the authors' own names (Swin, ConvNeXt, DINOv2, DINOv3, CLIP), the rules lead to these, and the filter does
the rest.
"""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


class Layout(NamedTuple):
    """How one library names the tensors of one family.

    Attributes:
        name: as people call it.
        anchor: pattern of a tensor that it always has and no other layout has.
        rules: patterns and what takes their place, tried in order, the first that fits alone; a name that fits none
            stays.
        finish: what is left to do on renamed tensors.
        in_order: names lead to no name of timm's, only into the order of its layers.
    """

    name: str
    anchor: str
    rules: tuple[tuple[str, str], ...]
    finish: Callable[[Tensors], Tensors] = dict
    in_order: bool = False

    def prefixes(self, names: Iterable[str]) -> list[str]:
        """Returns where in a file the layout lies; '' is its top."""
        pattern = re.compile(rf"((?:.*\.)?)(?:{self.anchor})")
        return sorted({match.group(1) for name in names if (match := pattern.fullmatch(name))}, key=len)

    def renamed(self, tensors: Tensors) -> Tensors:
        """Returns the tensors, their prefix taken off before, under timm's names or its filter's."""
        out: Tensors = {}
        for name, tensor in tensors.items():
            for pattern, new in self.rules:
                name, count = re.subn(pattern, new, name)
                if count:
                    break
            out[name] = tensor
        return self.finish(out)


def _fused(tensors: Tensors) -> Tensors:
    """Returns queries, keys and values as one tensor; a key without a bias leaves those of the other two apart."""
    out = {name: tensor for name, tensor in tensors.items() if not re.search(r"\battn\.[qkv]\.", name)}
    for name in tensors:
        if not name.endswith("attn.q.weight"):
            continue
        root = name.removesuffix("q.weight")
        out[f"{root}qkv.weight"] = torch.cat([tensors[f"{root}{part}.weight"] for part in "qkv"])
        biases = {part: tensors[f"{root}{part}.bias"] for part in "qkv" if f"{root}{part}.bias" in tensors}
        if len(biases) == 3:
            out[f"{root}qkv.bias"] = torch.cat(list(biases.values()))
        else:
            out |= {f"{root}{part}_bias": bias for part, bias in biases.items()}
    return out


def _as_dinov3(tensors: Tensors) -> Tensors:
    """Returns the names of DINOv3's authors, whose one bias holds zeros for the keys."""
    gated = any(".mlp.gate_proj." in name for name in tensors)
    parts = {"gate_proj": "w1", "up_proj": "w2" if gated else "fc1", "down_proj": "w3" if gated else "fc2"}
    out: Tensors = {}
    for name, tensor in _fused(tensors).items():
        for old, new in parts.items():
            name = name.replace(f".mlp.{old}.", f".mlp.{new}.")
        out[name] = tensor
    for name in [name for name in out if name.endswith("attn.q_bias")]:
        root, query = name.removesuffix("q_bias"), out.pop(name)
        out[f"{root}qkv.bias"] = torch.cat([query, torch.zeros_like(query), out.pop(f"{root}v_bias")])
    return out


def _registers(tensors: Tensors) -> Tensors:
    """Returns the names of DINOv2's authors; timm's filter knows them by their mask token, which not all files have."""
    out = _fused(tensors)
    if "register_tokens" in out:
        out.setdefault("mask_token", torch.zeros(1))
    return out


def _split_bias_of_version_2(tensors: Tensors) -> Tensors:
    """Returns SwinV2's biases as its authors have them: torchvision sets that of the keys to zero when it runs."""
    out = dict(tensors)
    for name in [name for name in out if name.endswith("attn.qkv.bias")]:
        if f"{name.removesuffix('qkv.bias')}logit_scale" not in out:
            continue
        query, _, value = out.pop(name).chunk(3)
        root = name.removesuffix("qkv.bias")
        out |= {f"{root}q_bias": query, f"{root}v_bias": value}
    return out


def _without_last_layer(tensors: Tensors) -> Tensors:
    """Returns torchvision's tensors without its classifier; MobileNetV3 has one more linear layer, which timm keeps."""
    layers = {int(match.group(1)) for name in tensors if (match := re.match(r"1\.(\d+)\.", name))}
    return {n: t for n, t in tensors.items() if not layers or not n.startswith(f"1.{max(layers)}.")}


def _flat_scales(tensors: Tensors) -> Tensors:
    return {name: t.flatten() if name.endswith(".gamma") and t.ndim == 3 else t for name, t in tensors.items()}


def _token_shapes(tensors: Tensors) -> Tensors:
    """Returns CLIP's or SigLIP's tensors in timm's shapes, the parts of an attention pool apart."""
    out = _fused(tensors)
    if "cls_token" in out:
        out["cls_token"] = out["cls_token"].view(1, 1, -1)
    if "pos_embed" in out:
        out["pos_embed"] = out["pos_embed"].view(1, *out["pos_embed"].shape[-2:])
    for kind in ("weight", "bias"):
        if (joint := out.pop(f"attn_pool.in_proj_{kind}", None)) is not None:
            query, key, value = joint.chunk(3)
            out |= {f"attn_pool.q.{kind}": query, f"attn_pool.kv.{kind}": torch.cat([key, value])}
    return out


_VIT_PARTS = (  # of transformers' encoders whose attention is named in full
    (r"^encoder\.layer\.(\d+)\.attention\.attention\.(q|k|v)(?:uery|ey|alue)\.", r"blocks.\1.attn.\2."),
    (r"^encoder\.layer\.(\d+)\.attention\.attention\.relative_position_bias\.", r"blocks.\1.attn."),
    (r"^encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (r"^encoder\.layer\.(\d+)\.intermediate\.dense\.", r"blocks.\1.mlp.fc1."),
    (r"^encoder\.layer\.(\d+)\.output\.dense\.", r"blocks.\1.mlp.fc2."),
    (r"^encoder\.layer\.(\d+)\.layernorm_before\.", r"blocks.\1.norm1."),
    (r"^encoder\.layer\.(\d+)\.layernorm_after\.", r"blocks.\1.norm2."),
    (r"^encoder\.layer\.(\d+)\.layer_scale(\d)\.lambda1", r"blocks.\1.ls\2.gamma"),
    (r"^encoder\.layer\.(\d+)\.lambda_(\d)", r"blocks.\1.gamma_\2"),
    (r"^encoder\.layer\.(\d+)\.mlp\.weights_in\.", r"blocks.\1.mlp.w12."),
    (r"^encoder\.layer\.(\d+)\.mlp\.weights_out\.", r"blocks.\1.mlp.w3."),
    (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.", ""),
    (r"^pooler\.layernorm\.", "fc_norm."),
    (r"^layernorm\.", "norm."),
)
_CLIP_PARTS = (
    (r"^embeddings\.class_embedding$", "cls_token"),
    (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^embeddings\.position_embedding\.weight$", "pos_embed"),
    (r"^pre_layrnorm\.", "norm_pre."),  # so misspelt there
    (r"^encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.", r"blocks.\1.attn.\2."),
    (r"^encoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"blocks.\1.attn.proj."),
    (r"^encoder\.layers\.(\d+)\.layer_norm(\d)\.", r"blocks.\1.norm\2."),
    (r"^encoder\.layers\.(\d+)\.", r"blocks.\1."),
    (r"^post_layernorm\.", "norm."),
    (r"^head\.probe$", "attn_pool.latent"),
    (r"^head\.attention\.out_proj\.", "attn_pool.proj."),
    (r"^head\.attention\.", "attn_pool."),
    (r"^head\.layernorm\.", "attn_pool.norm."),
    (r"^head\.mlp\.", "attn_pool.mlp."),
)
_SWIN_PARTS = (
    (r"^encoder\.(layers\.\d+\.blocks\.\d+)\.attention\.self\.(q|k|v)(?:uery|ey|alue)\.", r"\1.attn.\2."),
    (r"^encoder\.(layers\.\d+\.blocks\.\d+)\.attention\.self\.continuous_position_bias_mlp\.", r"\1.attn.cpb_mlp."),
    (r"^encoder\.(layers\.\d+\.blocks\.\d+)\.attention\.self\.", r"\1.attn."),
    (r"^encoder\.(layers\.\d+\.blocks\.\d+)\.attention\.output\.dense\.", r"\1.attn.proj."),
    (r"^encoder\.(layers\.\d+\.blocks\.\d+)\.intermediate\.dense\.", r"\1.mlp.fc1."),
    (r"^encoder\.(layers\.\d+\.blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"^encoder\.(layers\.\d+\.blocks\.\d+)\.layernorm_before\.", r"\1.norm1."),
    (r"^encoder\.(layers\.\d+\.blocks\.\d+)\.layernorm_after\.", r"\1.norm2."),
    (r"^encoder\.", ""),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^layernorm\.", "norm."),
)
_CONVNEXT_PARTS = (
    (r"^embeddings\.patch_embeddings\.", "downsample_layers.0.0."),
    (r"^embeddings\.layernorm\.", "downsample_layers.0.1."),
    (r"^encoder\.stages\.(\d+)\.downsampling_layer\.", r"downsample_layers.\1."),
    (r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.layer_scale_parameter$", r"stages.\1.\2.gamma"),
    (r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.layernorm\.", r"stages.\1.\2.norm."),
    (r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.grn\.weight$", r"stages.\1.\2.grn.gamma"),
    (r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.grn\.bias$", r"stages.\1.\2.grn.beta"),
    (r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.", r"stages.\1.\2."),
    (r"^layernorm\.", "norm."),
    # DINOv3's
    (r"^stages\.(\d+)\.downsample_layers\.", r"downsample_layers.\1."),
    (r"^stages\.(\d+)\.layers\.(\d+)\.depthwise_conv\.", r"stages.\1.\2.dwconv."),
    (r"^stages\.(\d+)\.layers\.(\d+)\.layer_norm\.", r"stages.\1.\2.norm."),
    (r"^stages\.(\d+)\.layers\.(\d+)\.pointwise_conv(\d)\.", r"stages.\1.\2.pwconv\3."),
    (r"^stages\.(\d+)\.layers\.(\d+)\.", r"stages.\1.\2."),
    (r"^layer_norm\.", "norm."),
)


def _counted(rules: dict[str, str], stages: int) -> tuple[tuple[str, str], ...]:
    """Returns rules for torchvision's `features.N`, in which stages and what lies between them take turns.

    `{odd}` is the number of stage `{k}`, `{even}` that of what stands before it.
    """
    return tuple(
        (old.format(k=k, odd=2 * k + 1, even=2 * k), new.format(k=k, odd=2 * k + 1, even=2 * k, before=k - 1))
        for k in range(stages)
        for old, new in rules.items()
    )


LAYOUTS = (
    Layout(
        "transformers ViT",
        r"encoder\.layer\.0\.attention\.attention\.query\.weight",
        _VIT_PARTS,
        _registers,
    ),
    Layout(
        "transformers DINOv3",
        r"layer\.0\.attention\.o_proj\.weight",
        (
            (r"^embeddings\.patch_embeddings\.", "patch_embed.proj."),
            (r"^embeddings\.register_tokens$", "storage_tokens"),
            (r"^embeddings\.", ""),
            (r"^layer\.(\d+)\.attention\.([qkv])_proj\.", r"blocks.\1.attn.\2."),
            (r"^layer\.(\d+)\.attention\.o_proj\.", r"blocks.\1.attn.proj."),
            (r"^layer\.(\d+)\.layer_scale(\d)\.lambda1$", r"blocks.\1.ls\2.gamma"),
            (r"^layer\.(\d+)\.", r"blocks.\1."),
        ),
        _as_dinov3,
    ),
    Layout("transformers Swin", r"encoder\.layers\.0\.blocks\.0\.attention\.self\.query\.weight", _SWIN_PARTS, _fused),
    Layout("transformers ConvNeXt", r"embeddings\.patch_embeddings\.weight", _CONVNEXT_PARTS),
    Layout("transformers DINOv3 ConvNeXt", r"stages\.0\.layers\.0\.depthwise_conv\.weight", _CONVNEXT_PARTS),
    Layout(
        "transformers ResNet",
        r"embedder\.embedder\.convolution\.weight",
        (
            (r"^embedder\.embedder\.convolution\.", "conv1."),
            (r"^embedder\.embedder\.normalization\.", "bn1."),
            *(
                (rf"^encoder\.stages\.{s}\.layers\.(\d+)\.{old}\.", rf"layer{s + 1}.\1.{new}.")
                for s in range(4)
                for old, new in (
                    *((rf"layer\.{k}\.convolution", f"conv{k + 1}") for k in range(3)),
                    *((rf"layer\.{k}\.normalization", f"bn{k + 1}") for k in range(3)),
                    (r"shortcut\.convolution", "downsample.0"),
                    (r"shortcut\.normalization", "downsample.1"),
                )
            ),
        ),
    ),
    Layout("transformers CLIP, SigLIP", r"embeddings\.position_embedding\.weight", _CLIP_PARTS, _token_shapes),
    Layout("CLIP", r"transformer\.resblocks\.0\.attn\.in_proj_weight", ((r"^", "visual."),)),
    Layout(
        "torchvision ViT",
        r"encoder\.layers\.encoder_layer_0\.ln_1\.weight",
        (
            (r"^conv_proj\.", "patch_embed.proj."),
            (r"^class_token$", "cls_token"),
            (r"^encoder\.pos_embedding$", "pos_embed"),
            (r"^encoder\.ln\.", "norm."),
            (r"^heads\.", "head."),
            (r"^encoder\.layers\.encoder_layer_(\d+)\.ln_(\d)\.", r"blocks.\1.norm\2."),
            (r"^encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_", r"blocks.\1.attn.qkv."),
            (r"^encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\.", r"blocks.\1.attn.proj."),
            (r"^encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:0|linear_1)\.", r"blocks.\1.mlp.fc1."),
            (r"^encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:3|linear_2)\.", r"blocks.\1.mlp.fc2."),
        ),
    ),
    Layout(
        "torchvision ConvNeXt",
        r"features\.1\.0\.layer_scale",
        (
            *_counted(
                {
                    r"^features\.{even}\.([01])\.(weight|bias)$": r"downsample_layers.{k}.\1.\2",
                    r"^features\.{odd}\.(\d+)\.layer_scale$": r"stages.{k}.\1.gamma",
                    r"^features\.{odd}\.(\d+)\.block\.0\.": r"stages.{k}.\1.dwconv.",
                    r"^features\.{odd}\.(\d+)\.block\.2\.": r"stages.{k}.\1.norm.",
                    r"^features\.{odd}\.(\d+)\.block\.3\.": r"stages.{k}.\1.pwconv1.",
                    r"^features\.{odd}\.(\d+)\.block\.5\.": r"stages.{k}.\1.pwconv2.",
                },
                4,
            ),
            (r"^classifier\.0\.", "norm."),
            (r"^classifier\.2\.", "head."),
        ),
        _flat_scales,
    ),
    Layout(
        "torchvision Swin",
        r"features\.1\.0\.attn\.relative_position_bias_table|features\.1\.0\.attn\.logit_scale",
        (
            (r"^features\.0\.0\.", "patch_embed.proj."),
            (r"^features\.0\.2\.", "patch_embed.norm."),
            *_counted(
                {
                    r"^features\.{even}\.(reduction|norm)\.": r"layers.{before}.downsample.\1.",
                    r"^features\.{odd}\.(\d+)\.mlp\.0\.": r"layers.{k}.blocks.\1.mlp.fc1.",
                    r"^features\.{odd}\.(\d+)\.mlp\.3\.": r"layers.{k}.blocks.\1.mlp.fc2.",
                    r"^features\.{odd}\.(\d+)\.": r"layers.{k}.blocks.\1.",
                },
                4,
            ),
        ),
        _split_bias_of_version_2,
    ),
    # Layers of these follow one another as timm's do: their names are brought into that order and then counted.
    Layout(
        "torchvision EfficientNet, MobileNet, MNASNet",
        r"(?:features\.0\.1|layers\.1)\.running_mean",
        ((r"^(?:features|layers)\.", "0."), (r"^classifier\.", "1.")),
        _without_last_layer,
        in_order=True,
    ),
    # Authors' own, where timm's filter does not know them as they are.
    Layout("ConvNeXt", r"downsample_layers\.0\.0\.weight", ()),
    Layout("DINOv2 in chunks", r"blocks\.0\.0\.norm1\.weight", ((r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),)),
)
