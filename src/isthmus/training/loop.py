"""The training loop, top to bottom, and the session that gives its parts to methods with a loop of their own."""

import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from isthmus.adapt import Method, Stateful
from isthmus.adapt.teachers import Teacher
from isthmus.core.accuracy import balanced_accuracy
from isthmus.core.device import training_precision
from isthmus.core.errors import ConfigError
from isthmus.core.files import atomic_file
from isthmus.core.progress import log
from isthmus.core.seeds import derive_seed
from isthmus.data.batch import Batch, softened
from isthmus.models import ModelConfig
from isthmus.models.classifier import Classifier, Encoder
from isthmus.models.recipe import EarlyStop
from isthmus.models.tuning import distance_to_start, merged, trained_share, unfreeze
from isthmus.training.checkpoint import Checkpoint
from isthmus.training.data import TrainingData
from isthmus.training.devices import Devices
from isthmus.training.optim import make_optimiser, rate_factor, set_rate
from isthmus.training.stopping import fill_left_out, should_stop, watched_value

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_CHECKPOINTS = 2.0  # an epoch on cached features is far shorter than writing it down is worth


@dataclass(frozen=True)
class Plan:
    """What one seed does beside its model's settings.

    Attributes:
        epochs: in all, of all phases.
        kept: epochs whose weights, logits and embeddings are written: the candidates.
        batch_size: rows of each role a step.
        seed: of batches, dropout and views.
        phases: of the method, each with a learning-rate schedule of its own.
    """

    epochs: int
    kept: list[int]
    batch_size: int
    seed: int
    phases: int = 1


def check_early_stop(config: EarlyStop, method: Method, name: str) -> None:
    """Checks that a method's loop can be stopped early, where that is asked for.

    Raises:
        ConfigError: it has a loop of its own.
    """
    own_loop = type(method).fit is not Method.fit
    if config.patience and own_loop:
        raise ConfigError(
            f"params.yaml: models: early_stop: {name} has a loop of its own, which needs all its epochs."
            " Set early_stop.patience: 0, or drop the method"
        )


class LeftOut(NamedTuple):
    """Logits of training images by a memory without their own group, which stand in place of those with it.

    Attributes:
        rows: int64 `[n]`, places of the images.
        defective: float32 `[n]`, logits of the second class; those of the first are 0.
    """

    rows: NDArray[np.int64]
    defective: NDArray[np.float32]


