"""Modules with normalisation that bring a student's feature to the shape of another."""

import torch
from torch import Tensor, nn

from kdbench.methods.base import Incompatible
from kdbench.methods.regressor import regressor


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the statistics of the batch alone, for maps and vectors.

    It keeps no running statistics, since most helper modules only ever see training batches;
    one that is part of a head is `running`, and uses them in eval mode. A single value per
    channel (one image, one position) gives the bias, where PyTorch raises.
    """

    def __init__(
        self, channels: int, eps: float = 1e-5, affine: bool = True, running: bool = False
    ) -> None:
        super().__init__(channels, eps, affine=affine, track_running_stats=running)

    def forward(self, x: Tensor) -> Tensor:
        of_batch = self.training or self.running_mean is None
        # The variance of a single value would make the running one NaN.
        single = of_batch and x.numel() == x.shape[1]
        mean, variance = (None, None) if single else (self.running_mean, self.running_var)
        cudnn = torch.backends.cudnn.enabled
        return torch.batch_norm(
            x, self.weight, self.bias, mean, variance, of_batch, 0.1, self.eps, cudnn
        )


def conv_bn(source: int, target: int, kernel: int = 1, *, running: bool = False) -> nn.Sequential:
    """A convolution without bias that keeps height and width, then batch normalisation."""
    conv = nn.Conv2d(source, target, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, BatchNorm(target, running=running))


def conv_bn_relu(source: tuple[int, ...], target: tuple[int, ...]) -> nn.Module:
    """The hint regressor of RepDistiller: a convolution, batch normalisation and ReLU.

    The convolution is 1x1 where the maps have one size and that of `regressor` where they do
    not; vectors get a linear layer alone. Raises `Incompatible` as `regressor` does.
    """
    if len(source) == 3 and source[1:] == target[1:]:
        return nn.Sequential(*conv_bn(source[0], target[0]), nn.ReLU())
    layer = regressor(source, target, bias=len(source) == 1)
    return layer if len(source) == 1 else nn.Sequential(layer, BatchNorm(target[0]), nn.ReLU())


def identity(source: tuple[int, ...], target: tuple[int, ...]) -> nn.Module:
    """No regressor. Raises `Incompatible` where the shapes differ."""
    if source != target:
        raise Incompatible(f"without a regressor {source} cannot be compared with {target}")
    return nn.Identity()


REGRESSORS = {"conv-bn-relu": conv_bn_relu, "conv": regressor, "none": identity}
"""What brings a student's feature to the teacher's shape, by the names of hyperparameters."""


def adapter(source: tuple[int, ...], target: tuple[int, ...]) -> nn.Module:
    """`regressor` where the shapes differ, and nothing where they agree."""
    return nn.Identity() if source == target else regressor(source, target)


class Orthogonal(nn.Module):
    """A trained linear map whose rows, or columns if those are fewer, stay orthonormal.

    Its matrix is a part of exp(W - W^T), W square and as wide as the wider side. The
    exponential is a Taylor series of A / 64 to the power 8, squared six times: PyTorch's reads
    values back, which a CUDA graph cannot capture.
    """

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.shape = source, target
        side = max(self.shape)
        self.weight = nn.Parameter(torch.randn(side, side) * side**-0.5)

    def matrix(self) -> Tensor:
        """source x target."""
        small = (self.weight - self.weight.T) / 64
        identity = torch.eye(len(small), dtype=small.dtype, device=small.device)
        power = identity
        for k in range(8, 0, -1):
            power = identity + small @ power / k
        for _ in range(6):
            power = power @ power
        source, target = self.shape
        return power[:source, :target]

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors @ self.matrix()
