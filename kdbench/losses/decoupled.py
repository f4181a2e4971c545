"""The two halves of the KL divergence (Zhao et al. 2022, equations 4 to 6)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kdbench.losses import _checks as checks


def other_classes(target: Tensor, classes: int) -> Tensor:
    """The classes (B, C - 1) other than each of the labels `target` (B), in order.

    By index arithmetic: no tensor's size depends on values, and no large negative number
    stands in for minus infinity.
    """
    column = torch.arange(classes - 1, device=target.device)
    return column + (column >= target.unsqueeze(1))


def binary(logits: Tensor, target: Tensor, others: Tensor) -> Tensor:
    """log [p_y, 1 - p_y] as (B, 2), both by log-sum-exp: exact where p_y is near 0 or 1."""
    log_probs = F.log_softmax(logits, dim=1)
    label = log_probs.gather(1, target.unsqueeze(1))
    rest = torch.logsumexp(log_probs.gather(1, others), dim=1, keepdim=True)
    return torch.cat([label, rest], dim=1)


def ranking(logits: Tensor, others: Tensor) -> Tensor:
    """log softmax over the other classes alone, (B, C - 1)."""
    return F.log_softmax(logits.gather(1, others), dim=1)


def decoupled_kl(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float | Tensor = 1.0
) -> tuple[Tensor, Tensor]:
    """(TCKD, NCKD), batch means; no T**2.

    TCKD = KL(b_t || b_s) with b = [p_y, 1 - p_y], p = softmax(z / T); NCKD = KL(r_t || r_s)
    with r the softmax of z / T over the C - 1 classes other than y.

    `student`, `teacher`: logits (B, C); `target`: labels y (B).
    """
    checks.dims("B C", student=student, teacher=teacher)
    checks.labels(student, target)
    others = other_classes(target, student.shape[1])
    pair = student, teacher.detach()
    binaries = [binary(z / temperature, target, others) for z in pair]
    rankings = [ranking(z / temperature, others) for z in pair]
    return _kl(*binaries), _kl(*rankings)


def _kl(ours: Tensor, theirs: Tensor) -> Tensor:
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
