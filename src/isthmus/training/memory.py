"""Transfer modes without training: the head remembers labelled training rows, or good images."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from isthmus.adapt import Method
from isthmus.core.errors import ConfigError, DataError
from isthmus.core.progress import track
from isthmus.data.scenario import Scenario
from isthmus.models import ModelConfig
from isthmus.models.neighbours import NeighbourHead
from isthmus.models.patch_memory import LEAST_DISTANCE, PatchMemory, conformal_threshold, least_images
from isthmus.models.recipe import Memory
from isthmus.training.data import TrainingData
from isthmus.training.loop import LeftOut, LoopSession


def check_trains_nothing(method: Method, name: str) -> None:
    """Checks that a method is no more than a way of standardising: with a head that votes, nothing trains.

    Raises:
        ConfigError: it is more.
    """
    if method.remembers != "source":
        raise ConfigError(
            f"params.yaml: methods: {name} trains a model, and head: knn has nothing to train. Allowed: source_only,"
            " zscore. Set head: bottleneck or linear in the scenario's model, or drop the method"
        )


def check_head(scenario: Scenario, model: ModelConfig) -> None:
    """Checks that a head that remembers good images, and the task that is learnt from them, stand together.

    Raises:
        ConfigError: one stands without the other, or a layer is set and images have no cells.
    """
    where = f"params.yaml: models.{scenario.model}.head: {model.head}"
    if scenario.annotation_config().regions and model.head != "memory":
        raise ConfigError(
            f"{where} is trained on classes, and task {scenario.task} has good images alone. Set head: memory"
        )
    if model.head == "memory" and not scenario.annotation_config().regions:
        raise ConfigError(f"{where} is for task anomaly (got task: {scenario.task}). Set another head or task")
    if model.layer is not None and not scenario.annotation_config().by_place:
        raise ConfigError(
            f"params.yaml: models.{scenario.model}.layer: is of cells, and task {scenario.task} has one row an image"
            f" (got {model.layer}). Drop it"
        )


def why_left_out(method: Method, head: str, whole: bool = False) -> str:
    """Returns why a method has nothing to do with this model; empty where it has.

    Args:
        method: of adaptation.
        head: of the model.
        whole: the model trains on whole images, and has an answer for each of their cells.
    """
    if whole and method.sees_target:
        return "it looks at target images, and with mode: full masks are learnt from the source's alone"
    if head == "memory" and method.remembers is None:
        return "it trains a model, and head: memory trains nothing"
    if head != "memory" and method.remembers == "target":
        return f"it remembers images, and head: {head} does not"
    return ""


def memorise(session: LoopSession, method: str) -> None:
    """Gives the head the features and labels of all labelled training rows, then scores and keeps that as an epoch.

    Args:
        session: its model's head is a `NeighbourHead`.
        method: its name.

    Raises:
        ConfigError: the method is more than a way of standardising, and would train what is not there.
    """
    head = session.model.head
    assert isinstance(head, NeighbourHead)
    check_trains_nothing(session.method, method)
    for _ in session.epochs():
        session.model.eval()
        with torch.no_grad():
            parts = [(session.model.backbone(b.inputs, b.domains), b.labels) for b in session.labelled_batches()]
        head.remember(torch.cat([rows for rows, _ in parts]), torch.cat([labels for _, labels in parts]))


def memorise_good(session: LoopSession, data: TrainingData, options: Memory, domains: list[str]) -> None:
    """Gives the head the cells of good images, and each domain the threshold that its own training images ask for.

    The distance of a training image is that to the cells of other groups, as it is for an image that is new. A method
    that must not see the target takes the source's threshold for it.

    Args:
        session: its model's head is a `PatchMemory`.
        data: rows are images, source rows good ones.
        options: of the memory.
        domains: their names, the target last.

    Raises:
        DataError: a domain has too few training images for the rate of false alarms.
    """
    head, method = session.model.head, session.method
    assert isinstance(head, PatchMemory) and data.groups is not None
    parts = [*data.source_train, *([data.target_train] if method.sees_target else [])]
    for name, rows in zip(domains, parts, strict=False):
        if len(rows) < least_images(options.false_alarms):
            raise DataError(
                f"domain '{name}' has {len(rows)} training images to set a threshold by; {options.false_alarms:g} false"
                f" alarms need at least {least_images(options.false_alarms)}. Add good images, or raise"
                " memory.false_alarms of the scenario's model in params.yaml"
            )
    kept = data.target_train if method.remembers == "target" else np.concatenate(data.source_train)
    for _ in session.epochs():
        session.model.eval()
        cells = _Cells(session, data)
        head.rows, owners = cells.spaced(kept, options.most)
        scores = [cells.left_out(part, owners) for part in parts]
        thresholds = [conformal_threshold(score, options.false_alarms) for score in scores]
        pooled = conformal_threshold(np.concatenate(scores), options.false_alarms)
        thresholds += [pooled] * (len(domains) - len(parts))
        head.threshold.copy_(torch.tensor(thresholds))
        worst = [np.log(score / threshold) for score, threshold in zip(scores, thresholds, strict=False)]
        session.left_out = LeftOut(np.concatenate(parts), np.concatenate(worst).astype(np.float32))


@dataclass(frozen=True)
class _Cells:
    """Standardised cells of images."""

    session: LoopSession
    data: TrainingData

    def of(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Returns float32 `[n, T, D]`."""
        domains = torch.from_numpy(self.data.domains[rows]).to(self.session.device)
        cells: torch.Tensor = self.session.model.backbone(self.data.tensor(rows).to(self.session.device), domains)
        return cells

    @torch.no_grad()
    def spaced(self, rows: NDArray[np.int64], most: int) -> tuple[torch.Tensor, NDArray[np.object_]]:
        """Returns at most so many cells of these images `[M, D]`, evenly spaced, and the group of each."""
        each = self.of(rows[:1]).shape[1]
        places = np.linspace(0, len(rows) * each - 1, min(most, len(rows) * each)).astype(np.int64)
        of, inside = np.divmod(places, each)
        found = [self.of(rows[n : n + 1])[0, torch.from_numpy(inside[of == n])] for n in range(len(rows))]
        assert self.data.groups is not None
        return torch.cat(found).contiguous(), self.data.groups[rows[of]]

    @torch.no_grad()
    def left_out(self, rows: NDArray[np.int64], owners: NDArray[np.object_]) -> NDArray[np.float64]:
        """Returns the largest distance of each image to remembered cells of other groups, `[n]`.

        Raises:
            DataError: all that is remembered is of one group.
        """
        head, groups = self.session.model.head, self.data.groups
        assert isinstance(head, PatchMemory) and groups is not None
        scores = []
        for row in track(rows, "memory", len(rows), "image"):
            allowed = owners != groups[row]
            if not allowed.any():
                raise DataError(
                    "all good training images are of one group, so that none can be compared with others. Give 'group'"
                    " of the scenario a column or entity that tells lots apart"
                )
            found = head.distances(self.of(np.array([row])), torch.from_numpy(allowed).to(self.session.device))
            scores.append(max(float(found.amax()), LEAST_DISTANCE))
        return np.array(scores)
