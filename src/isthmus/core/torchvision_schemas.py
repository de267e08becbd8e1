"""Lets torchvision's CUDA wheel be imported beside a CPU build of torch.

The registry's torchvision 0.28.0 is built for CUDA: beside CPU torch its import fails with
`operator torchvision::nms does not exist`, and so does everything that imports it (timm, MLflow's torch
flavour). Declaring the two schemas first is enough: their kernels are never called here.

The package installs the hook when it is imported. Its wheel also holds a copy of this module at the top level, which
`isthmus_torchvision.pth` runs at each start of Python: it imports nothing but `sys`, and with it other programs of the
environment can import timm too.
"""

import sys

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_keep: list[object] = []  # a torch Library takes its schemas with it when it is collected


class _BeforeTorchvision:
    """Finds nothing; declares the schemas when torchvision is first imported."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            _declare()


def install() -> None:
    """Arranges for the schemas to be there before torchvision is; costs nothing until then."""
    # By name: the module is there twice, in the package and at the top level.
    there = any(type(finder).__name__ == _BeforeTorchvision.__name__ for finder in sys.meta_path)
    if "torchvision" not in sys.modules and not there:
        sys.meta_path.insert(0, _BeforeTorchvision())


def _declare() -> None:
    import torch

    if not torch.backends.cuda.is_built():
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                library.define(f"{name}{_SIGNATURE}")
        _keep.append(library)
