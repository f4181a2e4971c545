"""The slow start of a term, and its slow end."""

import math

import torch
from torch import Tensor

from kdbench.methods.common import scalar


def linear_ramp(done: float | Tensor, share: float, like: Tensor) -> Tensor:
    """min(done / share, 1), as a 0-d tensor of the type of `like`: the weight of a term that
    warms up over `share` of the run when `done` of it is over; 1 where `share` is 0."""
    if share == 0:
        return torch.ones((), dtype=like.dtype)
    return (scalar(done, like) / share).clamp(max=1)


def gaussian_ramp(done: float | Tensor, share: float, like: Tensor) -> Tensor:
    """exp(-5 * (1 - min(done / share, 1))**2): 0.007 at first, 1 from `share` on (0: at once).

    Laine and Aila 2017, section 2.3.
    """
    left = 1 - linear_ramp(done, share, like)
    return (-5 * left.square()).exp()


def cosine_fall(done: float | Tensor, share: float, like: Tensor) -> Tensor:
    """1 until `share` of the run is done, then half a cosine from 1 to 0 at its end, as a 0-d
    tensor of the type of `like`."""
    rest = max(1 - share, 1e-9)
    fallen = ((scalar(done, like) - share) / rest).clamp(0, 1)
    return (1 + (math.pi * fallen).cos()) / 2
