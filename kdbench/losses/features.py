"""Losses that compare features entry by entry."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kdbench.losses._checks import dims
from kdbench.losses.pooling import pool_width


def feature_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """mean over all entries of (f_s - f_t)**2; features of one shape, (B, ...).

    Romero et al. 2015, equation 3, with a mean where the paper has half a sum.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"student has shape {tuple(student.shape)}, teacher {tuple(teacher.shape)}: "
            "one of them needs a regressor"
        )
    return F.mse_loss(student, teacher.detach())


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - <h_s, h_t> / (|h_s| |h_t|), mean over the batch.

    `student`, `teacher`: vectors (B, d); where the widths differ, the wider one is
    averaged over neighbouring entries to the width of the other, as in the PyTorch
    tutorial. PyTorch adds 1e-12 to the squared norms, so zero rows are safe.
    """
    dims("B d", student=student, teacher=teacher)
    width = min(student.shape[1], teacher.shape[1])
    ours, theirs = pool_width(student, width), pool_width(teacher.detach(), width)
    alike = torch.ones(len(ours), dtype=ours.dtype, device=ours.device)
    return F.cosine_embedding_loss(ours, theirs, alike)
