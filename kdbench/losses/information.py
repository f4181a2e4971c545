"""Losses between embeddings from information theory, and from relations to a queue of others."""

from torch import Tensor
from torch.nn import functional as F

from kdbench.losses._checks import dims
from kdbench.losses.affinities import unit


def correlation_entropy(student: Tensor, teacher: Tensor, alpha: float = 1.5) -> Tensor:
    """log2 of the sum over D of |c_d - 1|**(2 alpha), c_d the correlation of dimension d of both
    over the batch.

    `student`, `teacher`: vectors (B, D). The deviations are unbiased and the products are
    divided by B, so c_d is at most (B - 1) / B. 1e-6 in the deviations and 1e-12 in the
    logarithm keep it finite for constant dimensions. Miles et al. 2022 (ITRD), equation 7.
    """
    dims("B D", student=student, teacher=teacher)
    ours, theirs = normalised_over_batch(student), normalised_over_batch(teacher.detach())
    correlation = (ours * theirs).mean(dim=0)
    gap = (correlation - 1).square() + 1e-24
    return (gap.pow(alpha).sum() + 1e-12).log2()


def normalised_over_batch(vectors: Tensor) -> Tensor:
    """Each dimension of (B, D) less its mean over the batch and divided by its deviation."""
    centred = vectors - vectors.mean(dim=0)
    degrees = max(len(vectors) - 1, 1)
    return centred * (centred.square().sum(dim=0) / degrees + 1e-12).rsqrt()


def mutual_information(student: Tensor, teacher: Tensor) -> Tensor:
    """sum of G_s**2 - sum of G_st**2, with G_s the cosines of the student's embeddings to one
    another and G_st their products with the teacher's, each divided by its trace: 1 / B times
    the difference of two Renyi entropies of order 2, before the logarithm.

    `student`, `teacher`: vectors (B, d), widths may differ. Miles et al. 2022 (ITRD),
    equation 10.
    """
    dims("B d", student=student, teacher=teacher)
    ours, theirs = unit(student), unit(teacher.detach())
    own = ours @ ours.T
    joint = own * (theirs @ theirs.T)
    alone, together = (
        g.square().sum() / g.diagonal().sum().square().clamp(min=1e-24) for g in (own, joint)
    )
    return alone - together


def relation_cross_entropy(
    student: Tensor,
    teacher: Tensor,
    others: Tensor,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.02,
) -> Tensor:
    """-sum_k r_t(k) log r_s(k), mean over the batch, with r = softmax over k of <x, o_k> / tau.

    `student`, `teacher`: unit vectors (B, D); `others`: vectors o that both are compared with
    (K, D), constants. Giakoumoglou and Stathaki 2024 (RRD), equation 3.
    """
    dims("B D", student=student, teacher=teacher)
    dims("K D", others=others, **{"student's": student.new_empty(len(others), student.shape[1])})
    others = others.detach()
    target = (teacher.detach() @ others.T / teacher_temperature).softmax(dim=1)
    return F.cross_entropy(student @ others.T / student_temperature, target)


def direction_gap(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cos(s, t), mean over the batch; zeros are at right angles to all.

    `student`, `teacher`: vectors (B, D).
    """
    dims("B D", student=student, teacher=teacher)
    return 1 - (unit(student) * unit(teacher.detach())).sum(dim=1).mean()
