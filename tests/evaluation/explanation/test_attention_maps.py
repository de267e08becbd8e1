"""Rollout and Grad-CAM by hand and on a tiny vision transformer."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from isthmus.evaluation.explanation.attention_maps import explain, grad_cam, rollout, why_not
from isthmus.evaluation.explanation.shown_cases import cases


def vit(**options: Any) -> Any:
    from timm.models.vision_transformer import VisionTransformer  # after isthmus, whose import hook it needs

    torch.manual_seed(0)
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 12, "depth": 3, "num_heads": 2, "num_classes": 0}
    return VisionTransformer(**(sizes | {"dynamic_img_size": True} | options)).eval()


def images(count: int = 3, side: int = 16) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def attention(seed: int, tokens: int = 5) -> torch.Tensor:
    return torch.randn(2, 3, tokens, tokens, generator=torch.Generator().manual_seed(seed)).softmax(dim=-1)


def test_the_rows_of_a_rollout_sum_to_one_and_it_equals_a_slow_product() -> None:
    layers = [attention(seed) for seed in range(4)]
    expected = np.eye(5)
    for layer in layers:
        expected = (layer[0].mean(dim=0).numpy() + np.eye(5)) / 2 @ expected

    flow = rollout(layers)

    assert flow.sum(dim=-1) == pytest.approx(np.ones((2, 5)), abs=1e-6)
    assert flow[0].numpy() == pytest.approx(expected, abs=1e-6)


def test_a_rollout_of_blocks_that_look_at_themselves_alone_is_the_identity() -> None:
    assert torch.equal(rollout([torch.eye(4).expand(1, 2, 4, 4)] * 3)[0], torch.eye(4))


def test_grad_cam_of_a_linear_head_on_the_mean_of_the_tokens_by_hand() -> None:
    tokens = torch.tensor([[[1.0, 2.0], [3.0, -1.0], [-4.0, 0.5]]], requires_grad=True)
    head = torch.tensor([2.0, -1.0])

    (gradient,) = torch.autograd.grad((tokens.mean(dim=1) @ head).sum(), tokens)

    # every token has the gradient w / L, so that the map is relu(A w) / L: 0, 7 / 3, and below zero
    assert grad_cam(tokens.detach(), gradient)[0].numpy() == pytest.approx([0.0, 7 / 3, 0.0], abs=1e-6)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_maps_of_a_transformer_lie_on_its_patches_and_nothing_is_left_behind(frozen: bool) -> None:
    network, head = vit(), nn.Linear(12, 3)
    network.requires_grad_(not frozen)
    before = head(network(images(2, 24)))

    maps = explain(network, lambda x: head(network(x)), images(2, 24), torch.tensor([0, 2]))

    assert [m.shape for m in maps] == [(2, 6, 6), (2, 6, 6)]
    for values in maps:
        assert values.amin() == 0 and values.amax(dim=(1, 2)).tolist() == [1.0, 1.0]
    assert torch.equal(head(network(images(2, 24))), before)
    assert all(block.attn.fused_attn for block in network.blocks)
    assert not network.blocks[-1].norm1._forward_hooks


def test_the_maps_follow_the_part_of_the_image_that_decides() -> None:
    """Only one patch differs from the others: attention by equal keys sees it as any other, Grad-CAM must see it."""
    network, head = vit(depth=1), nn.Linear(12, 2)
    picture = torch.zeros(1, 3, 16, 16)
    picture[:, :, 4:8, 8:12] = 3.0
    logits = head(network(picture)) - head(network(torch.zeros(1, 3, 16, 16)))
    raised = logits.argmax(dim=1)

    _, activation = explain(network, lambda x: head(network(x)), picture, raised)
    elsewhere = activation[0].clone()
    elsewhere[1, 2] = torch.nan

    rest = elsewhere[~elsewhere.isnan()]
    assert abs(activation[0, 1, 2] - rest.mean()) > 3 * rest.std()


def test_prompts_behind_the_patches_are_not_taken_for_patches() -> None:
    from isthmus.models.tuning import add_prompts

    network, head = vit(), nn.Linear(12, 2)
    add_prompts(network, 4, 0)

    maps = explain(network, lambda x: head(network(x)), images(1), torch.tensor([1]))

    assert maps[0].shape == maps[1].shape == (1, 4, 4)


def test_what_is_no_transformer_with_a_class_token_says_so() -> None:
    assert why_not(vit()) is None
    assert "not a vision transformer" in str(why_not(nn.Sequential(nn.Flatten())))
    assert "not a vision transformer" in str(why_not(vit(global_pool="avg", class_token=False)))


def predictions(correct: list[bool | None]) -> pd.DataFrame:
    count = len(correct)
    return pd.DataFrame(
        {
            "image_id": [f"{i:02d}" for i in range(count)],
            "domain": "line_b",
            "split": ["train", *["test"] * (count - 1)],
            "predicted": [i % 2 for i in range(count)],
            "confidence": [0.99, *np.linspace(0.9, 0.3, count - 1)],
            "correct": pd.array(correct, dtype="boolean"),
        }
    )


def test_right_and_wrong_images_are_shown_by_turns_of_the_predicted_class() -> None:
    shown = cases(predictions([True, True, True, True, False, False, True, False]), "line_b", 4)

    assert shown["case"].tolist() == ["wrong", "wrong", "right", "right"]
    assert shown["image_id"].tolist() == ["04", "05", "01", "02"]  # never 00: it is a training image


def test_without_labels_the_least_and_the_most_sure_are_shown_and_a_lack_of_one_case_is_filled_by_the_other() -> None:
    shown = cases(predictions([None] * 8), "line_b", 4)
    perfect = cases(predictions([True] * 8), "line_b", 4)

    assert dict(zip(shown["image_id"], shown["case"], strict=True)) == {
        "07": "least sure",
        "06": "least sure",
        "01": "surest",
        "02": "surest",
    }
    assert perfect["case"].tolist() == ["right"] * 4
