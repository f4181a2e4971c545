"""When memory runs out: which errors say so; and giving it back to the system."""

import ctypes
import gc
from collections.abc import Mapping
from contextlib import suppress

import torch


class CohortTooLarge(Exception):
    """Memory ran out for runs that train together; fewer of them may fit.

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
