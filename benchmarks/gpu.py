"""A GPU's steps: captured against eager, throughput against cohort size, share of the card,
a teacher's table over all views.

    python benchmarks/gpu.py [--seconds 0.5] [--sizes 1,2,5,10,20] [--pairs resnet8x4:bf16,...]

Prints one JSON line a measurement, then a table. Times are of whole steps, data and teacher
outputs included, between two waits for the device. Images are noise: what a step costs does
not depend on them.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from setting import Setting, noise, with_other_lr
from torch import nn

from kdbench import models
from kdbench.training.batches import SharedBatch
from kdbench.training.context import TrainingContext, TrainingJob
from kdbench.training.cuda_graphs.graph import can_capture
from kdbench.training.cuda_graphs.pool import GraphPool
from kdbench.training.examples import examples_of
from kdbench.training.run import TrainingRun, batches_for

DEVICE = "cuda"
EPOCHS = 240
ROWS: list[dict[str, Any]] = []


def log(**what: object) -> None:
    ROWS.append(what)
    print(json.dumps(what), flush=True)


def matrix_rate(dtype: torch.dtype, size: int = 8192) -> float:
    """FLOP/s of a large matrix product on random values."""
    one, other = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
    return 2 * size**3 / seconds_of(lambda: one @ other)


def bandwidth(size: int = 1 << 32) -> float:
    """Bytes/s of a large copy on the device, read and written bytes counted."""
    one, other = (torch.empty(size, dtype=torch.uint8, device=DEVICE) for _ in range(2))
    return 2 * size / seconds_of(lambda: one.copy_(other))


def seconds_of(work: Callable[[], object], times: int = 10) -> float:
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(times):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / times


def values_moved(name: str, shape: tuple[int, int, int], classes: int) -> int:
    """Values that a training step of one image moves through memory if each layer reads and
    writes once: input and output forward; both gradients and the input again backward."""
    moved = 0

    def count(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal moved
        moved += 3 * inputs[0].numel() + 2 * output.numel()

    network = models.build(name, shape, classes)
    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(count)
    network(torch.zeros(2, *shape))
    return moved // 2


class Cohort:
    """Runs in lockstep over the batches of one epoch, round and round."""

    def __init__(
        self, jobs: list[TrainingJob], context: TrainingContext, captured: bool = True
    ) -> None:
        self.runs = [TrainingRun(job, context) for job in jobs]
        for run in self.runs:
            run.prepare(lambda: False)
        examples = examples_of(jobs[0].spec, context)
        # Whole batches only: the last one is smaller, and would be captured by itself.
        self.batches = batches_for(self.runs, context, examples, 0)[:-1]
        self.graphs = GraphPool() if captured else None
        torch.cuda.synchronize()
        started = time.perf_counter()
        self.steps(1)
        self.first = time.perf_counter() - started
        reasons = [self.graphs.why_not_captured(run) for run in self.runs] if self.graphs else []
        if failed := [reason for reason in reasons if reason]:
            raise RuntimeError(f"{len(failed)} of {len(self.runs)} not captured: {failed[0]}")

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


class Pair:
    """One pair of models at one precision, and what is measured of it."""

    def __init__(self, root: Path, name: str, precision: str, seconds: float) -> None:
        self.name, self.precision, self.seconds = name, precision, seconds
        sgd = {"optimizer": "sgd", "lr": 0.05, "weight_decay": 5e-4}
        if name == "lightnn":
            data, teacher = noise("cifar10", 10, 50_000, (3, 32, 32)), "deepnn"
            recipe, augment = {"batch": 128}, "none"
        else:
            data, teacher = noise("cifar100", 100, 50_000, (3, 32, 32)), "resnet32x4"
            recipe, augment = sgd, "crop-flip"
        recipe = {**recipe, "precision": precision, "teacher_outputs": "live"}
        self.made = Setting(root / name / precision, data, name, teacher, recipe, augment)
        self.batch = self.made.recipe["batch"]

    def cohort(self, count: int, method: str = "ce", **options: Any) -> Cohort:
        jobs = with_other_lr(self.made.job(method), count)
        return Cohort(jobs, self.made.context(DEVICE), **options)

    def per_member(self, count: int, method: str = "ce", **options: Any) -> float:
        """Seconds of a step of each of `count` runs."""
        torch.cuda.empty_cache()
        return self.cohort(count, method, **options).seconds_per_step(self.seconds) / count

    def report(self, what: str, count: int, spent: float, **more: object) -> None:
        steps = -(-len(self.made.data.labels) // self.batch) * EPOCHS
        log(
            model=self.name,
            precision=self.precision,
            what=what,
            runs=count,
            us_per_member=round(1e6 * spent, 1),
            images_per_s=round(self.batch / spent),
            s_per_240_epochs=round(spent * steps, 1),
            **more,
        )


def cohorts(pair: Pair, sizes: list[int], rates: dict[str, float]) -> None:
    """Captured steps against one eager run, and the share of the card."""
    data = pair.made.data
    flops = 6 * models.macs(pair.name, data.shape, data.classes) * pair.batch
    width = {"fp32": 4, "bf16": 2}[pair.precision]
    moved = values_moved(pair.name, data.shape, data.classes) * pair.batch * width
    pair.report("eager", 1, pair.per_member(1, captured=False))
    for count in sizes:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        cohort = pair.cohort(count)
        spent = cohort.seconds_per_step(pair.seconds) / count
        pair.report(
            "captured",
            count,
            spent,
            of_matrix_rate=round(flops / spent / rates[pair.precision], 3),
            of_bandwidth=round(moved / spent / rates["bandwidth"], 3),
            first_step_s=round(cohort.first, 1),
            gib=round(torch.cuda.max_memory_allocated() / 2**30, 2),
        )
        del cohort
    kd = pair.per_member(10, "kd")
    pair.report("captured, kd with a live teacher", 10, kd)


def table(root: Path) -> None:
    """A teacher's outputs over all 162 views, for few images."""
    images = 2000
    data = noise("cifar100", 100, images, (3, 32, 32))
    made = Setting(root / "table", data, "resnet8x4", "resnet32x4", {}, "crop-flip")
    made.recipe["teacher_outputs"] = "cache"
    context = made.context(DEVICE)
    run = TrainingRun(made.job("kd"), context)
    started = time.perf_counter()
    run.prepare(lambda: False)
    spent = time.perf_counter() - started
    log(what="table of resnet32x4", images=images, views=162, s_for_50000=round(spent * 25))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--sizes", default="1,2,5,10,20")
    parser.add_argument(
        "--pairs", default="lightnn:fp32,lightnn:bf16,resnet8x4:fp32,resnet8x4:bf16"
    )
    options = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False
    rates = {
        "fp32": matrix_rate(torch.float32),
        "bf16": matrix_rate(torch.bfloat16),
        "bandwidth": bandwidth(),
    }
    torch.cuda.empty_cache()
    log(
        card=torch.cuda.get_device_name(),
        torch=torch.__version__,
        tera_per_s={k: round(v / 1e12, 2) for k, v in rates.items()},
        can_capture=can_capture(torch.device(DEVICE)),
    )
    sizes = [int(size) for size in options.sizes.split(",")]
    with tempfile.TemporaryDirectory() as root:
        for pair in options.pairs.split(","):
            cohorts(Pair(Path(root), *pair.split(":"), options.seconds), sizes, rates)
        table(Path(root))
    for row in ROWS:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
