"""Shift within each class: of a class with many images a part is compared."""

import numpy as np
import pytest

from isthmus.evaluation.shift import class_shift as module
from isthmus.evaluation.shift.class_shift import class_shift


def test_of_many_images_of_a_class_a_part_is_compared_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    source, target = (rng.normal(size=(40, 3)).astype(np.float32) for _ in range(2))
    labels = np.repeat([0, 1, 2], [30, 9, 1])
    seen = []
    mmd = module.mmd
    monkeypatch.setattr(module, "mmd", lambda one, other, seed: seen.append(len(one)) or mmd(one, other, seed))
    monkeypatch.setattr(module, "MOST", 12)

    told = class_shift(source, labels, target, labels, ["crack", "dent", "good"], 0)

    assert [told[name]["images"] for name in ("crack", "dent", "good")] == [[10, 10], [9, 9], [1, 1]]
    assert seen == [10, 9]
    assert told["good"]["mmd2"] is None
