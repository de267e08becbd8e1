from pathlib import Path

import numpy as np
import pytest
import torch

from isthmus.adapt.cosine import TEMPERATURE, set_head
from tests.adapt.small_session import batch, classifier, method, session


def slow(features: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Probabilities of each row, by loops over rows and classes."""
    found = np.zeros((len(features), len(weight)))
    for i, row in enumerate(features):
        scores = [row @ w / (np.linalg.norm(row) * np.linalg.norm(w)) / 0.05 for w in weight]
        found[i] = [np.exp(score) / sum(np.exp(other) for other in scores) for score in scores]
    return found


def test_the_losses_are_cross_entropy_and_the_negative_weighted_entropy_of_cosines_over_the_temperature() -> None:
    model, given = classifier(), batch()

    losses = method("mme").losses(model, given, 0.5)

    features = model(given.inputs, given.domains).features.detach().double().numpy()
    p = slow(features, model.head.weight.detach().double().numpy())
    labelled, target = p[:8], p[8:]
    assert TEMPERATURE == 0.05 and method("mme").weight == 0.1
    wanted = -np.mean([np.log(row[k]) for row, k in zip(labelled, given.labels, strict=True)])
    assert float(losses["source"].detach()) == pytest.approx(wanted, rel=1e-4)
    assert float(losses["entropy"].detach()) == pytest.approx(0.1 * np.mean((target * np.log(target)).sum(1)), rel=1e-4)


def test_one_backward_pass_raises_the_entropy_by_the_head_and_lowers_it_by_the_encoder() -> None:
    model, given = classifier(), batch()
    losses = method("mme").losses(model, given, 0.5)
    torch.stack(list(losses.values())).sum().backward()
    got = [model.head.weight.grad, model.bottleneck[0].weight.grad]  # type: ignore[index]

    for sign, part, found in zip((-1, 1), (model.head, model.bottleneck[0]), got, strict=True):  # type: ignore[index]
        features = model(given.inputs, given.domains).features
        rows, classes = (torch.nn.functional.normalize(v, dim=1) for v in (features, model.head.weight))
        logs = torch.log_softmax(rows @ classes.T / 0.05, dim=1)
        entropy = -(logs.exp() * logs)[8:].sum(1).mean()
        loss = torch.nn.functional.nll_loss(logs[:8], given.labels) + sign * 0.1 * entropy
        torch.testing.assert_close(found, torch.autograd.grad(loss, part.weight)[0], rtol=1e-3, atol=1e-6)


def test_the_kept_head_gives_each_row_the_class_of_the_largest_cosine() -> None:
    model, given = classifier(), batch(64, 64)
    model.head.bias.data += 3.0
    set_head(model, torch.randn(3, 6, generator=torch.Generator().manual_seed(0)), torch.tensor(2.0))

    outputs = model(given.inputs, given.domains)

    features, weight = (v.detach().double().numpy() for v in (outputs.features, model.head.weight))
    kept = np.linalg.norm(features, axis=1) > 0  # a row whose units are all off has no direction
    assert (outputs.logits.argmax(1).numpy()[kept] == slow(features[kept], weight).argmax(1)).all()
    np.testing.assert_allclose(np.linalg.norm(weight, axis=1), 1 / (0.05 * 2.0), rtol=1e-5)


def test_it_learns_the_classes(tmp_path: Path) -> None:
    opened = session(method("mme"), tmp_path, epochs=60)

    opened.method.fit(opened)
    opened.write(tmp_path)

    assert '"source_val_accuracy": 1.0' in (tmp_path / "curves.jsonl").read_text().splitlines()[-1]
