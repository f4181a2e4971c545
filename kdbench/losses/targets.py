"""Soft targets made from several networks. Detached, as every target is."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kdbench.losses import _checks as checks


def log_mean_probs(logits: Sequence[Tensor], temperature: float | Tensor = 1.0) -> Tensor:
    """log of (1 / n) sum_i softmax(z_i / T): log-probabilities (B, C) of n members.

    `logits`: n tensors (B, C). The arithmetic mean of the tempered probabilities, not
    of the logits. You et al. 2017, equation 2.
    """
    checks.dims("B C", **{f"member {i}": z for i, z in enumerate(logits, 1)})
    logs = torch.stack([F.log_softmax(z.detach() / temperature, dim=1) for z in logits])
    return torch.logsumexp(logs, dim=0) - math.log(len(logits))


def min_logit(logits: Sequence[Tensor], target: Tensor) -> Tensor:
    """min over networks i of (z_i - z_i[y]), class by class: logits (B, C).

    `logits`: tensors (B, C); `target`: labels y (B). After the shift each network's true
    class has logit 0, so the minimum keeps for every other class the network that finds
    it least likely. Guo et al. 2020 (KDCL-MinLogit).
    """
    checks.dims("B C", **{f"network {i}": z for i, z in enumerate(logits, 1)})
    checks.labels(logits[0], target)
    index = target.unsqueeze(1)
    shifted = [z.detach() - z.detach().gather(1, index) for z in logits]
    return torch.stack(shifted).amin(dim=0)
