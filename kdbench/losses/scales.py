"""Losses that take the scale of the logits out of the comparison, or learn it."""

from torch import Tensor
from torch.nn import functional as F

from kdbench.losses._checks import dims

#: Keeps equal logits from dividing by zero; the value of the authors of logit standardisation.
EPSILON = 1e-7


def standardise(logits: Tensor) -> Tensor:
    """(z - mean) / (s + 1e-7) with s the unbiased standard deviation, example by example.

    `logits`: z (B, C). Sun et al. 2024.
    """
    dims("B C", logits=logits)
    return (logits - logits.mean(dim=1, keepdim=True)) / (deviation(logits) + EPSILON)


def deviation(logits: Tensor) -> Tensor:
    """The unbiased standard deviation of each example's logits: (B, C) -> (B, 1)."""
    return logits.std(dim=1, keepdim=True)


def normalised_kl(student: Tensor, teacher: Tensor, factor: float | Tensor) -> Tensor:
    """mean over the batch of T_t**2 * KL(p_t || p_s) with p = softmax(z / T), where the
    temperature of each example and network is T = factor * s, s the unbiased standard
    deviation of its logits.

    `student`, `teacher`: logits (B, C). The gradient also runs through the student's T.
    Chi et al. 2023 (NormKD).
    """
    dims("B C", student=student, teacher=teacher)
    teacher = teacher.detach()
    own, target = (factor * deviation(z) + EPSILON for z in (student, teacher))
    log_probs = F.log_softmax(student / own, dim=1)
    log_target = F.log_softmax(teacher / target, dim=1)
    each = F.kl_div(log_probs, log_target, reduction="none", log_target=True)
    return (target.square() * each).sum(dim=1).mean()


def tempered_kl(student: Tensor, teacher: Tensor, temperature: Tensor) -> Tensor:
    """T**2 * KL(p_t || p_s) with p = softmax(z / T), mean over the batch, whose gradient also
    reaches a learned temperature T, through both distributions and the square.

    `student`, `teacher`: logits (B, C); `temperature`: a scalar. Li et al. 2023 (CTKD).
    """
    dims("B C", student=student, teacher=teacher)
    log_probs = F.log_softmax(student / temperature, dim=1)
    log_target = F.log_softmax(teacher.detach() / temperature, dim=1)
    divergence = F.kl_div(log_probs, log_target, reduction="batchmean", log_target=True)
    return temperature.square() * divergence


def scale_gradient(value: Tensor, factor: float | Tensor) -> Tensor:
    """`value`, with its gradient multiplied by `factor`: below 0 the descent becomes an ascent.

    Ganin and Lempitsky 2015 (gradient reversal).
    """
    constant = value.detach()
    return constant + factor * (value - constant)
