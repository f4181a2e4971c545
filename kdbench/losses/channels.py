"""Losses that compare the channels of a feature map with one another."""

from torch import Tensor

from kdbench.losses._checks import dims
from kdbench.losses.affinities import unit
from kdbench.losses.features import pool, smaller_size


def selectivity(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared maximum mean discrepancy between the channels of two maps, mean over the batch.

    mean k(t, t') + mean k(s, s') - 2 mean k(s, t) with k(a, b) = <a, b>**2 over all pairs of
    channels, each channel flattened and divided by its L2 norm.

    `student`, `teacher`: feature maps (B, c, h, w); channels may differ, and the larger map
    is average-pooled to the smaller. Huang and Wang 2017, equation 5 with the polynomial
    kernel of section 4.2.
    """
    dims("B c h w", student=student, teacher=teacher)
    size = smaller_size(student, teacher)
    maps = (pool(student, size), pool(teacher.detach(), size))
    s, t = (unit(m.flatten(2)) for m in maps)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.transpose(1, 2)).square().mean()

    return kernel(t, t) + kernel(s, s) - 2 * kernel(s, t)


def channel_correlation(student: Tensor, teacher: Tensor) -> Tensor:
    """|G_s - G_t|_F**2 / C, mean over the batch, with G = F F^T, each row divided by its L2 norm.

    `student`, `teacher`: feature maps (B, C, h, w), flattened to F (B, C, h * w); sizes may
    differ. Liu et al. 2021, equations 3 and 4 with the authors' normalisation.
    """
    dims("B C h w", student=student, teacher=teacher)
    maps = (m.flatten(2) for m in (student, teacher.detach()))
    g_s, g_t = (unit(f @ f.transpose(1, 2)) for f in maps)
    return (g_s - g_t).square().sum(dim=2).mean()
