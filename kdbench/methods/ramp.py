"""The slow start of a term that two networks agree on."""

import torch
from torch import Tensor

from kdbench.methods.common import scalar


def gaussian_ramp(done: float | Tensor, share: float, like: Tensor) -> Tensor:
    """exp(-5 * (1 - min(done / share, 1))**2): 0.007 at first, 1 from `share` on (0: at once).

    Laine and Aila 2017, section 2.3.
    """
    if share == 0:
        return torch.ones((), dtype=like.dtype)
    left = 1 - (scalar(done, like) / share).clamp(max=1)
    return (-5 * left.square()).exp()
