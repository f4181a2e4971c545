"""Losses between class distributions or logits."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kdbench.losses._checks import check_labels, dims


def kl_to_log_probs(student: Tensor, target: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """KL(q || p) with p = softmax(z_s / T) and q = exp(target), mean over the batch.

    `student`: logits z_s (B, C). `target`: log-probabilities log q (B, C), already at
    temperature T. No T**2. The reduction is `batchmean`: PyTorch's `mean` would divide
    by the class count as well.
    """
    dims("B C", student=student, target=target)
    log_probs = F.log_softmax(student / temperature, dim=1)
    return F.kl_div(log_probs, target.detach(), reduction="batchmean", log_target=True)


def kl(student: Tensor, teacher: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """KL(p_t || p_s) with p = softmax(z / T), mean over the batch; no T**2.

    `student`, `teacher`: logits (B, C). Hinton, Vinyals, Dean 2015, section 2.
    """
    dims("B C", student=student, teacher=teacher)
    return kl_to_log_probs(student, F.log_softmax(teacher / temperature, dim=1), temperature)


def soft_cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    """-sum_c p_t(c) log p_s(c), mean over the batch.

    `student`, `teacher`: logits (B, C). It differs from `kl` at temperature 1 by the
    entropy of p_t: the gradient is the same. Kim et al. 2021 (PS-KD), equation 3.
    """
    dims("B C", student=student, teacher=teacher)
    return F.cross_entropy(student, F.softmax(teacher.detach(), dim=1))


def uniform_cross_entropy(student: Tensor) -> Tensor:
    """-(1 / C) sum_c log p_s(c), mean over the batch: cross-entropy against the uniform
    distribution over all C classes.

    `student`: logits (B, C). Szegedy et al. 2016, section 7.
    """
    dims("B C", student=student)
    return -F.log_softmax(student, dim=1).mean()


def probability_mse(student: Tensor, teacher: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """mean over B and C of (p_s - p_t)**2 with p = softmax(z / T); no T**2.

    `student`, `teacher`: logits (B, C). KD_Lib's soft loss without its weight.
    """
    dims("B C", student=student, teacher=teacher)
    target = F.softmax(teacher.detach() / temperature, dim=1)
    return F.mse_loss(F.softmax(student / temperature, dim=1), target)


def logit_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """mean over B and C of (z_s - z_t)**2.

    `student`, `teacher`: logits (B, C). Ba and Caruana 2014, equation 1 (there the sum
    over classes); Kim et al. 2021.
    """
    dims("B C", student=student, teacher=teacher)
    return F.mse_loss(student, teacher.detach())


def other_classes(target: Tensor, classes: int) -> Tensor:
    """The classes (B, C - 1) other than each of the labels `target` (B), in order.

    By index arithmetic, so that no tensor's size depends on values and no large negative
    number replaces minus infinity.
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
    """log softmax over the `others` (B, C - 1) only: (B, C) -> (B, C - 1)."""
    return F.log_softmax(logits.gather(1, others), dim=1)


def decoupled_kl(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float | Tensor = 1.0
) -> tuple[Tensor, Tensor]:
    """(TCKD, NCKD), batch means; no T**2.

    TCKD = KL(b_t || b_s) with b = [p_y, 1 - p_y], p = softmax(z / T); NCKD = KL(r_t || r_s)
    with r the softmax of z / T over the C - 1 classes other than y.

    `student`, `teacher`: logits (B, C); `target`: labels y (B).
    """
    dims("B C", student=student, teacher=teacher)
    check_labels(student, target)
    others = other_classes(target, student.shape[1])
    pair = student, teacher.detach()
    binaries = [binary(z / temperature, target, others) for z in pair]
    rankings = [ranking(z / temperature, others) for z in pair]
    return _kl(*binaries), _kl(*rankings)


def _kl(student: Tensor, teacher: Tensor) -> Tensor:
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def log_mean_probs(logits: Sequence[Tensor], temperature: float | Tensor = 1.0) -> Tensor:
    """log of (1 / n) sum_i softmax(z_i / T): log-probabilities (B, C) of n members.

    `logits`: n tensors (B, C). The arithmetic mean of the tempered probabilities, not
    of the logits. You et al. 2017, equation 2.
    """
    dims("B C", **{f"member {i}": z for i, z in enumerate(logits, 1)})
    logs = torch.stack([F.log_softmax(z.detach() / temperature, dim=1) for z in logits])
    return torch.logsumexp(logs, dim=0) - math.log(len(logits))


def min_logit(logits: Sequence[Tensor], target: Tensor) -> Tensor:
    """min over networks i of (z_i - z_i[y]), class by class: logits (B, C).

    `logits`: tensors (B, C); `target`: labels y (B). After the shift each network's true
    class has logit 0, so the minimum keeps for every other class the network that finds
    it least likely. Guo et al. 2020 (KDCL-MinLogit).
    """
    dims("B C", **{f"network {i}": z for i, z in enumerate(logits, 1)})
    check_labels(logits[0], target)
    index = target.unsqueeze(1)
    shifted = [z.detach() - z.detach().gather(1, index) for z in logits]
    return torch.stack(shifted).amin(dim=0)
