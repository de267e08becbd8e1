import math
from pathlib import Path

import numpy as np
import pytest
import torch

from isthmus.core.config import validated
from isthmus.core.errors import ConfigError
from isthmus.models import ModelConfig
from isthmus.models.classifier import Classifier, Features, Standardise
from isthmus.models.neighbours import NeighbourHead
from isthmus.training.memory import memorise
from isthmus.training.range_test import range_test
from tests.adapt.small_session import CLASSES, INPUTS, data, method, session

FROZEN = {"mode": "frozen", "backbone": {"name": "small_cnn"}, "head": "knn", "epochs": 1}


def slow_votes(rows: np.ndarray, labels: np.ndarray, query: np.ndarray, k: int, temperature: float) -> list[float]:
    near = [float(row @ query / np.linalg.norm(row) / np.linalg.norm(query)) for row in rows]
    chosen = sorted(range(len(rows)), key=lambda i: -near[i])[:k]
    votes = [sum(math.exp(near[i] / temperature) for i in chosen if labels[i] == c) for c in range(CLASSES)]
    return [vote / sum(votes) for vote in votes]


def remembering(count: int = 30, neighbours: int = 7, temperature: float = 0.07) -> tuple[NeighbourHead, torch.Tensor]:
    rows = torch.randn(count, INPUTS, generator=torch.Generator().manual_seed(0))
    head = NeighbourHead(count, INPUTS, CLASSES, neighbours, temperature)
    head.remember(rows, torch.arange(count) % CLASSES)
    return head, rows


def voting(mean: float = 0.0, std: float = 1.0) -> Classifier:
    backbone = Features(Standardise(torch.full((2, INPUTS), mean), torch.full((2, INPUTS), std)))
    return Classifier(backbone, INPUTS, CLASSES, 8, "batch", 0, head=NeighbourHead(40, INPUTS, CLASSES, 5, 0.07))


@pytest.mark.parametrize(("neighbours", "temperature"), [(1, 0.07), (7, 0.07), (7, 1.0), (500, 0.5)])
def test_the_softmax_of_the_logits_are_the_shares_of_the_weighted_votes(neighbours: int, temperature: float) -> None:
    head, rows = remembering(neighbours=neighbours, temperature=temperature)
    queries = torch.randn(9, INPUTS, generator=torch.Generator().manual_seed(1))

    shares = torch.softmax(head(queries), 1)

    labels = np.arange(30) % CLASSES
    slow = [slow_votes(rows.numpy(), labels, query, neighbours, temperature) for query in queries.numpy()]
    np.testing.assert_allclose(shares.numpy(), slow, atol=1e-5)


def test_length_says_nothing_and_a_remembered_row_is_its_own_nearest() -> None:
    head, rows = remembering(neighbours=1)

    assert torch.equal(head(rows * 7.0).argmax(1), torch.arange(30) % CLASSES)
    assert torch.isfinite(head(torch.zeros(2, INPUTS))).all()


@pytest.mark.parametrize("name", ["source_only", "zscore"])
def test_a_session_remembers_the_standardised_source_rows_and_is_kept_as_an_epoch(name: str, tmp_path: Path) -> None:
    rows = data(source=40)
    model = voting(mean=0.3, std=2.0)
    running = session(method(name), tmp_path, model, rows, epochs=1)

    memorise(running, name)

    expected = torch.nn.functional.normalize((torch.from_numpy(rows.inputs.take(np.arange(40))) - 0.3) / 2.0, dim=1)
    torch.testing.assert_close(model.head.rows, expected)
    assert model.head.labels.tolist() == rows.labels[:40].tolist()
    assert np.load(tmp_path / "epochs" / "001.embeddings.npy").shape == (90, INPUTS)
    assert running._curves[0]["source_val_accuracy"] > 0.9


def test_a_method_that_trains_is_refused_and_so_is_a_range_test(tmp_path: Path) -> None:
    running = session(method("mmd"), tmp_path, voting(), epochs=1)

    with pytest.raises(ConfigError, match="methods: mmd trains a model, .* Allowed: source_only, zscore"):
        memorise(running, "mmd")
    with pytest.raises(ConfigError, match="head: knn trains nothing, so there is no learning rate to test"):
        range_test(running, 1e-5, 1.0, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 20}, r"head: knn trains nothing \(got mode: frozen, epochs: 20\). Set mode: frozen and epochs: 1"),
        ({"mode": "full"}, r"head: knn trains nothing \(got mode: full, epochs: 1\)"),
        ({"label_smoothing": 0.1, "sampling": "balanced"}, "have no effect: label_smoothing, sampling. Drop them"),
        ({"class_shares": {"a": 1.0}}, "have no effect: class_shares. Drop them"),
        ({"class_weights": "balanced"}, "have no effect: class_weights. Drop them"),
        ({"head": "linear", "neighbours": {"count": 5}}, r"neighbours belongs to head: knn \(got head: linear\)"),
    ],
)
def test_options_that_would_do_nothing_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validated(ModelConfig, {**FROZEN, **changes}, "params.yaml: models.vit.")
