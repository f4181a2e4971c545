"""A student behind its normalisation, as it is exported."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

#: Images in one call of an exported network.
BATCH = 250
#: From images (N x channels x height x width, float32 in 0..1) to logits (N x classes).
Runner = Callable[[np.ndarray], np.ndarray]


class NormalisedModel(nn.Module):
    """Images (N x channels x height x width, float32 in 0..1) to logits (N x classes, float32).

    `network` takes images normalised by `mean` and `std` (per channel) and computes in `dtype`.
    It is copied where that is not float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        narrow = dtype != torch.float32
        self.network = copy.deepcopy(network).to(dtype) if narrow else network
        self.dtype, self.narrow = dtype, narrow
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        normalised = (images - self.mean) / self.std
        if not self.narrow:
            return self.network(normalised)
        return self.network(normalised.to(self.dtype)).float()


def runner_of(module: Callable[[Tensor], Tensor]) -> Runner:
    """A module of torch as a runner."""

    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(images)).numpy()

    return run


def run_all(runner: Runner, images: Tensor, scale: int) -> np.ndarray:
    """The logits (N x classes) of uint8 images (N x channels x height x width), of which the
    pixel value `scale` counts as 1."""
    parts = [
        runner(part.to(torch.float32).div(scale).contiguous().numpy())
        for part in images.split(BATCH)
    ]
    return np.concatenate(parts)
