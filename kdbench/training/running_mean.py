"""A running mean of a network that a method asks for."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


class RunningMean(AveragedModel):
    """`mean <- decay * mean + (1 - decay) * weights`, after each step (Tarvainen and Valpola 2017,
    section 2). It begins with the weights after the first step (`Ema`, a recipe's, with those
    before it), and is also a mean of the running statistics of batch normalisation.

    `decay` is between 0 and 1. The mean is on the device of `network`, which it copies.

    `AveragedModel` decides on the host whether a step is the first. A CUDA graph would keep that
    decision, so here the weight of the step is computed on the network's device.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network)
        self.n_averaged = self.n_averaged.to(next(network.parameters()).device)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move the mean towards the weights of now."""
        share = torch.full((), 1 - self.decay, device=self.n_averaged.device)
        share.masked_fill_(self.n_averaged == 0, 1.0)
        pairs = zip(self.module.state_dict().values(), model.state_dict().values(), strict=True)
        for mean, value in pairs:
            if mean.is_floating_point():
                mean.lerp_(value, share)
            else:  # counts of batches
                mean.copy_(value)
        self.n_averaged += 1
