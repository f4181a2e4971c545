"""The running mean of the student's weights that a recipe may ask for."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """A running mean of a network, moved after each step:
    `mean <- decay * mean + (1 - decay) * weights`.

    It begins with the first weights and is also a mean of the running statistics of batch
    normalisation, as timm's. Counts of batches are copied.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.mean = copy.deepcopy(network).eval().requires_grad_(False)
        self._move = get_ema_multi_avg_fn(decay)
        names = self.mean.state_dict(), network.state_dict()
        pairs = list(zip(*(tensors.values() for tensors in names), strict=True))
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]
        self._moved = [pair for pair in pairs if pair[0].is_floating_point()]

    def update(self) -> None:
        """Move the mean towards the weights of now."""
        for mean, count in self._counts:
            mean.copy_(count)
        means, values = ([pair[side] for pair in self._moved] for side in (0, 1))
        self._move(means, values, torch.empty(0))
