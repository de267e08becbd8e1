"""Two heads over one encoder, trained by turns: what MCD and SWD share; they differ in how they measure disagreement.

Saito, Watanabe, Ushiku, Harada, Maximum Classifier Discrepancy for Unsupervised Domain Adaptation, CVPR 2018,
https://arxiv.org/abs/1712.02560, section 3.3. Source and target go through the encoder one after the other, as in the
authors' code: normalised in one batch, the target as a whole moves to where both heads give the same class
(docs/log.md).
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from isthmus.adapt import Model, Session
from isthmus.adapt.alternating import minimise, minimise_only, own_optimiser, require_plain_step
from isthmus.adapt.predictions import source_loss
from isthmus.data.batch import Batch

Discrepancy = Callable[[Tensor, Tensor], Tensor]  # of two sets of logits [N, K]


def new_head(width: int, classes: int, seed: int) -> nn.Linear:
    """Returns a linear head; its weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(width, classes)


def both_right(model: Model, second_head: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Returns step A's losses: the source cross-entropy of both heads."""
    count = batch.source_count
    source = model(batch.inputs[:count], batch.domains[:count])
    return {"source": source_loss(source.logits, batch), "second": source_loss(second_head(source.features), batch)}


def right_and_apart(
    model: Model, second_head: nn.Module, batch: Batch, weight: float, discrepancy: Discrepancy
) -> Tensor:
    """Returns step B's loss: right on the source, apart on the target; no gradient reaches the encoder."""
    count = batch.source_count
    with torch.no_grad():
        source = model(batch.inputs[:count], batch.domains[:count]).features
        target = model(batch.inputs[count:], batch.domains[count:]).features
    right = source_loss(model.head(source), batch) + source_loss(second_head(source), batch)
    return right - weight * discrepancy(model.head(target), second_head(target))


def apart(model: Model, second_head: nn.Module, batch: Batch, weight: float, discrepancy: Discrepancy) -> Tensor:
    """Returns step C's loss: the weighted discrepancy on the target."""
    count = batch.source_count
    target = model(batch.inputs[count:], batch.domains[count:])
    return weight * discrepancy(target.logits, second_head(target.features))


def train_by_turns(
    session: Session,
    second_head: nn.Module,
    heads_loss: Callable[[Model, Batch], Tensor],
    encoder_loss: Callable[[Model, Batch], Tensor],
    encoder_steps: int,
    *,
    one_optimiser: bool,
) -> None:
    """Trains by turns; C's discrepancy before its last step is noted beside A's losses.

    Args:
        session: its method's `losses` are step A.
        second_head: trains with the model's own head.
        heads_loss: of step B.
        encoder_loss: of step C.
        encoder_steps: how often step C is done for each batch.
        one_optimiser: all steps share the session's, as in the authors' code; else B and C have one each. Adam scales
            every gradient to the same length, so with one of its own a small discrepancy moves the encoder as far as
            the cross-entropy does.
    """
    model, like = session.model, session.optimiser
    of_heads = [*model.head.parameters(), *second_head.parameters()]
    of_encoder = [*_trained(model.backbone), *_trained(model.bottleneck)]
    if one_optimiser:
        require_plain_step(like)
        move_heads = partial(minimise_only, parameters=of_heads, optimiser=like, clip=session.clip)
        move_encoder = partial(minimise_only, parameters=of_encoder, optimiser=like, clip=session.clip)
    else:
        heads = own_optimiser({"head": model.head.parameters(), "method": second_head.parameters()}, like)
        parts = {"backbone": _trained(model.backbone), "bottleneck": _trained(model.bottleneck)}
        encoder = own_optimiser(parts, like)
        session.remember("two_heads", heads)
        session.remember("two_heads_encoder", encoder)
        move_heads = partial(minimise, optimiser=heads, like=like, clip=session.clip)
        move_encoder = partial(minimise, optimiser=encoder, like=like, clip=session.clip)
    for _ in session.epochs():
        for batch in session.batches():
            move_heads(heads_loss(model, batch))
            for _ in range(encoder_steps):
                disagreement = encoder_loss(model, batch)
                move_encoder(disagreement)
            losses = session.method.losses(model, batch, session.progress)
            session.step(losses | {"discrepancy": disagreement.detach()})


def _trained(part: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in part.parameters() if parameter.requires_grad]
