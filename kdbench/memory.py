"""When memory runs out: which errors say so, and what a cohort leaves behind."""

import gc
from collections.abc import Mapping

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
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
