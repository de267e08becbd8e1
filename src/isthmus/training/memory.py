"""The transfer mode without training: the head remembers the labelled training rows."""

import torch

from isthmus.adapt import Method
from isthmus.core.errors import ConfigError
from isthmus.models.neighbours import NeighbourHead
from isthmus.training.loop import LoopSession


def check_trains_nothing(method: Method, name: str) -> None:
    """Checks that a method is no more than a way of standardising: with a head that remembers, nothing trains.

    Raises:
        ConfigError: it is more.
    """
    if method.standardises is None:
        raise ConfigError(
            f"params.yaml: methods: {name} trains a model, and head: knn has nothing to train. Allowed: source_only,"
            " zscore. Set head: bottleneck or linear in the scenario's model, or drop the method"
        )


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
