"""What a step costs, in ratios: each pair of times was taken in turns in one process.

    python benchmarks/steps.py [methods crop-flip live data cohort bf16 optimiser]

- methods: the step of every method over that of `ce`, frozen outputs from a table
- crop-flip: the same for methods on logits, with a table over all 162 views
- live: a cohort of 10 `kd` runs with one live teacher over 10 `ce` runs,
  resnet32x4 to resnet8x4, batch 64, crop and flip
- data: the share of a step that goes into making the batch and looking up its targets
- cohort: 4 runs in lockstep over the same 4 one after the other
- bf16: a step in bf16 over one in fp32
- optimiser: the share of a step of 10 runs that one fused optimiser over all would save

One thread and the settings of memory that workers have; the PyTorch tutorial's pair on
images of CIFAR-10's shape, batch 128, where nothing else is said.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from setting import Setting, as_a_worker, in_turns, median, noise, with_other_lr

from kdbench.methods import METHODS
from kdbench.training.context import TrainingContext, TrainingJob
from kdbench.training.cost import measure_costs
from kdbench.training.examples import examples_of
from kdbench.training.optim import make_optimizer
from kdbench.training.run import TrainingRun, batches_for

SHAPE = (3, 32, 32)
TUTORIAL = {"batch": 128, "epochs": 240}
#: Hyperparameters without which a table would be too large for this pair.
HPARAMS = {"ab": {"stages": "stage2_pre"}, "sp": {"stages": "stage2"}, "at": {"stages": "stage2"}}
ROUNDS = 7


class Lockstep:
    """Runs over the same few batches, together."""

    def __init__(
        self, jobs: Sequence[TrainingJob], context: TrainingContext, steps: int = 4
    ) -> None:
        self.runs = [TrainingRun(job, context) for job in jobs]
        for run in self.runs:
            run.prepare(lambda: False)
        examples = examples_of(jobs[0].spec, context)
        self.batches = batches_for(self.runs, context, examples, 0)[:steps]
        self()

    def __call__(self) -> float:
        """Seconds a step of all runs."""
        for run in self.runs:
            run.begin_epoch(len(self.batches))
        fresh = [batch.fresh() for batch in self.batches]
        started = time.perf_counter()
        for batch in fresh:
            for run in self.runs:
                run.step(batch)
            batch.release()
        return (time.perf_counter() - started) / len(fresh)


def relative(setting: Setting, keys: Sequence[str]) -> dict[str, float]:
    """Each method's step over that of `ce`: the median of several turns."""
    jobs = {}
    for key in keys:
        try:
            jobs[key] = setting.job(key, hparams=HPARAMS.get(key))
        except ValueError as reason:
            print(f"  {key}: left out, {reason}")
    rows = measure_costs(jobs, "ce", setting.context(), lambda: False, steps=6, turns=9)
    return {key: row["relative"] for key, row in rows.items()}


def methods(root: Path) -> None:
    setting = Setting(root, noise("cifar10", 10, 2000, SHAPE), "lightnn", "deepnn", TUTORIAL)
    show("step over ce, outputs from a table", relative(setting, sorted(METHODS)))


def crop_flip(root: Path) -> None:
    # What the teacher is does not matter once its table is there.
    setting = Setting(
        root, noise("cifar10", 10, 2000, SHAPE), "lightnn", "lightnn", TUTORIAL, "crop-flip"
    )
    keys = ["ce", "kd", "mse", "logit-mse", "dkd", "ban"]
    show("step over ce, crop and flip, a table of 162 views", relative(setting, keys))


def live(root: Path) -> None:
    recipe = {"optimizer": "sgd", "lr": 0.05, "batch": 64, "teacher_outputs": "live"}
    data = noise("cifar100", 100, 2000, SHAPE)
    setting = Setting(root, data, "resnet8x4", "resnet32x4", recipe, "crop-flip")
    works = {
        key: Lockstep(with_other_lr(setting.job(key), 10), setting.context(), steps=1)
        for key in ("ce", "kd")
    }
    found = in_turns(works, 5)
    ratios = [kd / ce for kd, ce in zip(found["kd"], found["ce"], strict=True)]
    show(
        "kd over ce, cohorts of 10, one live teacher, resnet32x4 to resnet8x4",
        {"kd": median(ratios)},
    )


