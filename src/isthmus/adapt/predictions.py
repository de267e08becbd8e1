"""What several methods ask of a batch of logits: probabilities, entropy, mutual information.

All compute in float32 (float64 stays) also under autocast: bfloat16 has two decimal digits, and an entropy is a sum of
small differences.
"""

import torch
from torch import Tensor
from torch.nn import functional

from isthmus.data.batch import Batch

_TINY = 1e-12  # below any mean probability that matters; keeps log finite where a class is never predicted
_SMOOTH = 1e-3  # [row] of Dice: a class that a batch does not have counts as matched where none of it is predicted


def full_precision(values: Tensor) -> Tensor:
    """Returns float32; float64 stays.

    >>> full_precision(torch.ones(2, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return values if values.dtype == torch.float64 else values.float()


def probabilities(logits: Tensor) -> Tensor:
    """Returns the softmax of logits `[N, K]`."""
    return functional.softmax(full_precision(logits), dim=1)


def entropy(logits: Tensor) -> Tensor:
    """Returns H(p) = -sum_k p_k log p_k of each row of logits `[N, K]`, `[N]` [nat]."""
    logs = functional.log_softmax(full_precision(logits), dim=1)
    return -(logs.exp() * logs).sum(1)


def diversity(logits: Tensor, prior: Tensor | None = None) -> Tensor:
    """Returns the entropy of the mean prediction of logits `[N, K]`, a scalar in [0, log K] [nat].

    With a prior it is -KL(p || prior) = H(p) + sum_k p_k log prior_k, p the mean prediction: largest, zero, where p has
    the prior's shares, as H(p) is where they are all alike (Krause, Perona, Gomes, Discriminative Clustering by
    Regularized Information Maximization, NIPS 2010, who aim at given class shares so). With equal shares it is H(p)
    less the constant log K.

    Args:
        logits: `[N, K]`.
        prior: `[K]`, sum 1; a share of zero counts as 1e-12.
    """
    mean = probabilities(logits).mean(0)
    spread = -(mean * mean.clamp_min(_TINY).log()).sum()
    return spread if prior is None else spread + (mean * prior.to(mean.dtype).clamp_min(_TINY).log()).sum()


def source_loss(logits: Tensor, batch: Batch, smoothing: float = 0.0) -> Tensor:
    """Returns the cross-entropy of source logits `[S, K]`, against the batch's soft labels where it has them.

    With class weights w it is sum(w_k y_nk (-log p_nk)) / sum(w_k y_nk), which is PyTorch's weighted mean where labels
    are one class each.

    Of cells of masks and boxes the soft Dice loss over the batch is added, as cross-entropy alone gives thin structures
    up: no cell is mostly of their class (Milletari, Navab, Ahmadi, V-Net, 3DV 2016; the sum with cross-entropy: Isensee
    et al., nnU-Net, Nature Methods 2021).

    Args:
        logits: of the source rows; cells whose soft labels are all zero, as no pixel of them is scored, do not count,
            and a batch of such cells alone has the loss 0.
        batch: its labels or soft labels, and class weights.
        smoothing: a method's own label smoothing [share], on top of what the batch's soft labels hold.
    """
    if batch.overlap and not (known := batch.label_shares(logits.shape[1]).sum(dim=1) > 0).all():
        logits, batch = logits[known], batch.scored(known)
        if not len(logits):  # the mean over no cell is NaN
            return logits.sum()
    if batch.class_weights is None:
        labels = batch.labels if batch.soft_labels is None else batch.soft_labels
        loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    else:
        shares = batch.label_shares(logits.shape[1]) * (1 - smoothing) + smoothing / logits.shape[1]
        weighted = shares * batch.class_weights
        loss = -(weighted * functional.log_softmax(logits, dim=1)).sum() / weighted.sum().clamp_min(_TINY)
    return loss + dice_loss(logits, batch.label_shares(logits.shape[1])) if batch.overlap else loss


def dice_loss(logits: Tensor, shares: Tensor) -> Tensor:
    """Returns 1 - the mean over classes of 2 sum(p y) / (sum p + sum y), of logits and shares `[S, K]`."""
    p = logits.softmax(dim=1)
    overlap = (2 * (p * shares).sum(0) + _SMOOTH) / (p.sum(0) + shares.sum(0) + _SMOOTH)
    return 1 - overlap.mean()
