"""The two halves of the KL divergence (Zhao et al. 2022, equations 4 to 6)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kdbench.losses import checks


def others(logits: Tensor, target: Tensor) -> Tensor:
    """The logits (B, C - 1) of all classes but the labelled one, in order.

    By index arithmetic: no tensor's size depends on values, and no large negative number
    stands in for minus infinity.
    """
    column = torch.arange(logits.shape[1] - 1, device=logits.device)
    return logits.gather(1, column + (column >= target.unsqueeze(1)).to(column.dtype))


def binary(logits: Tensor, target: Tensor) -> Tensor:
    """log [p_y, 1 - p_y] as (B, 2), both by log-sum-exp: exact where p_y is near 0 or 1."""
    log_probs = F.log_softmax(logits, dim=1)
    label = log_probs.gather(1, target.unsqueeze(1))
    rest = torch.logsumexp(others(log_probs, target), dim=1, keepdim=True)
    return torch.cat([label, rest], dim=1)


def target_kl(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float | Tensor = 1.0
) -> Tensor:
    """TCKD = KL(b_t || b_s) with b = [p_y, 1 - p_y], p = softmax(z / T), batch mean; no T**2.

    `student`, `teacher`: logits (B, C); `target`: labels y (B).
    """
    checks.dims("B C", student=student, teacher=teacher)
    checks.labels(student, target)
    ours, theirs = (binary(z / temperature, target) for z in (student, teacher.detach()))
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def non_target_kl(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float | Tensor = 1.0
) -> Tensor:
    """NCKD = KL(r_t || r_s), r = softmax over the C - 1 classes other than y, of z / T;
    batch mean; no T**2.

    `student`, `teacher`: logits (B, C); `target`: labels y (B).
    """
    checks.dims("B C", student=student, teacher=teacher)
    checks.labels(student, target)
    ours, theirs = (
        F.log_softmax(others(z / temperature, target), dim=1) for z in (student, teacher.detach())
    )
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
