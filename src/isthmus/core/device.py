"""Which device computes, and how to make it compute the same twice."""

from typing import Annotated, Literal

import torch
from pydantic import Field

from isthmus.core.errors import ConfigError

DeviceName = Annotated[
    Literal["auto", "cpu", "cuda"], Field(description="auto: a GPU where there is one, else the CPU")
]
Precision = Literal["float32", "bfloat16"]


def pick_device(name: DeviceName) -> torch.device:
    """Returns the device for a name; `auto` takes the GPU when there is one.

    Raises:
        ConfigError: `cuda` was asked for and is not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: 'cuda' was asked for but this machine has no usable GPU. Allowed: auto, cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Returns whether a device multiplies bfloat16 by instructions of its own; without them torch emulates it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def training_precision(setting: str, device: torch.device) -> str:
    """Returns the precision of training; `auto` is `bf16` where the device has instructions, else `none`."""
    if setting != "auto":
        return setting
    return "bf16" if has_bfloat16(device) else "none"


def make_deterministic(threads: int) -> None:
    """Fixes thread count and kernels, so that the same inputs and seed give the same bytes on one machine.

    One thread is also the faster choice for small matrices: on two cores two one-thread runs beat one run
    with two threads by a factor of 1.6 to 2.

    A build of torch for GPUs warns where a kernel has no deterministic form, and goes on: there is none on a GPU for
    the gradient of position embeddings that a vision transformer resamples to another image size.
    """
    torch.set_num_threads(threads)
    # sets what `use_deterministic_algorithms(True)` sets of kernels, without importing torch's compiler (1.6 s)
    torch.set_deterministic_debug_mode("warn" if torch.backends.cuda.is_built() else "error")
