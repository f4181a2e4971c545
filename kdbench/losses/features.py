"""Losses that compare features entry by entry."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kdbench.losses._checks import dims


def feature_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """mean over all entries of (f_s - f_t)**2; both features have the same shape (B, ...).

    Romero et al. 2015, equation 3, with a mean where the paper has half a sum.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"student has shape {tuple(student.shape)}, teacher {tuple(teacher.shape)}: "
            "one of them needs a regressor"
        )
    return F.mse_loss(student, teacher.detach())


def n_to_one(expanded: Tensor, teacher: Tensor) -> Tensor:
    """sum over n of the mean of (s_n - f_t)**2, where s_1 .. s_N are the channels of `expanded`
    (B, N * C, H, W) in groups of C; `teacher` is (B, C, H, W). Liu et al. 2023."""
    b, channels, h, w = teacher.shape
    segments = expanded.reshape(b, -1, channels, h, w)
    target = teacher.detach().unsqueeze(1).expand_as(segments)
    return segments.shape[1] * F.mse_loss(segments, target)


def feature_norm(student: Tensor, teacher: Tensor) -> Tensor:
    """|f_s - f_t|_2 over all entries of the batch; both have the same shape (B, ...).

    The feature term of the authors' code of Zhang, Bao and Ma, TPAMI 2021. Where both are equal
    the gradient is 0.
    """
    if student.shape != teacher.shape:
        raise ValueError(f"shapes differ: {tuple(student.shape)} and {tuple(teacher.shape)}")
    return torch.linalg.vector_norm(student - teacher.detach())


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - <h_s, h_t> / (|h_s| |h_t|), mean over the batch.

    `student`, `teacher`: vectors (B, d); where the widths differ, the wider one is
    averaged over neighbouring entries to the width of the other, as in the PyTorch
    tutorial. PyTorch adds 1e-12 to the squared norms, so zero rows are safe.
    """
    dims("B d", student=student, teacher=teacher)
    width = min(student.shape[1], teacher.shape[1])
    h_s, h_t = pool_width(student, width), pool_width(teacher.detach(), width)
    similar = torch.ones(len(h_s), dtype=h_s.dtype, device=h_s.device)
    return F.cosine_embedding_loss(h_s, h_t, similar)


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
    q_s, q_t = attention(pool(student, size)), attention(pool(teacher.detach(), size))
    return F.mse_loss(q_s, q_t)


def activation_boundary(student: Tensor, teacher: Tensor, margin: float | Tensor = 1.0) -> Tensor:
    """sum over neurons of relu(m + s)**2 where the teacher is off (t <= 0) and
    relu(m - s)**2 where it is on (t > 0); mean over the batch.

    `student`: pre-activations s (B, C, H, W), after the connector; `teacher`:
    pre-activations t of the same shape; `margin`: m. Equation 6 of the paper.
    """
    dims("B C H W", student=student, teacher=teacher)
    sign = (teacher.detach() > 0).to(student.dtype) * 2 - 1
    return F.relu(margin - sign * student).square().flatten(1).sum(dim=1).mean()


def smaller_size(*maps: Tensor) -> tuple[int, int]:
    """The smallest height and the smallest width among feature maps (B, c, h, w)."""
    return min(m.shape[2] for m in maps), min(m.shape[3] for m in maps)


def pool(maps: Tensor, size: tuple[int, int], how: str = "mean") -> Tensor:
    """Feature maps (B, C, H, W) pooled to (B, C, *size), by `mean` or by `max`."""
    batch, channels, height, width = maps.shape
    if (height, width) == size:
        return maps
    if height % size[0] == 0 and width % size[1] == 0:
        cells = maps.reshape(batch, channels, size[0], height // size[0], size[1], width // size[1])
        return cells.mean(dim=(3, 5)) if how == "mean" else cells.amax(dim=(3, 5))
    adaptive = F.adaptive_avg_pool2d if how == "mean" else F.adaptive_max_pool2d
    return adaptive(maps, size)


def pool_width(vectors: Tensor, width: int) -> Tensor:
    """Vectors (B, D) averaged over neighbouring entries to (B, width)."""
    batch, wide = vectors.shape
    if wide == width:
        return vectors
    if wide % width == 0:
        return vectors.reshape(batch, width, wide // width).mean(dim=2)
    return F.adaptive_avg_pool1d(vectors.unsqueeze(1), width).squeeze(1)
