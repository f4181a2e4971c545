"""Hyperparameters in tensors, so that a recorded step serves runs with other values of them.

A recording keeps the numbers that Python put into it. What tuning moves is therefore read
from 0-d tensors in a recorded step; double ones, so that arithmetic among hyperparameters has the digits
that it has on plain numbers.
"""

import copy
import weakref

import torch
from torch import Tensor

from kdbench.methods.base import Method
from kdbench.methods.types import Shapes


def shaping(method: Method, shapes: Shapes) -> set[str]:
    """The hyperparameters that a method reads to say what its run is made of: networks, layers, helpers.

    Their values are in modules that a recording holds, out of a tensor's reach. All hyperparameters,
    where that cannot be told: where the method has attributes beside its hyperparameters, its helpers
    hold it, or it cannot be asked a second time.
    """
    every = set(method.hparams())
    read: set[str] = set()
    try:

        class Watched(type(method)):  # type: ignore[misc]
            def __getattribute__(self, name: str) -> object:
                read.add(name)
                return super().__getattribute__(name)

        watched = copy.copy(method)
        object.__setattr__(watched, "__class__", Watched)
        with torch.random.fork_rng(devices=[]):
            helpers = watched.helpers(shapes)
            watched.networks()
            watched.layers()
    except Exception:
        return every
    alive = weakref.ref(watched)
    del watched
    if alive() or vars(method).keys() - every:
        return every
    del helpers
    return read & every


def in_tensors(
    method: Method, shapes: Shapes, device: torch.device
) -> tuple[Method, dict[str, Tensor]]:
    """`method` with the continuous hyperparameters that tuning moves, and that shape nothing, in 0-d
    float64 tensors on `device`, and these tensors by name."""
    fixed = shaping(method, shapes)
    tensors = {
        name: torch.tensor(getattr(method, name), dtype=torch.float64, device=device)
        for name in method.searched()
        if name not in fixed and isinstance(getattr(method, name), float)
    }
    # Not `dataclasses.replace`: it would check the values, and so read them back.
    reading = copy.copy(method)
    for name, tensor in tensors.items():
        object.__setattr__(reading, name, tensor)
    return reading, tensors
