"""Losses that compare relations between the examples of a batch or between layers."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kdbench.losses._checks import dims
from kdbench.losses.features import pool, smaller_size


def similarity(student: Tensor, teacher: Tensor) -> Tensor:
    """|| G_s - G_t ||_F**2 / B**2 with G = A A^T, each row divided by its L2 norm.

    `student`, `teacher`: features (B, ...), flattened to A (B, d); only B must agree.
    Tung and Mori 2019, equations 2 to 4.
    """
    if student.shape[0] != teacher.shape[0]:
        raise ValueError(f"B differs: {student.shape[0]} in student, {teacher.shape[0]} in teacher")
    a_s, a_t = (f.flatten(1) for f in (student, teacher.detach()))
    return F.mse_loss(F.normalize(a_s @ a_s.T, dim=1), F.normalize(a_t @ a_t.T, dim=1))


def flow(early: Tensor, late: Tensor) -> Tensor:
    """G = f_early f_late^T / (h w): (B, c1, h, w) and (B, c2, h, w) -> (B, c1, c2).

    Of maps of different sizes the larger is max-pooled to the smaller, as in the paper.
    Yim et al. 2017, equation 1.
    """
    dims("B c h w", early=early, late=late)
    size = smaller_size(early, late)
    first, second = pool(early, size, "max").flatten(2), pool(late, size, "max").flatten(2)
    return first @ second.transpose(1, 2) / first.shape[2]


def flow_mse(
    student_early: Tensor, student_late: Tensor, teacher_early: Tensor, teacher_late: Tensor
) -> Tensor:
    """mean over B and channel pairs of (G_s - G_t)**2, for one pair of stages.

    Feature maps (B, c, h, w); student and teacher must have the same channels at each
    stage. Yim et al. 2017, equation 2, with a mean over entries as in RepDistiller.
    """
    g_s = flow(student_early, student_late)
    g_t = flow(teacher_early.detach(), teacher_late.detach())
    dims("B EARLY-CHANNELS LATE-CHANNELS", student=g_s, teacher=g_t)
    return F.mse_loss(g_s, g_t)


def geometry(vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gram matrix, squared distances and the mask of distinct pairs, each (B, B).

    The batch mean is subtracted first: relations do not depend on it, and without it the
    subtraction below loses fewer digits. Pairs that are nearer than rounding errors count
    as one point: their squared distance is replaced by 1, so that no root or division
    meets a zero, and the mask `apart` excludes it from the results.
    """
    centred = vectors - vectors.mean(dim=0, keepdim=True)
    gram = centred @ centred.T
    square = gram.diagonal()
    sums = square.unsqueeze(0) + square.unsqueeze(1)
    squared = sums - 2 * gram
    resolution = 64 * torch.finfo(vectors.dtype).eps
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    apart = (squared > resolution * sums) & ~itself
    return gram, torch.where(apart, squared, torch.ones_like(squared)), apart


def relative_distances(vectors: Tensor) -> Tensor:
    """|x_i - x_j| / mu, with mu the mean over distinct pairs: (B, d) -> (B, B)."""
    _, squared, apart = geometry(vectors)
    lengths = torch.where(apart, squared.sqrt(), torch.zeros_like(squared))
    # Without distinct pairs every length is 0, and any positive mean gives 0.
    count = apart.sum().clamp(min=1)
    mean = lengths.sum() / count
    return lengths / torch.where(mean > 0, mean, torch.ones_like(mean))


def cosines(vectors: Tensor) -> Tensor:
    """cos of the angle at x_i between x_j and x_k: (B, d) -> (B, B, B), at [i, j, k].

    0 where x_i coincides with x_j or x_k. From the Gram matrix,
    <x_j - x_i, x_k - x_i> = G_jk - G_ij - G_ik + G_ii: B**2 d + B**3 operations instead of
    the B**3 d of the differences themselves, and B**3 numbers of memory instead of B**2 d.
    """
    gram, squared, apart = geometry(vectors)
    inverse = torch.where(apart, squared.rsqrt(), torch.zeros_like(squared))
    products = gram.unsqueeze(0) - gram.unsqueeze(2) - gram.unsqueeze(1)
    products = products + gram.diagonal().view(-1, 1, 1)
    return products * inverse.unsqueeze(2) * inverse.unsqueeze(1)


def distance(student: Tensor, teacher: Tensor) -> Tensor:
    """mean over pairs of huber(psi_s - psi_t), psi = |x_i - x_j| / mu.

    `student`, `teacher`: vectors (B, d), widths may differ. mu is the mean distance of
    the batch; the Huber loss is linear above 1. Park et al. 2019, equations 4 to 7.
    """
    dims("B d", student=student, teacher=teacher)
    return F.smooth_l1_loss(relative_distances(student), relative_distances(teacher.detach()))


def angle(student: Tensor, teacher: Tensor) -> Tensor:
    """mean over triplets of huber(cos_s - cos_t), the cosine of the angle at i.

    `student`, `teacher`: vectors (B, d), widths may differ. Park et al. 2019, equations 8
    to 10.
    """
    dims("B d", student=student, teacher=teacher)
    return F.smooth_l1_loss(cosines(student), cosines(teacher.detach()))
