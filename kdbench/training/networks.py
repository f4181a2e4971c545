"""The networks of a run."""

from torch import nn
from torch.optim.swa_utils import AveragedModel


def _inner(network: nn.Module) -> nn.Module:
    return network.module if isinstance(network, AveragedModel) else network
