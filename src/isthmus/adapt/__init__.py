"""The contract of an adaptation method: one file in `adapt/methods/`, nothing else to edit."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from isthmus.core.config import Config
from isthmus.data.batch import Batch, Outputs


@dataclass(frozen=True)
class Shape:
    """Sizes a method needs to build its own layers.

    Attributes:
        classes: K, number of classes.
        bottleneck: B, width of the features that methods align.
        sources: number of source domains; the target's domain id is this number.
        target_count: number of target training images, for memory banks.
        seed: for the method's own initial weights and random maps.
        target_shares: `[K]`, class shares of the target that diversity terms aim at, sum 1; None: all alike.
    """

    classes: int
    bottleneck: int
    sources: int
    target_count: int
    seed: int
    target_shares: tuple[float, ...] | None = None

    @property
    def prior(self) -> Tensor | None:
        """The target's class shares, float64 `[K]`."""
        return None if self.target_shares is None else torch.tensor(self.target_shares, dtype=torch.float64)


class Model(Protocol):
    """What a method may use of a classifier: backbone -> bottleneck -> head. Each part is an `nn.Module`."""

    backbone: nn.Module
    bottleneck: nn.Module
    head: nn.Module
    training: bool

    def __call__(self, inputs: Tensor, domains: Tensor) -> Outputs:
        """Returns features and logits of a batch; `domains` chooses each row's standardisation."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yields all parameters."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yields all parameters with their names."""

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Yields all buffers with their names."""

    def modules(self) -> Iterator[nn.Module]:
        """Yields all modules."""

    def state_dict(self) -> dict[str, Tensor]:
        """Returns all tensors by name."""

    def train(self, mode: bool = True) -> Any:
        """Switches to training (or evaluation) behaviour."""


class Method(nn.Module, ABC):
    """A final class `Adaptation(Method)` stands in each module of `adapt/methods/`.

    It is an `nn.Module`: its own layers (a discriminator) train with the model and are in the checkpoint.

    Attributes:
        needs: `features` runs on cached features and on images; `images` wants images (strong views, tokens,
            test-time updates of norm layers) and is refused in frozen mode.
        sees_target: False: no target tensor ever reaches the method, its model or their statistics.
        standardises: how inputs are standardised: by the `source` statistics for every domain, or `domain`:
            each domain by its own. None: as the method's `standardise` switch says.
        optimises: validators that this method's losses optimise; the report leaves these scores out.
        strong_view: True: batches carry `target_strong`.
        views: True: source rows are drawn among the images and their photometric views, where `embed` made some.
        adapts: True: `adapt` runs on every kept epoch before it is scored.
        remembers: whose images a head that remembers takes, of the `source` or the `target`; None: the method trains,
            and such a head leaves it out.
        phases: phases of training one after another, each with all the model's epochs and a learning-rate schedule of
            its own.
    """

    needs: ClassVar[Literal["features", "images"]] = "features"
    sees_target: ClassVar[bool] = True
    standardises: ClassVar[Literal["source", "domain"] | None] = None
    optimises: ClassVar[frozenset[str]] = frozenset()
    strong_view: ClassVar[bool] = False
    views: ClassVar[bool] = False
    adapts: ClassVar[bool] = False
    remembers: ClassVar[Literal["source", "target"] | None] = None
    phases: ClassVar[int] = 1

    @abstractmethod
    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns named scalar losses; the loop minimises their sum. Weights are applied here.

        Args:
            model: call it as `model(batch.inputs, batch.domains)`, once.
            batch: see `Batch`; source rows come first.
            progress: p in [0, 1], share of training that is done.
        """

    def after_step(self, model: Model, progress: float) -> None:
        """Runs after each optimiser step (EMA teachers, memory banks)."""

    def adapt(self, model: Model, target: Iterator[Batch]) -> None:
        """Adapts a copy of the model to target training images without labels, in place (only if `adapts`)."""

    def check(self, model: Model) -> None:
        """Refuses a model that the method cannot adapt, before a training run is spent on it; most take any.

        Raises:
            ConfigError: with what the model lacks.
        """

    def fit(self, session: "Session") -> None:
        """Trains. The default is the shared loop; a method with another loop (alternating steps, source-free)
        writes its own from the session's parts.
        """
        session.run_shared_loop()


class MethodConfig(Config):
    """Options that every method has. A module here has `Config(MethodConfig)` with its own beside them."""

    standardise: bool = Field(
        True,
        description="standardise each domain's inputs by its own mean and std; no effect on source_only and zscore",
    )

    def build(self, shape: Shape) -> Method:
        """Returns the method with these options. Each module's `Config` says how."""
        raise TypeError(f"{type(self).__module__}: Config has no build()")


class Stateful(Protocol):
    """Anything a checkpoint can hold: an optimiser, a module, a memory bank."""

    def state_dict(self) -> dict[str, Any]:
        """Returns the state."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Takes the state back."""


class Session(Protocol):
    """What `training` hands to `fit`: the parts of a loop.

    Attributes:
        model: backbone -> bottleneck -> head, on the device.
        method: the method itself, on the device.
        device: where batches are.
        optimiser: over model and method; groups carry `name` backbone, bottleneck, head or method.
    """

    method: Method
    device: torch.device
    optimiser: torch.optim.Optimizer

    @property
    def model(self) -> Model:
        """The model; see above."""

    @property
    def clip(self) -> float:
        """Largest gradient norm of a step; for loops that step optimisers of their own."""

    def epochs(self) -> Iterator[int]:
        """Yields the epochs still to do, 1-based; when the next one is asked for, the last one is scored,
        kept and checkpointed. Epochs that a checkpoint holds are skipped."""

    def batches(self) -> Iterator[Batch]:
        """Yields the batches of the current epoch: labelled rows (domain-balanced sources, then labelled target images
        where there are any), then the target."""

    def labelled_batches(self) -> Iterator[Batch]:
        """Yields all labelled training images once, in order: the source's, then those target images that a person
        labelled for training; without unlabelled rows or augmentation."""

    def target_batches(self) -> Iterator[Batch]:
        """Yields all target training images once, in order, without labelled rows or augmentation."""

    @property
    def progress(self) -> float:
        """p in [0, 1], share of all planned steps that are done; it goes on where a checkpoint stopped."""

    def step(self, losses: dict[str, Tensor]) -> None:
        """Does one step: zero, backward of the sum, clip, optimiser, `after_step`, then `record`."""

    def record(self, losses: dict[str, Tensor]) -> None:
        """Counts one step and notes its losses for the curves; for loops that step optimisers of their own."""

    def remember(self, name: str, thing: Stateful) -> None:
        """Adds state of a method's own loop to the checkpoint. Call it before `epochs`."""

    def run_shared_loop(self) -> None:
        """The loop every ordinary method uses."""
