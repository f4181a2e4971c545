"""Losses that take features for draws from normal distributions."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from kdbench.losses._checks import dims


def gaussian_nll(mean: Tensor, teacher: Tensor, variance: Tensor) -> Tensor:
    """mean over all entries of ((t - mu)**2 / sigma**2 + log sigma**2) / 2.

    `mean`: mu (B, C, H, W), predicted from the student; `teacher`: t, of the same shape;
    `variance`: sigma**2 (C,), positive. Ahn et al. 2019, equation 5. (PyTorch's own reads the
    variance back to check it, which a CUDA graph cannot capture.)
    """
    dims("B C H W", mean=mean, teacher=teacher)
    spread = variance.view(1, -1, 1, 1)
    return ((teacher.detach() - mean).square() / spread + spread.log()).mean() / 2


def moments(maps: Tensor, grid: int, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and sqrt(variance + eps) over each cell of a grid: (B, C, h, w) -> (B, C, grid**2).

    The variance is unbiased, and 0 in a cell of one position.
    """
    cells = [
        maps[:, :, rows, columns].flatten(2)
        for rows in _cells(maps.shape[2], grid)
        for columns in _cells(maps.shape[3], grid)
    ]
    means = torch.stack([cell.mean(dim=2) for cell in cells], dim=2)
    variances = [cell.var(dim=2, correction=min(1, cell.shape[2] - 1)) for cell in cells]
    return means, (torch.stack(variances, dim=2) + eps).sqrt()


def _cells(size: int, grid: int) -> list[slice]:
    """The cells of adaptive pooling: floor and ceiling of equal shares."""
    return [slice(i * size // grid, math.ceil((i + 1) * size / grid)) for i in range(grid)]


def wasserstein(
    student: Tensor, teacher: Tensor, grid: int = 1, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """(|mu_s - mu_t|**2, |sigma_s - sigma_t|**2), mean over the batch and the grid's cells.

    Their sum is the squared 2-Wasserstein distance of normal distributions with diagonal
    covariance; mu and sigma are taken over the positions of a cell, channel by channel.

    `student`, `teacher`: feature maps (B, C, h, w); sizes may differ. Lv et al. 2024,
    equation 9.
    """
    dims("B C h w", student=student, teacher=teacher)
    pairs = zip(moments(student, grid, eps), moments(teacher.detach(), grid, eps), strict=True)
    mean, deviation = (F.mse_loss(s, t) * student.shape[1] for s, t in pairs)
    return mean, deviation
