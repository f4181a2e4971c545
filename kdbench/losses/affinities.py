"""Losses that compare how alike a batch's embeddings are to one another."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from kdbench.losses._checks import dims


def unit(vectors: Tensor, eps: float = 0.0) -> Tensor:
    """x / (|x| + eps) along the last dimension; zeros stay zeros and get no gradient."""
    norm = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    zero = norm == 0
    return torch.where(zero, torch.zeros_like(vectors), vectors / (norm + eps + zero))


def affinities(vectors: Tensor, eps: float = 1e-7) -> Tensor:
    """(1 + cos(x_i, x_j)) / 2, each row divided by its sum: (B, d) -> (B, B)."""
    rows = unit(vectors, eps)
    similar = (rows @ rows.T + 1) / 2
    return similar / similar.sum(dim=1, keepdim=True)


def affinity_kl(student: Tensor, teacher: Tensor, eps: float = 1e-7) -> Tensor:
    """mean over all B * B entries of P_t log((P_t + eps) / (P_s + eps)), P the affinities.

    `student`, `teacher`: vectors (B, d), widths may differ. Passalis and Tefas 2018,
    equations 3 to 6, with a mean where the paper has the sum.
    """
    dims("B d", student=student, teacher=teacher)
    p_s, p_t = affinities(student, eps), affinities(teacher.detach(), eps)
    return (p_t * ((p_t + eps) / (p_s + eps)).log()).mean()


def correlation_congruence(student: Tensor, teacher: Tensor) -> Tensor:
    """sum over d of |e_i - t_i| |e_(i+1) - t_(i+1)|, mean over the B - 1 neighbours in the batch.

    `student`, `teacher`: embeddings (B, D). Neither is detached: the teacher's is the output
    of a projection that learns too. 0 for one example. The authors' code for Peng et al. 2019.
    """
    dims("B D", student=student, teacher=teacher)
    error = (student - teacher).abs()
    return (error[:-1] * error[1:]).sum() / max(len(error) - 1, 1)


def taylor_rbf(vectors: Tensor, gamma: float, order: int) -> Tensor:
    """exp(-2 gamma) sum_(p <= order) (2 gamma)**p / p! cos(x_i, x_j)**p: (B, d) -> (B, B).

    The Taylor series of exp(-gamma |a - b|**2) for unit vectors, about right angles.
    """
    rows = unit(vectors)
    similar = rows @ rows.T
    terms = [similar**p * (2 * gamma) ** p / math.factorial(p) for p in range(order + 1)]
    return torch.stack(terms).sum(dim=0) * math.exp(-2 * gamma)


def rbf_mse(student: Tensor, teacher: Tensor, gamma: float = 0.4, order: int = 2) -> Tensor:
    """mean over all B * B entries of (K_s - K_t)**2, K the Taylor series of the RBF kernel.

    `student`, `teacher`: vectors (B, d), widths may differ. Peng et al. 2019, equations 6 to
    9, with a mean over entries.
    """
    dims("B d", student=student, teacher=teacher)
    target = taylor_rbf(teacher.detach(), gamma, order)
    return F.mse_loss(taylor_rbf(student, gamma, order), target)
