"""How much memory a step takes; which errors say that it ran out; giving it back to the system."""

import ctypes
import gc
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


class CohortTooLarge(Exception):
    """Memory ran out for runs that train together; fewer of them may fit, or one where nothing
    of earlier runs is left.

    `kept` is the state of each after its last whole epoch (None: it had none yet).
    """

    def __init__(self, kept: Mapping[str, bytes | None]) -> None:
        self.kept = dict(kept)
        super().__init__(f"out of memory with {len(kept)} runs together")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the device or on the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # torch's CPU allocator raises a plain RuntimeError.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def peak_memory(call: Callable[[], Any], device: torch.device) -> int:
    """Most bytes of tensors on a device that `call` has alive beyond those before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    alive = most = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            alive += event.nbytes()
            most = max(most, alive)
    return most


def release() -> None:
    """Give back what nothing holds any more."""
    gc.collect()
    trim()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def trim() -> None:
    """Give freed memory of the host back to the system: glibc keeps the gaps between what
    is in use, and workers have it keep everything."""
    with suppress(AttributeError, OSError, TypeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
