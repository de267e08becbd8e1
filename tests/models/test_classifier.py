import pytest
import torch
from torch import nn

from isthmus.models.classifier import Classifier, Encoder, Features, Standardise


def test_each_row_is_standardised_by_its_own_domain() -> None:
    layer = Standardise(torch.tensor([[1.0, 2.0], [10.0, 20.0]]), torch.tensor([[1.0, 2.0], [5.0, 10.0]]))

    out = layer(torch.tensor([[2.0, 4.0], [20.0, 10.0]]), torch.tensor([0, 1]))

    assert out.tolist() == [[1.0, 1.0], [2.0, -1.0]]


def test_a_constant_feature_is_centred_and_not_blown_up() -> None:
    layer = Standardise(torch.tensor([[3.0]]), torch.tensor([[0.0]]))

    assert layer(torch.tensor([[3.0], [4.0]]), torch.tensor([0, 0])).tolist() == [[0.0], [1.0]]


@pytest.mark.parametrize(("dtype", "high"), [(torch.uint8, 255), (torch.uint16, 65535)])
def test_pixels_are_scaled_by_their_dtype_before_they_are_normalised(dtype: torch.dtype, high: int) -> None:
    encoder = Encoder(nn.Flatten(), Standardise(torch.tensor([[0.5]]), torch.tensor([[0.25]])))

    out = encoder(torch.full((1, 1, 1, 1), high, dtype=dtype), torch.tensor([0]))

    assert out.tolist() == [[2.0]]


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_initial_weights_depend_on_the_seed_alone(norm: str) -> None:
    def build(seed: int) -> Classifier:
        torch.manual_seed(torch.seed() % 1000)
        return Classifier(Features(Standardise(torch.zeros(2, 4), torch.ones(2, 4))), 4, 3, 5, norm, seed)  # type: ignore[arg-type]

    first, second, third = build(1).state_dict(), build(1).state_dict(), build(2).state_dict()

    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], third["head.weight"])


def test_outputs_split_into_source_and_target_rows() -> None:
    model = Classifier(Features(Standardise(torch.zeros(2, 4), torch.ones(2, 4))), 4, 3, 5, "layer", 0)

    source, target = model(torch.randn(7, 4), torch.tensor([0] * 3 + [1] * 4)).split(3)

    assert (source.logits.shape, target.logits.shape, target.features.shape) == ((3, 3), (4, 3), (4, 5))
