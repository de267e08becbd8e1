"""Where a vision transformer looked: attention rollout and Grad-CAM on the grid of patches.

For timm's vision transformers that answer by their class token. Nothing else is looked into: `why_not` says so.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def why_not(network: nn.Module) -> str | None:
    """Returns why a network cannot be looked into, or None where it can be."""
    blocks = getattr(network, "blocks", None)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList) or getattr(network, "global_pool", None) != "token":
        return "the backbone is not a vision transformer that answers by its class token"
    if not all(hasattr(getattr(block, "attn", None), "attn_drop") for block in blocks):
        return "the blocks of this vision transformer have an attention that cannot be read"
    return None


def rollout(attentions: list[Tensor]) -> Tensor:
    """Returns how much of each token at the entry is in each token at the end, `[B, L, L]`; rows sum to 1.

    Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, https://arxiv.org/abs/2005.00928,
    equation 1: A_rollout(i) = A(i) A_rollout(i - 1) with A = (W_att + I) / 2, W_att the mean over heads.

    Args:
        attentions: of each block in order, `[B, H, L, L]`, rows summing to 1.
    """
    eye = torch.eye(attentions[0].shape[-1])
    flow = eye.expand(len(attentions[0]), -1, -1)
    for attention in attentions:
        flow = (attention.mean(dim=1) + eye) / 2 @ flow
    return flow


def grad_cam(tokens: Tensor, gradients: Tensor) -> Tensor:
    """Returns the class activation of each token, `[B, L]`, 0 and above.

    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
    https://arxiv.org/abs/1610.02391, equations 1 and 2: relu(sum_c a_c A_c), where a_c is the mean over places of
    d score / d A_c.

    Args:
        tokens: activations A `[B, L, D]` of the patches.
        gradients: of the class's score by the activations, `[B, L, D]`.
    """
    weights = gradients.mean(dim=1, keepdim=True)
    return (weights * tokens).sum(dim=2).clamp(min=0)


def explain(
    network: nn.Module, answer: Callable[[Tensor], Tensor], images: Tensor, classes: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns rollout and Grad-CAM maps of images, each `[B, rows, columns]` in [0, 1], the largest 1.

    Grad-CAM is taken where patches enter the last block's attention: behind it the patches no longer reach the class
    token, so that their gradient is zero.

    Args:
        network: a timm vision transformer, in evaluation mode.
        answer: images -> logits `[B, K]`, through the network.
        images: what `answer` takes, `[B, C, H, W]`.
        classes: int64 `[B]`, whose score is explained.
    """
    vit: Any = network
    rows, columns = vit.patch_embed.dynamic_feat_size(images.shape[2:])
    patches = slice(vit.num_prefix_tokens, vit.num_prefix_tokens + rows * columns)  # prompts stand behind them
    attentions: list[Tensor] = []
    entries: list[Tensor] = []
    with torch.enable_grad(), _watched(vit, attentions, entries):
        logits = answer(images)
        score = logits.gather(1, classes[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, entries[-1])
    flow = rollout([attention.detach().float() for attention in attentions])[:, 0, patches]
    activation = grad_cam(entries[-1].detach()[:, patches].float(), gradient[:, patches].float())
    return tuple(_scaled(values).reshape(-1, rows, columns) for values in (flow, activation))  # type: ignore[return-value]


@contextmanager
def _watched(vit: Any, attentions: list[Tensor], entries: list[Tensor]) -> Iterator[None]:
    """Collects the attention of every block and what enters the last one's attention, and leaves no trace behind."""

    def keep_attention(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        attentions.append(inputs[0])

    def keep_entry(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        # A frozen network has no gradient of its own: the graph begins here.
        entries.append(output if output.requires_grad else output.detach().requires_grad_())
        return entries[-1]

    blocks = list(vit.blocks)
    fused = [block.attn.fused_attn for block in blocks]
    hooks = [block.attn.attn_drop.register_forward_pre_hook(keep_attention) for block in blocks]
    hooks.append(blocks[-1].norm1.register_forward_hook(keep_entry))
    for block in blocks:
        block.attn.fused_attn = False  # the fused kernel never holds the attention in full
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for block, before in zip(blocks, fused, strict=True):
            block.attn.fused_attn = before


def _scaled(values: Tensor) -> Tensor:
    """Returns values with the smallest of each row 0 and the largest 1; all zero where they are all the same."""
    low, high = values.amin(dim=1, keepdim=True), values.amax(dim=1, keepdim=True)
    return (values - low) / torch.where(high > low, high - low, torch.ones_like(high))
