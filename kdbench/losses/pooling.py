"""Bringing maps of different sizes to one size.

Where the sizes divide, pooling is a reshape and a reduction rather than PyTorch's
adaptive pooling, whose backward pass on CUDA adds in no fixed order: with the reshape
two equal runs stay equal.
"""

from torch import Tensor
from torch.nn import functional as F


def smaller_size(*maps: Tensor) -> tuple[int, int]:
    """The least height and the least width among feature maps (B, c, h, w)."""
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
