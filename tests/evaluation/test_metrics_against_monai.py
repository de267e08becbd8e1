"""Our scores against those of MONAI, and of torchmetrics where MONAI has none, on random answers of uneven classes."""

import importlib.util

import numpy as np
import pytest
import torch

from isthmus.core.monai_import import monai_import
from isthmus.evaluation import calibration, metrics
from tests.require import require

pytestmark = pytest.mark.slow  # the import of MONAI takes seconds


@pytest.fixture(autouse=True)
def with_monai() -> None:
    require("monai", importlib.util.find_spec("monai") is not None)


def answers(classes: int, seed: int, seeds: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels `[N]` of uneven classes and predictions `[R, N]` that are right about half of the time."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(classes, 2.0))
    labels = np.concatenate([np.arange(classes), rng.choice(classes, 200, p=shares)])  # each class is there
    wrong = rng.integers(classes, size=(seeds, len(labels)))
    return labels, np.where(rng.random(wrong.shape) < 0.5, labels, wrong)


def one_hot(values: np.ndarray, classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(values), classes)


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_recall_precision_and_f1_of_each_class_are_monais(classes: int, seed: int) -> None:
    with monai_import():
        from monai.metrics import compute_confusion_matrix_metric, get_confusion_matrix
    labels, predicted = answers(classes, seed, seeds=3)

    ours = metrics.class_scores(predicted, labels, classes)

    for name, theirs in (("recall", "recall"), ("precision", "precision"), ("f1", "f1 score")):
        expected = [
            compute_confusion_matrix_metric(
                theirs, get_confusion_matrix(one_hot(row, classes), one_hot(labels, classes)).sum(dim=0)
            )
            for row in predicted
        ]
        np.testing.assert_allclose([scores[name] for scores in ours], torch.stack(expected).mean(dim=0), atol=1e-6)  # type: ignore[literal-required]
    assert [scores["count"] for scores in ours] == np.bincount(labels, minlength=classes).tolist()


@pytest.mark.parametrize("classes", [2, 5])
def test_accuracy_and_balanced_accuracy_are_those_of_torchmetrics_and_monai(classes: int) -> None:
    with monai_import():
        from monai.metrics import compute_confusion_matrix_metric, get_confusion_matrix
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix

    labels, predicted = answers(classes, 2)
    tensors = torch.from_numpy(predicted[0]), torch.from_numpy(labels)

    balanced = metrics.resampled_balanced_accuracy(predicted == labels, labels, np.ones((1, len(labels))))

    table = get_confusion_matrix(one_hot(predicted[0], classes), one_hot(labels, classes)).sum(dim=0)
    assert balanced.item() == pytest.approx(compute_confusion_matrix_metric("recall", table).mean().item(), abs=1e-6)
    assert balanced.item() == pytest.approx(multiclass_accuracy(*tensors, classes, average="macro").item(), abs=1e-6)
    micro = multiclass_accuracy(*tensors, classes, average="micro").item()
    assert metrics.accuracy(predicted[0], labels) == pytest.approx(micro, abs=1e-6)
    found = metrics.confusion(predicted[0], labels, classes)
    assert found.tolist() == multiclass_confusion_matrix(*tensors, classes).tolist()


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_under_the_roc_curve_is_monais(ties: bool) -> None:
    with monai_import():
        from monai.metrics import compute_roc_auc
    rng = np.random.default_rng(3)
    source, target = rng.normal(0, 1, 90), rng.normal(0.7, 1, 40)
    if ties:
        source, target = source.round(), target.round()

    ours = calibration._auc(source, target)

    scores = torch.from_numpy(np.concatenate([source, target]))
    labels = torch.cat([torch.zeros(90), torch.ones(40)])
    assert ours == pytest.approx(float(compute_roc_auc(scores, labels)), abs=1e-6)  # float32
    assert 0.6 < ours < 0.8
