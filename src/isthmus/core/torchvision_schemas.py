"""Lets torchvision's CUDA wheel be imported beside a CPU build of torch.

The registry's torchvision 0.28.0 is built for CUDA: beside CPU torch its import dies with
`operator torchvision::nms does not exist`, and so does everything that imports it (timm, MLflow's torch
flavour). Declaring the two schemas first is enough: their kernels are never called here.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_keep: list[object] = []  # a torch Library takes its schemas with it when it is collected


class _BeforeTorchvision(importlib.abc.MetaPathFinder):
    """Finds nothing; declares the schemas at the moment somebody first asks for torchvision."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            _declare()
        return None


def install() -> None:
    """Arranges for the schemas to be there before torchvision is; costs nothing until then."""
    if "torchvision" not in sys.modules and not any(isinstance(f, _BeforeTorchvision) for f in sys.meta_path):
        sys.meta_path.insert(0, _BeforeTorchvision())


def _declare() -> None:
    import torch

    if not torch.backends.cuda.is_built():
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}{_SIGNATURE}")
        _keep.append(library)
