import pytest
import torch

from isthmus.adapt.teachers import Teacher
from tests.adapt.small_session import Tokens, batch, classifier


def test_weights_follow_the_formula_and_the_first_step_takes_the_student_whole() -> None:
    teacher, model = Teacher(0.6), classifier()
    teacher.begin(model)
    weight = model.head.weight
    values = []
    for step in range(4):
        with torch.no_grad():
            weight.fill_(float(step + 1))
        teacher.follow(model)
        values.append(float(teacher.network.head.weight[0, 0]))  # type: ignore[union-attr, index]

    expected = [1.0]
    for step, decay in ((1, 0.5), (2, 0.6), (3, 0.6)):  # min(0.6, 1 - 1/(t+1)) is 0, 1/2, 0.6, 0.6
        expected.append(decay * expected[-1] + (1 - decay) * (step + 1))
    assert values == pytest.approx(expected)
    assert int(teacher.steps) == 4


def test_the_teacher_has_no_gradient_takes_over_statistics_and_answers_as_when_served() -> None:
    teacher, model, sample = Teacher(0.9), classifier(), batch()
    teacher.begin(model)
    model(sample.inputs + 5, sample.domains)
    teacher.follow(model)
    teacher.train()

    confidence, labels = teacher.pseudo_labels(model, sample.inputs, sample.domains)

    assert not any(p.requires_grad for p in teacher.parameters())
    assert torch.equal(teacher.network.bottleneck[1].running_mean, model.bottleneck[1].running_mean)  # type: ignore[union-attr, index]
    shares = torch.softmax(model.eval()(sample.inputs, sample.domains).logits, 1)
    torch.testing.assert_close(confidence, shares.max(1).values)
    assert torch.equal(labels, shares.argmax(1))


def test_a_teacher_is_in_the_state_and_comes_back() -> None:
    first, second, model = Teacher(0.9), Teacher(0.9), classifier()
    first.begin(model)
    for _ in range(3):
        first.follow(model)
    second.begin(classifier())

    second.load_state_dict(first.state_dict())

    assert int(second.steps) == 3
    assert "network.head.weight" in first.state_dict()


def test_the_teacher_takes_over_tables_that_a_network_keeps_out_of_its_state() -> None:
    class Shifting(Tokens):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.zeros(1), persistent=False)  # as Swin's places of a window's pixels

    teacher, model = Teacher(0.9), classifier(images=True, network=Shifting())
    teacher.begin(model)
    model.backbone.network.table.fill_(5.0)  # type: ignore[operator, union-attr] # a buffer, which nn.Module does not type

    teacher.follow(model)

    assert "backbone.network.table" not in model.state_dict()
    assert float(teacher.network.backbone.network.table) == 5.0  # type: ignore[union-attr, arg-type] # likewise
