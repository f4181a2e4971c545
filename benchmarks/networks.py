"""What the steps of networks cost on one core of a CPU: the rows to which `kdbench plan` is fitted.

    python benchmarks/networks.py [--turns 7]

Prints the core's rate of matrix products and copies, then for each network the seconds of a
training step of `ce`, or of a forward in evaluation mode. Networks are timed in turns, in seconds
of the processor's time, so that other work on the machine disturbs the ratios little.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from setting import Setting, as_a_worker, in_turns, median, noise

from kdbench import models
from kdbench.training.examples import examples_of
from kdbench.training.run import TrainingRun, batches_for

COLOUR, MNIST, DIGITS = ((3, 32, 32), 100), ((1, 28, 28), 10), ((1, 8, 8), 10)
#: Network, images and classes, batch, precision, and what is timed.
ROWS = [
    ("lightnn", COLOUR, 128, "fp32", "train"),
    ("lightnn", COLOUR, 128, "bf16", "train"),
    ("deepnn", COLOUR, 128, "fp32", "train"),
    ("deepnn", COLOUR, 128, "fp32", "forward"),
    ("resnet8x4", COLOUR, 64, "fp32", "train"),
    ("resnet8x4", COLOUR, 64, "bf16", "train"),
    ("resnet32x4", COLOUR, 64, "fp32", "train"),
    ("resnet32x4", COLOUR, 64, "fp32", "forward"),
    ("resnet20", COLOUR, 64, "fp32", "train"),
    ("wrn-16-2", COLOUR, 64, "fp32", "train"),
    ("vgg8", COLOUR, 64, "fp32", "train"),
    ("mobilenetv2", COLOUR, 64, "fp32", "train"),
    ("shufflenetv2", COLOUR, 64, "fp32", "train"),
    ("mnist-mlp", MNIST, 128, "fp32", "train"),
    ("mnist-cnn", MNIST, 128, "fp32", "train"),
    ("digits-cnn", DIGITS, 64, "fp32", "train"),
    ("digits-cnn-small", DIGITS, 64, "fp32", "train"),
]


def seconds_of(work: Callable[[], object], least: float = 0.1) -> float:
    """Of the processor, for one call; repeated until `least` seconds are over."""
    calls, started = 0, time.process_time()
    while (spent := time.process_time() - started) < least:
        work()
        calls += 1
    return spent / calls


def step_of(root: Path, row: tuple[str, tuple[tuple[int, int, int], int], int, str, str]):
    """A function that takes the step, or the forward, of a row."""
    name, (shape, classes), batch, precision, what = row
    if what == "forward":
        network = models.to_device(models.build(name, shape, classes), "cpu").eval()
        images = torch.randn(batch, *shape).contiguous(memory_format=torch.channels_last)

        def forward() -> None:
            with torch.no_grad():
                network(images)

        return forward
    data = noise("cifar10", classes, 2000, shape)
    recipe = {"batch": batch, "optimizer": "sgd", "lr": 0.01, "precision": precision}
    setting = Setting(root / f"{name}-{precision}", data, name, name, recipe)
    context, job = setting.context(), setting.job("ce")
    run = TrainingRun(job, context)
    batches = batches_for([run], context, examples_of(job.spec, context), 0)[:2]

    def step() -> None:
        run.begin_epoch(1)
        run.step(batches[0].fresh())

    return step


def rates(size: int = 1536, copied: int = 1 << 27) -> dict[str, float]:
    """FLOP/s of matrix products, and bytes/s of copies, read and written bytes counted."""
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        one, other = (torch.randn(size, size).to(dtype) for _ in range(2))
        works = {name: lambda one=one, other=other: seconds_of(lambda: one @ other)}
        found[name] = 2 * size**3 / min(in_turns(works, 5)[name])
    source, target = (torch.ones(copied, dtype=torch.uint8) for _ in range(2))
    copies = in_turns({"copy": lambda: seconds_of(lambda: target.copy_(source))}, 5)["copy"]
    return {**found, "copies": 2 * copied / min(copies)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=7)
    turns = parser.parse_args().turns
    for name, rate in rates().items():
        print(f"{name:8} {rate:.3g} per second", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        works = {row: step_of(Path(folder), row) for row in ROWS}
        for work in works.values():
            work()
        timed = {row: lambda work=work: seconds_of(work) for row, work in works.items()}
        found = in_turns(timed, turns)
    first = found[ROWS[0]]
    for row, seconds in found.items():
        ratio = median([s / f for s, f in zip(seconds, first, strict=True)])
        name, _, batch, precision, what = row
        line = f"{name:18} {batch:4} {precision} {what:8} {1e3 * median(seconds):9.3f} ms"
        print(f"{line}  {1e3 * min(seconds):9.3f} least  {ratio:8.3f} of the first", flush=True)


if __name__ == "__main__":
    as_a_worker()
    main()