def data(root: Path) -> None:
    rows = {}
    for augment in ("none", "crop-flip"):
        setting = Setting(
            root / augment,
            noise("cifar10", 10, 2000, SHAPE),
            "lightnn",
            "lightnn",
            TUTORIAL,
            augment,
        )
        context = setting.context()
        whole = Lockstep([setting.job("kd")], context)
        (run,) = whole.runs
        network, _ = run.networks.teachers["teacher"]

        def only_data(whole: Lockstep = whole, network=network) -> float:
            fresh = [batch.fresh() for batch in whole.batches]
            started = time.perf_counter()
            for batch in fresh:
                batch.images(0), batch.labels
                network.cached(batch.position, (), batch.view_ids[0])
                batch.release()
            return (time.perf_counter() - started) / len(fresh)

        found = in_turns({"data": only_data, "step": whole}, ROUNDS)
        shares = [d / s for d, s in zip(found["data"], found["step"], strict=True)]
        rows[augment] = median(shares)
    show("share of a kd step that makes the batch and looks up targets", rows)


def cohort(root: Path) -> None:
    setting = Setting(root, noise("cifar10", 10, 2000, SHAPE), "lightnn", "deepnn", TUTORIAL)
    context = setting.context()
    jobs = with_other_lr(setting.job("kd"), 4)
    together = Lockstep(jobs, context)
    alone = [Lockstep([job], context) for job in jobs]
    found = in_turns({"together": together, "alone": lambda: sum(each() for each in alone)}, ROUNDS)
    ratios = [t / a for t, a in zip(found["together"], found["alone"], strict=True)]
    show("4 kd runs in lockstep over the same one after the other, table", {"kd": median(ratios)})


def bf16(root: Path) -> None:
    rows = {}
    for student, recipe in (("lightnn", TUTORIAL), ("resnet8x4", {"batch": 64})):
        made = {}
        for precision in ("fp32", "bf16"):
            setting = Setting(
                root / student / precision,
                noise("cifar10", 10, 2000, SHAPE),
                student,
                "lightnn",
                {**recipe, "precision": precision},
            )
            made[precision] = Lockstep([setting.job("ce")], setting.context())
        found = in_turns(made, ROUNDS)
        rows[student] = median([b / f for b, f in zip(found["bf16"], found["fp32"], strict=True)])
    show("a ce step in bf16 over one in fp32", rows)


def optimiser(root: Path) -> None:
    setting = Setting(root, noise("cifar10", 10, 2000, SHAPE), "lightnn", "deepnn", TUTORIAL)
    context, jobs = setting.context(), with_other_lr(setting.job("ce"), 10)
    together = Lockstep(jobs, context)
    own = [run.optimizer for run in together.runs]
    weights = [p for o in own for group in o.param_groups for p in group["params"]]
    joint = make_optimizer(jobs[0].spec.recipe, weights, context.device)

    def updates(optimizers: Sequence[Any]) -> float:
        started = time.perf_counter()
        for each in optimizers:
            each.step()
        return time.perf_counter() - started

    timed = {"own": lambda: updates(own), "joint": lambda: updates([joint]), "step": together}
    found = in_turns(timed, 5 * ROUNDS)
    spared = median([o - j for o, j in zip(found["own"], found["joint"], strict=True)])
    rows = {
        "own optimisers": median(found["own"]) / median(found["step"]),
        "one saves": spared / median(found["step"]),
    }
    show("share of a step of 10 ce runs", rows)


def show(what: str, rows: Mapping[str, float]) -> None:
    print(what)
    for name, value in rows.items():
        print(f"  {name:16} {value:.3f}")
    sys.stdout.flush()


PARTS: dict[str, Callable[[Path], None]] = {
    "methods": methods, "crop-flip": crop_flip, "live": live, "data": data, "cohort": cohort,
    "bf16": bf16, "optimiser": optimiser,
}  # fmt: skip

if __name__ == "__main__":
    as_a_worker()
    for name in sys.argv[1:] or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[name](Path(folder))
