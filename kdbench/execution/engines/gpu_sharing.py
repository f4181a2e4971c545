"""How many workers share each GPU, by a short measurement while they train.

A worker leaves its GPU idle while it scores, writes and captures steps, and so does one whose
kernels are shorter than the time to start them. Another worker fills that time. A GPU whose
kernels follow one another without a gap gains nothing by a second worker.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

#: Seconds between two looks at the GPUs.
INTERVAL = 0.5
#: Looks that are averaged: while a cohort's steps are captured the GPU is idle for some seconds.
LOOKS = 60
#: A GPU that is at work for a larger share of the time is left alone.
FULL = 0.7
#: More workers that raised the share by a smaller factor have not helped, and none follow.
LEAST_GAIN = 1.15
#: Twice the workers want at most twice the memory, of which they may fill so much.
MOST_MEMORY = 0.9
#: Workers that share a GPU at the most: more were never tried.
MAX_SHARING = 4


@dataclass(frozen=True)
class Load:
    """The share of the time in which a GPU runs a kernel, and the share of its memory in use."""

    busy: float
    memory: float


def load_of(gpu: int) -> Load:
    """What NVML says of a GPU, numbered as `CUDA_VISIBLE_DEVICES` has them. Raises errors of many
    kinds where the driver cannot say it."""
    from torch import cuda

    total = cuda.get_device_properties(gpu).total_memory
    return Load(cuda.utilization(gpu) / 100, cuda.device_memory_used(gpu) / total)


class GpuSharing:
    """Doubles the workers of `gpus` GPUs while these are idle for much of the time, up to one
    for each of `cores`, which a worker needs to keep its GPU at work."""

    def __init__(
        self,
        gpus: int,
        cores: int,
        load: Callable[[int], Load] = load_of,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.per_gpu = 1
        self._ended = False
        self._gpus, self._load, self._clock = gpus, load, clock
        self._most = min(MAX_SHARING, cores // gpus)
        self._looks: list[Load] = []
        self._next_look = 0.0
        self._busy_before = 0.0

    def look(self, all_busy: bool) -> str:
        """Look at the GPUs when it is time, where `all_busy` says that every worker has work; the
        message where `per_gpu` has grown, else nothing."""
        if self._ended or self._clock() < self._next_look:
            return ""
        self._next_look = self._clock() + INTERVAL
        if not all_busy:  # another part of the study follows: its load is another one
            self._looks.clear()
            self._busy_before = 0.0
            return ""
        try:
            loads = [self._load(gpu) for gpu in range(self._gpus)]
        except Exception:  # of NVML's many kinds: a part of a GPU (MIG) has no such figure
            self._ended = True
            return ""
        # Every GPU has as many workers, so the fullest decides.
        self._looks.append(Load(max(x.busy for x in loads), max(x.memory for x in loads)))
        return self._decide() if len(self._looks) == LOOKS else ""

    def _decide(self) -> str:
        busy = sum(look.busy for look in self._looks) / LOOKS
        memory = max(look.memory for look in self._looks)
        self._looks.clear()
        helped = busy >= LEAST_GAIN * self._busy_before
        fits = 2 * self.per_gpu <= self._most and 2 * memory <= MOST_MEMORY
        self._ended = not (helped and fits)
        if self._ended or busy > FULL:
            return ""
        self.per_gpu, self._busy_before = 2 * self.per_gpu, busy
        return (
            f"{self.per_gpu} workers share each GPU from now on: it was at work for "
            f"{100 * busy:.0f} % of the time (--workers-per-gpu sets their number)"
        )
