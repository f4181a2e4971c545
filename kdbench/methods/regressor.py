"""Modules that bring a student's feature to the shape of another."""

from torch import nn

from kdbench.methods.base import Incompatible


def regressor(source: tuple[int, ...], target: tuple[int, ...], bias: bool = True) -> nn.Module:
    """One layer from a feature of shape `source` to one of shape `target`.

    Vectors (D,): a linear layer. Maps (C, H, W): one convolution, its stride found from
    the sizes, without normalisation or activation, since what it predicts may be either
    side of an activation. Same size: 3x3 with padding 1, as in the PyTorch tutorial.
    Smaller target: 3x3 with stride 2; from a ratio of 3 on, kernel and stride are the
    ratio, so that no pixel is skipped. Larger target: the transposed convolution. Sizes
    that do not divide: a convolution without padding whose kernel makes up the difference.
    """
    if len(source) != len(target) or len(source) not in (1, 3):
        raise Incompatible(f"cannot map a feature of shape {source} to one of shape {target}")
    if len(source) == 1:
        return nn.Linear(source[0], target[0], bias=bias)
    sizes = list(zip(source[1:], target[1:], strict=True))
    if all(s >= t for s, t in sizes):
        kernel, stride, padding = zip(*(shrink(s, t) for s, t in sizes), strict=True)
        return nn.Conv2d(source[0], target[0], kernel, stride, padding, bias=bias)
    if all(s <= t for s, t in sizes):
        kernel, stride, padding = zip(*(grow(s, t) for s, t in sizes), strict=True)
        return nn.ConvTranspose2d(source[0], target[0], kernel, stride, padding, bias=bias)
    raise Incompatible(f"cannot map {source} to {target}: one side shrinks and the other grows")


def shrink(source: int, target: int) -> tuple[int, int, int]:
    """Kernel, stride and padding of a convolution from `source` pixels to `target`."""
    if source % target:
        return 1 + source - target, 1, 0
    ratio = source // target
    return (3, ratio, 1) if ratio <= 2 else (ratio, ratio, 0)


def grow(source: int, target: int) -> tuple[int, int, int]:
    """Kernel, stride and padding of a transposed convolution from `source` to `target`."""
    if target % source:
        return 1 + target - source, 1, 0
    ratio = target // source
    return (3, 1, 1) if ratio == 1 else (ratio + 2 * (ratio // 2), ratio, ratio // 2)
