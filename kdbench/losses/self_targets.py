"""Losses between two answers of one network."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kdbench.losses._checks import check_labels, dims


def mean_gap(first: Tensor, second: Tensor) -> Tensor:
    """(mean over all entries of a - mean over all entries of b)**2; neither is detached.

    `first`, `second`: embeddings (B, D) of the same examples in two views. Self-KD-Lib's form
    of the feature term of Xu and Liu 2019.
    """
    dims("B D", first=first, second=second)
    return (first.mean() - second.mean()).square()


def masked_cross_entropy(
    logits: Tensor,
    target: Tensor,
    mask: Tensor,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """-log softmax(z)[y], mean over the examples with mask 1; 0 where there are none.

    `logits`: (B, C); `target`: labels y (B), any class where the mask is 0; `mask`: (B);
    `class_weights`: (C), those of a weighted mean.
    """
    dims("B C", logits=logits)
    check_labels(logits, target)
    weight = None if class_weights is None else class_weights.to(logits.dtype)
    each = F.cross_entropy(
        logits, target, weight, reduction="none", label_smoothing=label_smoothing
    )
    if weight is None:
        return masked_mean(each, mask)
    return (each * mask).sum() / (weight[target] * mask).sum()


def masked_kl(
    student: Tensor, teacher: Tensor, mask: Tensor, temperature: float | Tensor = 1.0
) -> Tensor:
    """KL(p_t || p_s) with p = softmax(z / T), mean over the examples with mask 1; 0 where there
    are none. No T**2.

    `student`, `teacher`: logits (B, C); `mask`: (B).
    """
    dims("B C", student=student, teacher=teacher)
    ours, theirs = (F.log_softmax(z / temperature, dim=1) for z in (student, teacher.detach()))
    each = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=1)
    return masked_mean(each, mask)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of the values (B) with mask 1; 0 where there are none."""
    mask = mask.to(values.dtype)
    return (values * mask).sum() / torch.clamp(mask.sum(), min=1)
