import pytest
import torch

from isthmus.adapt.methods.mic import Adaptation, masked
from tests.adapt.small_session import batch, classifier, method


def test_masked_blocks_take_the_images_mean_and_the_rest_stays() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 255, (50, 3, 9, 9), dtype=torch.uint8)

    hidden = masked(images, 4, 0.7)

    assert hidden.dtype == torch.uint8
    mean = images.float().mean((2, 3), keepdim=True).to(torch.uint8)
    same, filled = (hidden == images).all(1), (hidden == mean).all(1)
    assert (same | filled).all()
    blocks = filled[:, ::4, ::4]
    for number in range(3):  # every pixel of a block shares its fate; the last block is cut by the border
        part = filled[:, 4 * number : 4 * number + 4, :4] | same[:, 4 * number : 4 * number + 4, :4]
        assert part.all()
    assert float(blocks.float().mean()) == pytest.approx(0.7, abs=0.1)


def test_ratio_zero_hides_nothing() -> None:
    images = batch(images=True).inputs

    assert torch.equal(masked(images, 4, 0.0), images)


def test_the_loss_is_weighted_by_the_teachers_confidence_and_the_student_sees_the_mask() -> None:
    built, model, sample = method("mic", patch=4), classifier(images=True), batch(5, 7, images=True)
    assert isinstance(built, Adaptation)
    quality, labels = built.teacher.pseudo_labels(model, sample.inputs[5:], sample.domains[5:])
    torch.manual_seed(4)
    hidden = masked(sample.inputs[5:], 4, 0.7)
    shares = torch.softmax(model(torch.cat([sample.inputs[:5], hidden]), sample.domains).logits[5:], 1)
    expected = -(quality * shares[torch.arange(7), labels].log()).mean()

    torch.manual_seed(4)
    value = built.losses(model, sample, 0.5)["consistency"]

    assert float(value.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