class LoopSession:
    """A session (see `adapt.Session`) over one model, one method, one seed.

    Args:
        model: on the device.
        method: on the device.
        data: rows by role.
        config: of the model, as params.yaml has it.
        plan: see `Plan`.
        device: where batches go.
        folder: working folder of this seed, outside the stage's outputs: checkpoint, curves, kept epochs.
        name: shown with the progress.
        devices: processes that share the backbone's work; all run the same, one writes. None: this one alone.

    Attributes:
        left_out: of a head that remembers images; None: of another.
    """

    def __init__(
        self,
        model: Classifier,
        method: Method,
        data: TrainingData,
        config: ModelConfig,
        plan: Plan,
        device: torch.device,
        folder: Path,
        name: str,
        devices: Devices | None = None,
    ) -> None:
        if devices is not None:
            devices.share(model)
        self._leads = devices is None or devices.leads
        self.model = model
        self.method = method
        self.device = device
        self.optimiser = make_optimiser(model, method, config)
        self._start = [(p, p.detach().clone()) for p in model.backbone.parameters() if p.requires_grad]
        self._network = model.backbone.network if isinstance(model.backbone, Encoder) else model.backbone
        self._tuned = [name for name, p in self._network.named_parameters() if p.requires_grad]
        self._data, self._config, self._plan, self._folder, self._name = data, config, plan, folder, name
        self._checkpoint = Checkpoint(folder)
        self._remembered: dict[str, Stateful] = {"model": model, "method": method, "optimiser": self.optimiser}
        self._planned = plan.epochs * data.steps(plan.batch_size)
        self._steps = self._epoch = 0
        self._curves: list[dict[str, Any]] = []
        self._sums: dict[str, float] = {}
        self._noted = 0
        self._rate = 0.0
        self._waiting = self._summed = 0  # batches since the last optimiser step, and those of them with gradients
        self._told = self._epoch_start = time.monotonic()
        self._classes = int(model.head.out_features)  # type: ignore[arg-type]
        self.left_out: LeftOut | None = None
        self._prepare_options()

    def run_shared_loop(self) -> None:
        """Trains with the method's losses: zero, losses, backward, step, in sight."""
        for _ in self.epochs():
            for batch in self.batches():
                losses = self.method.losses(self.model, batch, self.progress)
                self.step(losses)

    def step(self, losses: dict[str, Tensor]) -> None:
        """Does one step over all parameters; see `adapt.Session`."""
        if self._waiting == 0:
            self._rate = set_rate(self.optimiser, self._rate_factor())
            self.optimiser.zero_grad(set_to_none=True)
        if self._config.tuning.l2_sp:
            losses = losses | {"l2_sp": self._config.tuning.l2_sp * distance_to_start(self._start)}
        total = torch.stack(list(losses.values())).sum()
        if (
            total.isfinite()
        ):  # a NaN step would destroy the weights; the curve shows it, and `select` drops the candidate
            self._scaler.scale(total / self._config.accumulate).backward()
            self._summed += 1
        self._waiting += 1
        if self._waiting == self._config.accumulate:
            self._update()
        self.record(losses)

    def record(self, losses: dict[str, Tensor]) -> None:
        """Counts one step and notes its losses; see `adapt.Session`."""
        self._steps += 1
        self._noted += 1
        values = {f"loss_{name}": float(loss.detach()) for name, loss in losses.items()}
        for name, value in {**values, "loss_total": sum(values.values())}.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        now = time.monotonic()
        if self._leads and now - self._told >= SECONDS_BETWEEN_LINES:
            self._tell_step(self._noted * self._plan.batch_size / max(now - self._epoch_start, 1e-9))
            self._told = now

    def _prepare_options(self) -> None:
        config = self._config
        check_early_stop(config.early_stop, self.method, self._name)
        for group in self.optimiser.param_groups:
            group["plain_step"] = _is_plain(config)  # `adapt.alternating` refuses to stand beside another
        short = training_precision(config.precision, self.device)
        self.model.precision = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}[short]
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self._average = Teacher(config.average) if config.average else None
        if config.precision == "fp16":
            self.remember("scaler", self._scaler)
        if self._average is not None:
            self._average.begin(self.model)
            self.remember("average", self._average)

    def _rate_factor(self) -> float:
        phases = self._plan.phases
        epochs = self._plan.epochs // phases
        watched = []
        if self._config.schedule.name == "plateau":
            before = (self._epoch - 1) // epochs * epochs  # epochs of the phases before this one
            lines = self._curves[before:]
            watched = [line["plateau_watch"] for line in lines if line.get("plateau_watch") is not None]
        here = 1.0 if self.progress == 1.0 else self.progress * phases % 1.0
        return rate_factor(here, self._config.schedule, epochs, watched)

    def _update(self) -> None:
        """Steps the optimiser with the mean gradient of the batches since the last step."""
        if self._summed:
            self._scaler.unscale_(self.optimiser)
            parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
            if self._summed < self._config.accumulate:  # the epoch's last few, or losses that were not finite
                for parameter in parameters:
                    if parameter.grad is not None:
                        parameter.grad.mul_(self._config.accumulate / self._summed)
            nn.utils.clip_grad_norm_(parameters, self._config.clip)
            self._scaler.step(self.optimiser)
            self._scaler.update()
            self.method.after_step(self.model, self.progress)
            if self._average is not None:  # after the method, which may set the head
                self._average.follow(self.model)
        self._waiting = self._summed = 0

    @property
    def progress(self) -> float:
        """p in [0, 1]; see `adapt.Session`."""
        return min(1.0, self._steps / self._planned)

    @property
    def clip(self) -> float:
        """Largest gradient norm; see `adapt.Session`."""
        return self._config.clip

    @property
    def trained_share(self) -> float:
        """Share of the backbone's weights that train, in the end where they join one after another; frozen: 0."""
        return trained_share(self._network)

    @property
    def full_rate(self) -> float:
        """The learning rate of all but the backbone, before the schedule."""
        return self._config.learning_rate

    def remember(self, name: str, thing: Stateful) -> None:
        """Adds to the checkpoint; see `adapt.Session`."""
        self._remembered[name] = thing

    def epochs(self) -> Iterator[int]:
        """Yields epochs still to do; see `adapt.Session`."""
        self._restore()
        saved = time.monotonic()
        for epoch in range(self._epoch + 1, self._plan.epochs + 1):
            if should_stop(self._curves, self._config.early_stop.patience):
                break
            start, before = time.monotonic(), self._steps
            self._epoch_start = start
            self._epoch = epoch
            self._seed(derive_seed(self._plan.seed, "epoch", epoch))
            self.model.train()
            self.method.train()
            if self._config.tuning.unfreeze_every:
                unfreeze(self._network, self._tuned, epoch, self._config.tuning.unfreeze_every)
            yield epoch
            self._finish_epoch()
            now = time.monotonic()
            last = epoch == self._plan.epochs
            if self._leads and (now - saved >= SECONDS_BETWEEN_CHECKPOINTS or last):
                self._save()
                saved = time.monotonic()
            if self._leads and (now - start > 1.0 or last):
                self._tell((self._steps - before) * self._plan.batch_size / max(now - start, 1e-9))
        if self._epoch < self._plan.epochs and self._leads:
            best = fill_left_out(self._folder / "epochs", self._curves, self._plan.epochs, self._plan.kept)
            log(f"{self._name}: stopped early after epoch {self._epoch}, epoch {best} was the best kept one")

    def _seed(self, seed: int) -> None:
        if self.device.type == "cpu":  # of all devices it takes a stack trace for each that was never used: 1 ms
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def batches(self) -> Iterator[Batch]:
        """Yields the current epoch's batches; see `adapt.Session`."""
        method = self.method
        for batch in self._data.batches(
            self._epoch,
            self._plan.batch_size,
            self._plan.seed,
            target=method.sees_target,
            strong=method.strong_view,
            views=method.views,
        ):
            here = batch.to(self.device)
            smoothing = self._config.label_smoothing
            yield softened(here, self._classes, smoothing) if smoothing else here

    def labelled_batches(self) -> Iterator[Batch]:
        """Yields all labelled training rows in order; see `adapt.Session`."""
        rows = self._data.labelled(self.method.sees_target)
        for start, (inputs, domains) in enumerate(self._data.in_order(rows, self._plan.batch_size)):
            first = start * self._plan.batch_size
            labels = torch.from_numpy(self._data.labels[rows[first : first + len(inputs)]])
            yield Batch(inputs, domains, labels, torch.empty(0, dtype=torch.int64)).to(self.device)

    def target_batches(self) -> Iterator[Batch]:
        """Yields all target training rows in order; see `adapt.Session`."""
        assert self.method.sees_target, "a method that must not see the target asked for it"
        first = 0
        for inputs, domains in self._data.in_order(self._data.target_train, self._plan.batch_size):
            index = torch.arange(first, first + len(inputs))
            first += len(inputs)
            yield Batch(inputs, domains, torch.empty(0, dtype=torch.int64), index).to(self.device)

    def write(self, folder: Path) -> None:
        """Writes `curves.jsonl` of a finished run."""
        lines = [json.dumps(line, sort_keys=True, allow_nan=False) + "\n" for line in self._curves]
        (folder / "curves.jsonl").write_text("".join(lines), encoding="utf-8")

    def _finish_epoch(self) -> None:
        if self._waiting:
            self._update()
        means = {name: _finite(value / max(1, self._noted)) for name, value in self._sums.items()}
        self._sums, self._noted = {}, 0
        val = self._data.source_val
        logits, truth = self._predict(self._served, val)["logits"], self._data.classes_of(val)
        if self._data.cell_shares is not None:
            logits, truth = logits[truth >= 0], truth[truth >= 0]
        predicted = logits.argmax(1)
        line = {"epoch": self._epoch, "learning_rate": self._rate} | means
        line |= {
            "source_val_accuracy": float((predicted == truth).mean()) if len(truth) else None,
            "source_val_balanced_accuracy": balanced_accuracy(predicted, truth) if len(truth) else None,
        }
        if isinstance(self.model.backbone, Encoder):
            line["trained_share"] = trained_share(self._network)
        kept = self._epoch in self._plan.kept
        if self._config.schedule.name == "plateau":
            line["plateau_watch"] = self._watch(self._config.schedule.watch, logits, truth)
        if self._config.early_stop.patience and kept:
            line["early_stop_watch"] = self._watch(self._config.early_stop.watch, logits, truth)
        self._curves.append(line)
        if kept:
            self._keep()

    @property
    def _served(self) -> Classifier:
        """The weights that are scored and kept."""
        if self._average is None:
            return self.model
        assert isinstance(self._average.network, Classifier)
        return self._average.network

    def _watch(self, name: str, logits: NDArray[np.float32], truth: NDArray[np.int64]) -> float | None:
        if name == "source_val_loss" or not self.method.sees_target:
            return _finite(watched_value("source_val_loss", logits, truth))
        return _finite(watched_value(name, self._predict(self._served, self._data.target_train)["logits"], truth))

    def _keep(self) -> None:
        model = self._served
        if self.method.adapts:
            model = copy.deepcopy(model)
            for own, other in zip(model.parameters(), self.model.parameters(), strict=True):
                own.requires_grad_(other.requires_grad)
            self.method.adapt(model, self.target_batches())
        plain = merged(model)  # what is kept has the standard names, and its scores are those of what is kept
        assert isinstance(plain, Classifier)
        model = plain
        seen = self._predict(model, np.arange(len(self._data.domains)), self._data.cells)
        if self.left_out is not None:
            seen["logits"][self.left_out.rows, 1] = self.left_out.defective
        if not self._leads:
            return
        kept = self._folder / "epochs" / f"{self._epoch:03d}"
        for name, values in seen.items():
            with atomic_file(kept.with_suffix(f".{name}.npy")) as partial, partial.open("wb") as stream:
                np.save(stream, values.astype(np.float16) if name == "embeddings" else values)
        with atomic_file(kept.with_suffix(".safetensors")) as partial:
            save_file({name: value.contiguous().cpu() for name, value in model.state_dict().items()}, partial)

    @torch.no_grad()
    def _predict(self, model: Classifier, rows: NDArray[np.int64], cells: int = 1) -> dict[str, NDArray[np.float32]]:
        """Returns what the model answers to these rows: `logits`, `embeddings` (features, of which each `cells` rows in
        succession have their mean), and of a model of defects or boxes `maps` or `extents`.
        """
        was = model.training
        model.eval()
        found: dict[str, list[NDArray[np.float32]]] = {"logits": [], "embeddings": [], "maps": [], "extents": []}
        whole = self._data.images or self._data.inputs.take(rows[:1]).ndim == 3
        size = self._plan.batch_size if whole else max(1, 4096 // cells) * cells
        for inputs, domains in self._data.in_order(rows, size):
            if cells > 1 and not self._data.images:
                inputs, domains = inputs.unflatten(0, (-1, cells)), domains[::cells]
            outputs = model(inputs.to(self.device), domains.to(self.device))
            seen = outputs.features.float()
            seen = seen.reshape(-1, cells, seen.shape[1]).mean(1) if cells > 1 else seen
            answers = {"logits": outputs.logits, "embeddings": seen, "maps": outputs.maps, "extents": outputs.extents}
            for name, values in answers.items():
                if values is not None:
                    found[name].append(values.float().cpu().numpy())
        model.train(was)
        if not found["logits"]:
            return {name: np.zeros((0, 1), np.float32) for name in ("logits", "embeddings")}
        return {name: np.concatenate(parts) for name, parts in found.items() if parts}

    def _save(self) -> None:
        state = {name: thing.state_dict() for name, thing in self._remembered.items()}
        self._checkpoint.save({"epoch": self._epoch, "steps": self._steps, "curves": self._curves, "state": state})

    def _restore(self) -> None:
        saved = self._checkpoint.load()
        if saved is None:
            return
        for name, thing in self._remembered.items():
            thing.load_state_dict(saved["state"][name])
        self._epoch, self._steps, self._curves = saved["epoch"], saved["steps"], saved["curves"]
        log(f"{self._name}: resumes after epoch {self._epoch} of {self._plan.epochs}")

    def _tell_step(self, rate: float) -> None:
        parts = [f"{name.removeprefix('loss_')} {value / self._noted:.4g}" for name, value in self._sums.items()]
        steps = self._data.steps(self._plan.batch_size)
        log(
            f"{self._name}: epoch {self._epoch}/{self._plan.epochs}, step {min(self._noted, steps)}/{steps}:"
            f" loss {', '.join(parts)}, {rate:.0f} images/s"
        )

    def _tell(self, rate: float) -> None:
        last = self._curves[-1]
        parts = [
            f"{key.removeprefix('loss_')} {value:.4g}"
            for key, value in last.items()
            if key.startswith("loss_") and value is not None
        ]
        shown = [f"loss {', '.join(parts)}"] if parts else []  # a head that remembers has no loss
        accuracy = last["source_val_accuracy"]
        shown += [] if accuracy is None else [f"source val {accuracy:.3f}"]
        log(f"{self._name}: epoch {self._epoch}/{self._plan.epochs}: {', '.join(shown)}, {rate:.0f} images/s")


def _is_plain(config: ModelConfig) -> bool:
    """Says whether a step is one that a method with optimisers of its own does too."""
    used = (config.optimiser.name, config.accumulate, config.precision, config.average)
    return (*used, config.tuning.layer_decay, config.tuning.l2_sp) == ("adamw", 1, "none", 0.0, 1.0, 0.0)


def kept_epochs(epochs: int, keep: int) -> list[int]:
    """Returns the epochs that become candidates: evenly spaced, the last always among them.

    >>> kept_epochs(20, 4)
    [5, 10, 15, 20]
    """
    return sorted({math.ceil(epochs * number / keep) for number in range(1, keep + 1)})


def planned_epochs(epochs: int, min_steps: int, steps: int, phases: int) -> int:
    """Returns how many epochs a method trains in all its phases.

    Args:
        epochs: of a phase.
        min_steps: batches that a phase has at least, however few images there are.
        steps: batches an epoch.
        phases: of the method.

    >>> planned_epochs(20, 500, 7, 1)
    72
    """
    return phases * max(epochs, math.ceil(min_steps / max(1, steps)))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
