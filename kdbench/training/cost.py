"""What a method costs: measured alone, in turns with a reference, in one process.

Timings of a run among others on busy cores say nothing. Here each method takes a few
steps, then the reference; the ratio is the median over turns.
"""

import statistics
import time
from collections.abc import Callable, Mapping

import torch

from kdbench.training.context import TrainingContext, TrainingJob
from kdbench.training.examples import examples_of
from kdbench.training.memory import peak_memory
from kdbench.training.run import TrainingRun, batches_for


def measure_costs(
    jobs: Mapping[str, TrainingJob],
    reference: str,
    context: TrainingContext,
    stopping: Callable[[], bool],
    steps: int = 4,
    turns: int = 5,
) -> dict[str, dict[str, float]]:
    """Cost of each label: `relative` (its step over the reference's), `seconds_per_step`,
    `steps` (how many a whole run takes), and `peak_mb` (most tensor memory alive within one
    step, in MiB).

    `steps` a turn, and `turns` a method: with so few, ratios settle within a few per cent.
    """
    against = _Runner(jobs[reference], context, steps)
    rows: dict[str, dict[str, float]] = {}
    for label, job in jobs.items():
        if stopping():
            return {}
        runner = against if label == reference else _Runner(job, context, steps)
        seconds, ratios = [], []
        for _ in range(turns):
            base = against.turn()
            spent = base if runner is against else runner.turn()
            seconds.append(spent / len(runner.batches))
            ratios.append(spent / base)
        rows[label] = {
            "relative": statistics.median(ratios),
            "seconds_per_step": statistics.median(seconds),
            "steps": runner.steps,
            "peak_mb": runner.peak() / 2**20,
        }
    return rows


class _Runner:
    """One method alone, over the same few batches again and again."""

    def __init__(self, job: TrainingJob, context: TrainingContext, steps: int) -> None:
        from_start = TrainingJob(job.spec, job.method, job.layers)
        self.run = TrainingRun(from_start, context)
        examples = examples_of(job.spec, context)
        epoch = batches_for([self.run], context, examples, 0)
        self.steps = job.spec.recipe.epochs * len(epoch)
        self.batches = epoch[:steps]
        self.device = context.device
        self.turn()

    def turn(self) -> float:
        """Seconds of all batches' steps, data and teacher outputs included."""
        self.run.begin_epoch(len(self.batches))
        # Fresh batch objects: a batch makes its images once, for all runs.
        fresh = [b.fresh() for b in self.batches]
        self._wait()
        started = time.perf_counter()
        for batch in fresh:
            self.run.step(batch)
        self._wait()
        return time.perf_counter() - started

    def peak(self) -> int:
        """Most bytes of tensors that one step has alive beyond those before it."""
        batch = self.batches[0].fresh()
        self.run.begin_epoch(1)
        return peak_memory(lambda: self.run.step(batch), self.device)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
