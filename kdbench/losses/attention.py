"""Attention maps (Zagoruyko and Komodakis 2017)."""

from torch import Tensor
from torch.nn import functional as F

from kdbench.losses._checks import dims
from kdbench.losses.pooling import pool, smaller_size


def attention(maps: Tensor) -> Tensor:
    """Q / |Q|_2 with Q = mean over channels of f**2, flattened: (B, C, H, W) -> (B, H * W)."""
    return F.normalize(maps.square().mean(dim=1).flatten(1), dim=1)


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """mean over B and positions of (Q_s / |Q_s| - Q_t / |Q_t|)**2, for one stage.

    `student`, `teacher`: feature maps (B, c, h, w); channels may differ, and the larger
    map is average-pooled to the smaller. The mean square of the authors' code; equation 2
    of the paper has the norm of the difference instead.
    """
    dims("B c h w", student=student, teacher=teacher)
    size = smaller_size(student, teacher)
    ours, theirs = attention(pool(student, size)), attention(pool(teacher.detach(), size))
    return F.mse_loss(ours, theirs)
