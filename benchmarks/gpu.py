"""A GPU's steps: captured against eager, throughput against cohort size, share of the card.

    python benchmarks/gpu.py [--seconds 1.0] [--sizes 1,2,4,8,16,32]

Prints one JSON line a measurement. Times are of whole steps, data and teacher outputs
included, between two waits for the device.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from setting import Setting, noise, with_other_lr

from kdbench import models
from kdbench.training.batches import SharedBatch, training_positions
from kdbench.training.context import TrainingContext, TrainingJob
from kdbench.training.cuda_graphs.pool import GraphPool
from kdbench.training.run import TrainingRun, batches_for

DEVICE = "cuda"


def log(**what: object) -> None:
    print(json.dumps(what), flush=True)


def matrix_rate(dtype: torch.dtype, size: int = 8192) -> float:
    """FLOP/s of a large matrix product on random values."""
    one, other = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
    for _ in range(3):
        one @ other
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(10):
        one @ other
    torch.cuda.synchronize()
    return 10 * 2 * size**3 / (time.perf_counter() - started)


class Cohort:
    """Runs in lockstep over the batches of one epoch, round and round."""

    def __init__(self, jobs: list[TrainingJob], context: TrainingContext, captured: bool) -> None:
        self.runs = [TrainingRun(job, context) for job in jobs]
        for run in self.runs:
            run.prepare(lambda: False)
        fit, _ = training_positions(jobs[0].spec, context)
        # Whole batches only: the last one is smaller, and would be captured by itself.
        self.batches = batches_for(self.runs, context, fit, 0)[:-1]
        self.graphs = GraphPool() if captured else None
        torch.cuda.synchronize()
        started = time.perf_counter()
        self.steps(1)
        self.first = time.perf_counter() - started

    def steps(self, count: int) -> None:
        for run in self.runs:
            run.begin_epoch(len(self.batches))
        for n in range(count):
            self._step(self.batches[n % len(self.batches)])
        torch.cuda.synchronize()

    def _step(self, batch: SharedBatch) -> None:
        if self.graphs is None:
            for run in self.runs:
                run.step(batch)
            batch.release()
        else:
            self.graphs.step(batch, self.runs, guarded)

    def seconds_per_step(self, budget: float) -> float:
        """Of one step of the whole cohort."""
        self.steps(5)
        count, spent = 5, 0.0
        while spent < budget / 2:
            count = min(2 * count, len(self.batches))
            started = time.perf_counter()
            self.steps(count)
            spent = time.perf_counter() - started
            if count == len(self.batches):
                break
        return spent / count


def guarded(_: str, act: Callable[[TrainingRun], object], run: TrainingRun) -> bool:
    act(run)
    return True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--sizes", default="1,2,4,8,16,32")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    torch.backends.cudnn.allow_tf32 = False
    rates = {"fp32": matrix_rate(torch.float32), "bf16": matrix_rate(torch.bfloat16)}
    log(
        card=torch.cuda.get_device_name(),
        torch=torch.__version__,
        matrix_tflops={k: round(v / 1e12, 1) for k, v in rates.items()},
    )
    cifar10 = noise("cifar10", 10, 50_000, (3, 32, 32))
    cifar100 = noise("cifar100", 100, 50_000, (3, 32, 32))
    sgd = {"optimizer": "sgd", "lr": 0.05, "weight_decay": 5e-4}
    with tempfile.TemporaryDirectory() as root:
        for name, data, student, teacher, recipe, augment in (
            ("lightnn", cifar10, "lightnn", "deepnn", {"batch": 128, "epochs": 10}, "none"),
            ("resnet8x4", cifar100, "resnet8x4", "resnet32x4", sgd, "crop-flip"),
        ):
            flops = 6 * models.macs(student, data.shape, data.classes)
            for precision in ("fp32", "bf16"):
                made = Setting(
                    Path(root, name),
                    data,
                    student,
                    teacher,
                    {**recipe, "precision": precision, "teacher_outputs": "live"},
                    augment,
                )
                size = made.recipe["batch"]
                jobs = with_other_lr(made.job("ce"), max(*sizes, 10))
                eager = Cohort(jobs[:1], made.context(DEVICE), captured=False).seconds_per_step(
                    options.seconds
                )
                for count in sizes:
                    cohort = Cohort(jobs[:count], made.context(DEVICE), captured=True)
                    spent = cohort.seconds_per_step(options.seconds)
                    seconds = spent / count * len(cohort.batches) * made.recipe["epochs"]
                    log(
                        model=name,
                        precision=precision,
                        runs=count,
                        eager_alone_us=round(1e6 * eager),
                        step_us=round(1e6 * spent),
                        us_per_member=round(1e6 * spent / count, 1),
                        against_eager=round(eager * count / spent, 2),
                        first_step_s=round(cohort.first, 3),
                        seconds_per_run=round(seconds, 1),
                        share_of_matrix_rate=round(
                            flops * size * count / spent / rates[precision], 4
                        ),
                        gib=round(torch.cuda.max_memory_allocated() / 2**30, 2),
                    )
                    del cohort
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats()
                kd = with_other_lr(made.job("kd"), 10)
                ce, live = (
                    Cohort(each, made.context(DEVICE), captured=True).seconds_per_step(
                        options.seconds
                    )
                    for each in (jobs[:10], kd)
                )
                log(
                    model=name,
                    precision=precision,
                    live_teacher_kd_over_ce_cohort_of_10=round(live / ce, 3),
                )


if __name__ == "__main__":
    main()
