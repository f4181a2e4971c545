"""Losses on features before the activation, below which the teacher's values say little."""

import math

import torch
from torch import Tensor

from kdbench.losses._checks import dims


def margins(weight: Tensor, bias: Tensor) -> Tensor:
    """The mean of the negative part of N(bias, weight**2) for each channel (C); where less than
    a thousandth is negative, -3 |weight|.

    `weight`, `bias`: of the batch normalisation whose output the channel is (C).
    Heo et al. 2019 (OFD), equation 3.
    """
    dims("C", weight=weight, bias=bias)
    scale = weight.detach().abs().clamp(min=torch.finfo(weight.dtype).tiny)
    shift = bias.detach()
    negative = torch.special.ndtr(-shift / scale)
    density = (-(shift / scale).square() / 2).exp() / math.sqrt(2 * math.pi)
    rare = negative <= 0.001
    mean = shift - scale * density / torch.where(rare, 1.0, negative)
    return torch.where(rare, -3 * scale, mean)


def partial_l2(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    """sum over entries of (s - max(t, m))**2 where t > 0 or s > max(t, m), mean over the batch.

    `student`, `teacher`: maps before the activation (B, C, H, W); `margin`: m (C).
    Heo et al. 2019 (OFD), equations 2 and 4.
    """
    dims("B C H W", student=student, teacher=teacher)
    dims("C", margin=margin, **{"student's channels": student[0, :, 0, 0]})
    target = torch.maximum(teacher.detach(), margin[:, None, None])
    counted = (student > target) | (target > 0)
    return (counted * (student - target).square()).sum() / len(student)
