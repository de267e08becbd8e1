from pathlib import Path

import pytest
import torch

from isthmus.adapt.methods.fixmatch import Adaptation
from tests.adapt.small_session import batch, classifier, method, session


@pytest.mark.parametrize(("source", "target"), [(8, 8), (5, 9), (2, 1)])
def test_the_loss_is_the_sum_over_sure_rows(source: int, target: int) -> None:
    built, model, sample = (
        method("fixmatch", threshold=0.45),
        classifier(images=True),
        batch(source, target, images=True),
    )
    assert isinstance(built, Adaptation)
    confidence, labels = built.teacher.pseudo_labels(model, sample.inputs[source:], sample.domains[source:])
    everything = torch.cat([sample.inputs, sample.target_strong])
    shares = torch.softmax(model(everything, torch.cat([sample.domains, sample.domains[source:]])).logits, 1)
    expected = 0.0
    for row in range(target):
        if confidence[row] >= 0.45:
            expected -= float(shares[source + target + row, labels[row]].log().detach()) / target

    value = built.losses(model, sample, 0.5)["consistency"]

    assert float(value.detach()) == pytest.approx(expected, abs=1e-5)


def test_with_no_sure_row_the_loss_is_zero_with_a_gradient() -> None:
    built, model = method("fixmatch", threshold=1.0), classifier(images=True)

    value = built.losses(model, batch(images=True), 0.5)["consistency"]

    value.backward()
    assert float(value.detach()) == 0.0


def test_a_session_moves_the_teacher_and_a_checkpoint_holds_it(tmp_path: Path) -> None:
    running = session(method("fixmatch"), tmp_path, epochs=2)

    running.method.fit(running)

    state = torch.load(tmp_path / "state.pt", weights_only=True)["state"]["method"]
    assert int(state["teacher.steps"]) == 2 * 2
    assert "teacher.network.head.weight" in state
    again = session(method("fixmatch"), tmp_path, epochs=2)
    again.method.fit(again)
    assert torch.equal(again.method.state_dict()["teacher.network.head.weight"], state["teacher.network.head.weight"])
