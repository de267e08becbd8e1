from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from isthmus.adapt.methods.prototypes import prototypes
from tests.adapt.small_session import CLASSES, data, method, session


def test_a_prototype_is_the_mean_direction_half_of_the_source_and_half_of_labelled_target_rows() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(9, 4)), np.array([0, 0, 0, 1, 1, 2, 0, 0, 1])
    target = np.arange(9) >= 6  # of class 2 none is labelled
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)

    found = prototypes(*(torch.from_numpy(v) for v in (features, labels, target)), classes=3).numpy()

    wanted = [
        (unit[:3].mean(0) + unit[6:8].mean(0)) / 2,
        (unit[3:5].mean(0) + unit[8]) / 2,
        unit[5],
    ]
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_the_kept_head_is_the_prototypes_of_the_last_epoch(tmp_path: Path) -> None:
    given = data()
    known = given.target_train[:6]
    labels = given.labels.copy()
    labels[known] = known % CLASSES
    opened = session(method("prototypes"), tmp_path, given=replace(given, labels=labels, target_labelled=known))

    opened.method.fit(opened)

    model = opened.model.eval()
    rows = torch.from_numpy(np.concatenate([given.source_train[0], known]))
    with torch.no_grad():
        features = model(torch.from_numpy(given.inputs.take(rows.numpy())), (rows >= 40).long()).features
    wanted = prototypes(features, torch.from_numpy(labels)[rows], rows >= 40, CLASSES)
    unit = torch.nn.functional.normalize(wanted, dim=1)
    torch.testing.assert_close(torch.nn.functional.normalize(model.head.weight, dim=1), unit, rtol=1e-4, atol=1e-5)
    assert not model.head.bias.any()
