"""Losses between gradients with respect to images, and what is differentiated."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kdbench.losses._checks import dims


def label_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Each example's logit of its label: (B, C), (B) -> (B)."""
    return logits.gather(1, labels[:, None]).squeeze(1)


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """Each example's cross-entropy with its label: (B, C), (B) -> (B)."""
    return F.cross_entropy(logits, labels, reduction="none")


def gradient_direction_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """mean over all entries of (J_s / |J_s|_2 - J_t / |J_t|_2)**2, a norm for each example.

    `student`, `teacher`: gradients with respect to the same images (B, C, H, W). Srinivas and
    Fleuret 2018, with a mean where the paper has a sum; a zero gradient stays zero.
    """
    dims("B C H W", student=student, teacher=teacher)
    j_s, j_t = (F.normalize(j.flatten(1), dim=1) for j in (student, teacher.detach()))
    return F.mse_loss(j_s, j_t)


def gradient_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """|J_s - J_t|_2 / 2, mean over the batch.

    `student`, `teacher`: gradients with respect to the same images (B, C, H, W). The
    gradient-based attention of Zagoruyko and Komodakis 2017, without its beta.
    """
    dims("B C H W", student=student, teacher=teacher)
    difference = (student - teacher.detach()).flatten(1)
    return torch.linalg.vector_norm(difference, dim=1).mean() / 2
