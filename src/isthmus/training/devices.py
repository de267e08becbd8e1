"""Several processes, one a device: the same loop, the same losses as one process with the joint batch.

Every process draws the joint batch, sends its share of the rows through the backbone, and gets the features of all.
What stands on the features (bottleneck, head, the method's layers and losses, BatchNorm's statistics) sees the joint
batch in each process and does the same there: a distribution loss such as MMD is that of all rows, and no method knows
of it. Only the backbone's gradient is a sum over processes: each has the part of its own rows. Dropout inside the
backbone draws for a share of the rows, so with it losses are equal in distribution only.

The only file that imports Lightning Fabric, which brings the processes together (device, collectives), and torchrun's
launcher, which starts them.
"""

import os
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from isthmus.core.errors import ConfigError
from isthmus.core.plugins import install_command
from isthmus.models.cells import CellEncoder
from isthmus.models.classifier import Classifier, Encoder


class Devices:
    """The processes of one run.

    Args:
        fabric: launched.

    Attributes:
        device: this process's.
        leads: whether this process is the one that writes.
    """

    def __init__(self, fabric: Any) -> None:
        self._fabric = fabric
        self.device: torch.device = fabric.device
        self.leads: bool = fabric.is_global_zero

    def __deepcopy__(self, memo: dict[int, Any]) -> "Devices":
        return self  # a teacher's copy of the model is of the same run

    def share(self, model: Classifier) -> None:
        """Lets the model's backbone, and every copy made of it, be shared, in place.

        Raises:
            ConfigError: the backbone does not train, answers for cells, or has statistics that a share of the rows
                would spoil.
        """
        if not isinstance(model.backbone, Encoder):
            raise ConfigError(
                "params.yaml: train.processes: in frozen mode there is nothing to share: heads train on cached features"
                " in seconds. Set train.processes: 1, or a model whose mode is full"
            )
        if isinstance(model.backbone, CellEncoder):  # it looks at cells inside the network, past `run`
            raise ConfigError(
                "params.yaml: train.processes: models that answer for each cell of an image, as those of masks and"
                " boxes do, train in one process. Set train.processes: 1"
            )
        if any(isinstance(module, _BatchNorm) for module in model.backbone.modules()):
            raise ConfigError(
                "params.yaml: train.processes: the backbone has BatchNorm, whose statistics would cover only a"
                " part of the"
                " batch. Allowed: a vision transformer, small_cnn. Change the model, or set train.processes: 1"
            )
        model.backbone.run = self.spread

    def spread(self, network: nn.Module, pixels: Tensor) -> Tensor:
        """Returns the features `[N, D]` of all rows; this process computes its share of them, with gradients."""
        count, world = len(pixels), self._fabric.world_size
        size = -(-count // world)
        first = self._fabric.global_rank * size
        weights = {
            name: weight if not weight.requires_grad else _Summed.apply(weight, self._fabric)
            for name, weight in network.named_parameters()
        }
        own: Tensor = torch.func.functional_call(network, weights, (pixels[first : first + size],))
        padded = own.new_zeros((size, *own.shape[1:]), dtype=torch.float32)
        padded[: len(own)] = own.detach()
        parts = list(self._fabric.all_gather(padded).unbind(0))
        rows = torch.cat(parts).to(own.dtype)[:count]
        # Gathered rows carry no gradient: each process has that of its own rows, and `_Summed` adds them up.
        return torch.cat([rows[:first], own, rows[first + len(own) :]])


class _Summed(torch.autograd.Function):
    """A weight; on the way back its gradient is summed over the processes, where a mean would be of unequal shares."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, fabric: Any) -> Tensor:
        ctx.fabric = fabric
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total: Tensor = ctx.fabric.all_reduce(gradients[0].contiguous().clone(), reduce_op="sum")
        return total, None


def must_launch(processes: int) -> bool:
    """Returns whether several processes are set and torchrun did not start this one."""
    return processes > 1 and not torch.distributed.is_torchelastic_launched()


def launch(module: str, arguments: list[str], processes: int) -> None:
    """Runs a module in several processes of this host, as `torchrun --nproc_per_node` does, and waits for them.

    Raises:
        ConfigError: Lightning Fabric is not installed.
        SystemExit: with the status of the process that failed first, which logged why; or 128 plus a signal's number.
    """
    _fabric()
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",  # port 0: a free one
        local_addr="127.0.0.1",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", module, *arguments)
    except ChildFailedError as failure:
        _, first = failure.get_first_failure()
        raise SystemExit(first.exitcode if first.exitcode > 0 else 1) from None
    except SignalException as failure:
        raise SystemExit(128 + failure.sigval) from None


def open_devices(processes: int, device: torch.device) -> Devices | None:
    """Joins the processes that torchrun started, on one host or several; None for a run of one process.

    Args:
        processes: of all hosts together, as params.yaml has it.
        device: of which type each process takes one.

    Raises:
        ConfigError: that many were not started, or Lightning Fabric is not installed.
    """
    if not torch.distributed.is_torchelastic_launched():
        return None
    # Fabric takes the number of processes and hosts apart; torchrun gives those of this host and of all.
    world, here = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if world != processes:
        raise ConfigError(
            f"params.yaml: train.processes: {processes}, but torchrun started {world} in all."
            f" Set train.processes: {world}, or start {processes}: torchrun --nproc_per_node"
        )
    if world % here:
        raise ConfigError(f"torchrun started {here} processes here and {world} in all. Start as many on each host")
    fabric = _fabric()(accelerator=device.type, devices=here, num_nodes=world // here, strategy="ddp")
    fabric.launch()
    return Devices(fabric)


def _fabric() -> Any:
    try:
        from lightning_fabric import Fabric
    except ImportError:
        raise ConfigError(f"train.processes needs 'lightning-fabric': {install_command('devices')}") from None
    return Fabric
