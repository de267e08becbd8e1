"""Finds a network's tensors in what a file holds, or says why they are not there.

A file may wrap them in dicts (`model`, `state_dict`, `teacher`, ...), put prefixes before their names (`module.`,
`backbone.`, `visual.`, ...) and name them as another library does. Every place and layout is tried, and then timm's own
filter, which resizes position embeddings; only what fits the network whole is taken.
"""

import contextlib
import inspect
import io
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.models.weights.layouts import LAYOUTS, Tensors

_TRAINING_STATE = ("optim", "sched", "scaler", "hyper", "callbacks", "loops")  # first letters of what holds no weights
# Of several places that fit, weights averaged over training come first, as in timm, and helpers of training last.
_AVERAGED = re.compile(r"(^|[._])(ema|teacher|shadow|averaged|target_encoder)([._]|$)")
_HELPER = re.compile(r"(^|[._])(student|momentum|encoder_k|target_network)([._]|$)")
# What a backbone does not have: classifiers, parts of self-supervised training, other towers, computed buffers.
_EXTRA = re.compile(
    r"(heads?|\w+_head|head_dist|[Aa]ux\w*|fc\d?|classif\w*|last_linear|pre_logits|pooler|decoder\w*|mask_token|proj|projector\w*"
    r"|projection\w*|prototypes?|predictor|queue\w*|loss\w*|criterion|logit_scale|logit_bias)(\..+)?"
    r"|(.*\.)?(num_batches_tracked|relative_position_index|relative_coords_table|attn_mask|periods|bias_mask)"
)
_FILTERS = ("checkpoint_filter_fn", "checkpoint_filter_fn_classifier", "_filter_fn", "_filter_torchvision_pretrained")


@dataclass(frozen=True)
class Place:
    """Where in a file a set of tensors lies, and whose names they have."""

    wrapper: str = ""
    prefix: str = ""
    layout: str = ""

    def __str__(self) -> str:
        parts = [f"in '{self.wrapper}'"] if self.wrapper else []
        parts += [f"prefix '{self.prefix}'"] if self.prefix else []
        return ", ".join(parts + ([f"named as {self.layout}"] if self.layout else []))

    @property
    def rank(self) -> tuple[int, bool, int]:
        """Which of several places that fit is taken: the lowest."""
        words = f"{self.wrapper}.{self.prefix}"
        return (0 if _AVERAGED.search(words) else 2 if _HELPER.search(words) else 1), bool(self.layout), len(words)


@dataclass(frozen=True)
class Fit:
    """How far the tensors of one place are those of a network.

    Attributes:
        place: where they lie.
        tensors: of the network, by its own names.
        missing: names of the network's that are not there.
        left_over: names that the network does not have, other than those that no backbone has.
        other_shape: one line a tensor.
    """

    place: Place
    tensors: Tensors
    missing: list[str]
    left_over: list[str]
    other_shape: list[str]

    @property
    def whole(self) -> bool:
        """Whether everything that the network has is there, and nothing else."""
        return not (self.missing or self.left_over or self.other_shape)


def dicts_of_tensors(contents: Any, wrapper: str = "") -> Iterator[tuple[str, Tensors]]:
    """Yields each dict that holds tensors by name, and the keys that lead to it; not the state of optimisers."""
    if not isinstance(contents, dict):
        return
    tensors = {}
    for name, value in contents.items():
        if isinstance(name, str) and isinstance(value, Tensor | np.ndarray):
            tensors[name] = value if isinstance(value, Tensor) else torch.from_numpy(value)
    if tensors:
        yield wrapper, tensors
    for name, value in contents.items():
        if isinstance(name, str) and not name.lower().startswith(_TRAINING_STATE):
            yield from dicts_of_tensors(value, f"{wrapper}.{name}".lstrip("."))


def find(network: nn.Module, contents: Any) -> Fit | None:
    """Returns the place of a file that fits a network whole, or the one that comes nearest; None without tensors."""
    fits = [fit for wrapper, tensors in dicts_of_tensors(contents) for fit in _fits(network, wrapper, tensors)]
    whole = [fit for fit in fits if fit.whole]
    if whole:
        return min(whole, key=lambda fit: fit.place.rank)
    return max(
        fits, key=lambda f: len(f.tensors) - len(f.missing) - len(f.left_over) - len(f.other_shape), default=None
    )


def _fits(network: nn.Module, wrapper: str, tensors: Tensors) -> Iterator[Fit]:
    wanted = dict(network.state_dict())
    for prefix in _prefixes(tensors, wanted):
        yield _fit(network, wanted, Place(wrapper, prefix), _below(tensors, prefix))
    for layout in LAYOUTS:
        for prefix in layout.prefixes(tensors):
            renamed = layout.renamed(_below(tensors, prefix))
            if layout.in_order:
                renamed = _counted(renamed, wanted)
            yield _fit(network, wanted, Place(wrapper, prefix, layout.name), renamed)


