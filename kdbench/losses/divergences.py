"""Divergences of class distributions beside the Kullback-Leibler divergence."""

import math

from torch import Tensor
from torch.nn import functional as F

from kdbench.losses._checks import dims

#: DHKD's authors clamp a probability to [1e-8, 1 - 1e-8]; this is the logit at the ends.
CLAMP = math.log((1 - 1e-8) / 1e-8)


def alpha_beta_divergence(
    student: Tensor,
    teacher: Tensor,
    teacher_power: float,
    student_power: float,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    """-1 / (a b) * sum_c (p_t**a p_s**b - a / (a + b) p_t**(a + b) - b / (a + b) p_s**(a + b)),
    mean over the batch, with p = softmax(z / T), a = teacher_power, b = student_power; no T**2.

    `student`, `teacher`: logits (B, C); a and b are above 0. For a = 1 and b to 0 it is
    KL(p_t || p_s). Wang et al. 2025 (ABKD).
    """
    dims("B C", student=student, teacher=teacher)
    a, b = teacher_power, student_power
    log_s, log_t = (F.log_softmax(z / temperature, dim=1) for z in (student, teacher.detach()))
    mixed = (a * log_t + b * log_s).exp()
    own, target = (((a + b) * log).exp() for log in (log_s, log_t))
    return ((a * target + b * own) / (a + b) - mixed).sum(dim=1).mean() / (a * b)


def binary_kl(student: Tensor, teacher: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """sum_c KL([1/2, 1/2] || [q, 1 - q]) with q = sigmoid((z_s - z_t) / T), mean over the batch;
    no T**2.

    `student`, `teacher`: logits (B, C). It equals log cosh((z_s - z_t) / 2T). As in the authors'
    code, q is clamped to [1e-8, 1 - 1e-8], beyond which there is no gradient.
    Yang et al. 2024 (DHKD).
    """
    dims("B C", student=student, teacher=teacher)
    gap = ((student - teacher.detach()) / temperature).clamp(-CLAMP, CLAMP)
    return (F.softplus(-gap) + gap / 2 - math.log(2)).sum(dim=1).mean()


def transformed_kl(student: Tensor, teacher: Tensor, exponent: float | Tensor) -> Tensor:
    """KL(q || p_s) with q = p_t**g / sum_c p_t**g, mean over the batch.

    `student`, `teacher`: logits (B, C), p = softmax(z); g: `exponent`, so that q is the
    teacher's distribution at temperature 1 / g. Zheng and Yang 2024 (TTM).
    """
    return _transformed_kls(student, teacher, exponent).mean()


def weighted_transformed_kl(student: Tensor, teacher: Tensor, exponent: float | Tensor) -> Tensor:
    """`transformed_kl` with each example weighted by sum_c p_t**g, which is large where the
    teacher is unsure.

    `student`, `teacher`: logits (B, C); g: `exponent`. Zheng and Yang 2024 (WTTM).
    """
    log_probs = F.log_softmax(teacher.detach(), dim=1)
    weights = (exponent * log_probs).exp().sum(dim=1)
    return (weights * _transformed_kls(student, teacher, exponent)).mean()


def _transformed_kls(student: Tensor, teacher: Tensor, exponent: float | Tensor) -> Tensor:
    dims("B C", student=student, teacher=teacher)
    target = F.log_softmax(exponent * teacher.detach(), dim=1)
    log_probs = F.log_softmax(student, dim=1)
    return F.kl_div(log_probs, target, reduction="none", log_target=True).sum(dim=1)


def logit_variance(student: Tensor, teacher: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """half the variance of d = z_t - z_s over the classes, which are weighted by
    w = softmax(z_t / T); mean over the batch, no T**2.

    `student`, `teacher`: logits (B, C). It equals 1/4 sum_jk w_j w_k (d_j - d_k)**2, the
    weighted squared error of all differences of two logits.
    Cui et al. 2024 (IKL).
    """
    dims("B C", student=student, teacher=teacher)
    teacher = teacher.detach()
    gap, weights = teacher - student, F.softmax(teacher / temperature, dim=1)
    centred = gap - (weights * gap).sum(dim=1, keepdim=True)
    return (weights * centred.square()).sum(dim=1).mean() / 2