def _below(tensors: Tensors, prefix: str) -> Tensors:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _prefixes(tensors: Tensors, wanted: Tensors) -> list[str]:
    """Returns what stands before the network's names wherever many of them are, and before all names, if anything."""
    votes: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in wanted:
                votes["".join(f"{part}." for part in parts[:start])] += 1
    found = [prefix for prefix, count in votes.items() if count >= 0.5 * max(votes.values())]
    first, last = min(tensors).split("."), max(tensors).split(".")
    shared = 0
    while shared < min(len(first), len(last)) - 1 and first[shared] == last[shared]:
        shared += 1
    return list(dict.fromkeys([*found, "".join(f"{part}." for part in first[:shared]), ""]))


def _counted(tensors: Tensors, wanted: Tensors) -> Tensors:
    """Returns the tensors under the network's names, layer by layer; unchanged if there are more or fewer layers."""
    given, own = _layers(tensors), _layers(wanted)
    order = sorted(given, key=lambda name: [(not part.isdigit(), part.zfill(6)) for part in name.split(".")])
    if len(given) != len(own):
        return tensors
    out: Tensors = {}
    for theirs, ours in zip(order, own, strict=True):
        for kind, name in given[theirs].items():
            wanted_name = own[ours].get(kind, name)
            tensor, like = tensors[name], wanted.get(wanted_name)
            same = like is not None and tensor.squeeze().shape == like.squeeze().shape
            out[wanted_name] = tensor.reshape(like.shape) if like is not None and same else tensor
    return out


def _layers(tensors: Tensors) -> dict[str, dict[str, str]]:
    """Returns layer -> kind of tensor (weight, bias, ...) -> its name, in the order of the dict."""
    layers: dict[str, dict[str, str]] = {}
    for name in tensors:
        layer, _, kind = name.rpartition(".")
        layers.setdefault(layer, {})[kind] = name
    return layers


def _fit(network: nn.Module, wanted: Tensors, place: Place, tensors: Tensors) -> Fit:
    other = _other_patches(wanted, tensors)
    given = tensors if other else _filtered(network, dict(tensors))
    classifier = facts_of(network).get("classifier") or ()
    heads = tuple(f"{name}." for name in ([classifier] if isinstance(classifier, str) else classifier))
    left_over = [n for n in given if n not in wanted and not n.startswith(heads) and not _EXTRA.fullmatch(n)]
    missing = [n for n in wanted if n not in given and not n.endswith("num_batches_tracked")]
    taken = {name: given[name] for name in wanted if name in given}
    other += [
        f"{name} {tuple(value.shape)} instead of {tuple(wanted[name].shape)}"
        for name, value in taken.items()
        if value.shape != wanted[name].shape
    ]
    counters = {n: value for n, value in wanted.items() if n.endswith("num_batches_tracked") and n not in given}
    return Fit(place, taken | counters, sorted(missing), sorted(left_over), sorted(dict.fromkeys(other)))


def _other_patches(wanted: Tensors, tensors: Tensors) -> list[str]:
    """Returns a line where the file cuts images into other patches: timm's filter would resize them without a word."""
    own = wanted.get("patch_embed.proj.weight")
    found = [tensors[name] for name in ("patch_embed.proj.weight", "visual.conv1.weight") if name in tensors]
    return [
        f"patch_embed.proj.weight {tuple(tensor.shape)} instead of {tuple(own.shape)}"
        for tensor in found
        if own is not None and tensor.ndim == 4 and tensor.shape[2:] != own.shape[2:]
    ]


def facts_of(network: nn.Module) -> dict[str, Any]:
    """Returns what timm has of a network's weights: architecture, classifier, first layer, ...; {} where nothing."""
    found: dict[str, Any] = getattr(network, "pretrained_cfg", {})
    return found


def _filtered(network: nn.Module, tensors: Tensors) -> Tensors:
    """Returns the tensors as timm's own loader hands them to the network."""
    own = _filter_of(network)
    if own is None:
        return tensors
    parameters = inspect.signature(own).parameters
    further = {"adapt_layer_scale": True} if "adapt_layer_scale" in parameters else {}
    if not any("gamma_" in name for name in tensors):
        further = {}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            out: Tensors = own(tensors, network, **further) if len(parameters) > 1 else own(tensors)
    except (AttributeError, AssertionError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return tensors  # it is written for files of this family; another's tensors are compared as they are
    return out


def _filter_of(network: nn.Module) -> Callable[..., Tensors] | None:
    import timm

    architecture = str(facts_of(network).get("architecture", ""))
    if not timm.is_model(architecture):
        return None
    module = sys.modules[timm.models.model_entrypoint(architecture).__module__]
    return next((getattr(module, name) for name in _FILTERS if hasattr(module, name)), None)
