"""What every method owes in training, whoever wrote it.

A run here is three epochs of three batches (the last one smaller), with live teachers and a
student with dropout and batch normalisation.
"""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.nn import functional as F

from kdbench.data import load
from kdbench.methods.base import Method
from kdbench.models import MODELS
from kdbench.records.store import Store
from kdbench.registry import Paper
from kdbench.testing.observe import ObservedRun, State, observe, storages
from kdbench.testing.report import Checks, require
from kdbench.testing.world import EPOCHS, NOISY, Noisy, Outcome, World, small
from kdbench.training.context import TrainingJob
from kdbench.training.run import TrainingRun
from kdbench.training.teachers import load_student

#: Steps of a whole run: 100 images to train on in batches of 40.
STEPS = 3 * EPOCHS


@contextmanager
def temporary_world() -> Iterator[World]:
    """130 digits and an empty store that is deleted afterwards; torch uses one thread."""
    threads, student = torch.get_num_threads(), MODELS.get(NOISY)
    torch.set_num_threads(1)
    MODELS[NOISY] = Noisy
    try:
        with tempfile.TemporaryDirectory(prefix="kdbench-testing-") as folder:
            yield World(small(load("digits")), Store(Path(folder)))
    finally:
        torch.set_num_threads(threads)
        if student is None:
            del MODELS[NOISY]


@dataclass(frozen=True)
class LabelsOnly(Method):
    """The student learns from the labels alone."""

    paper: ClassVar[Paper] = Paper("none1951none", "None, Nobody", "None", "None", 1951)

    def loss(self, out, batch, helpers, progress):
        return {"task": F.cross_entropy(out["student"].logits, batch.labels)}


class Raises(LabelsOnly):
    """Fails in the middle of the second epoch."""

    def loss(self, out, batch, helpers, progress):
        if progress.step > 0.5:
            raise RuntimeError("meant to fail")
        return super().loss(out, batch, helpers, progress)


class Diverges(LabelsOnly):
    """Its loss is not a number from the middle of the second epoch on."""

    def loss(self, out, batch, helpers, progress):
        terms = super().loss(out, batch, helpers, progress)
        return {"task": terms["task"] * float("nan" if progress.step > 0.5 else "1")}


def other_run(job: TrainingJob, kind: type[LabelsOnly]) -> TrainingJob:
    """A run that may train beside `job`: the same setting and seed with another method."""
    spec = replace(job.spec, method=kind.__name__, frozen_runs={}, frozen_epoch="last")
    return TrainingJob(spec, kind(), ())


class Runs:
    """The runs of one method that the checks below share, each trained when first asked for."""

    def __init__(self, world: World, key: str) -> None:
        self.world, self.key = world, key

    def job(self) -> TrainingJob:
        """A run whose frozen networks are asked live, so that they can be observed."""
        return self.world.job(self.key, recipe={"teacher_outputs": "live"})

    @cached_property
    def alone(self) -> tuple[ObservedRun, Outcome]:
        """The method's run by itself, observed. Raises `AssertionError` where it failed."""
        observed, outcome = observe(self.world, self.job())
        message = outcome.failed.error["message"] if outcome.failed else ""
        require(outcome.finished is not None, f"the run failed: {message}")
        return observed, outcome


def check_gradients(runs: Runs) -> None:
    """A gradient reaches every trained tensor and no other."""
    observed, _ = runs.alone
    require(observed.steps == STEPS, f"{observed.steps} steps in place of {STEPS}")
    _require_all_moved(observed)
    for role, network in observed.untrained().items():
        for name, parameter in network.named_parameters():
            free = parameter.grad is None and not parameter.requires_grad
            require(free, f"{role}.{name} is not trained and gets a gradient")


def check_optimizer(runs: Runs) -> None:
    """The optimiser holds just what is trained and moves all of it."""
    observed, outcome = runs.alone
    trainable = observed.trainable()
    held = [id(p) for group in observed.run.optimizer.param_groups for p in group["params"]]
    require(len(held) == len(set(held)), "the optimiser holds a parameter twice")
    require(set(held) == {id(p) for p in trainable.values()}, "it holds other parameters")
    size = sum(p.numel() for p in trainable.values())
    require(outcome.result["parameters"] == size, "the result counts other parameters")
    for name, parameter in trainable.items():
        role, _, inner = name.partition(".")
        same = torch.equal(parameter.detach(), observed.start[role][inner])
        require(not same, f"{name} is trained and does not move")


def check_frozen_networks(runs: Runs) -> None:
    """Frozen networks stay as they were to the last bit, as does the file behind them."""
    observed, _ = runs.alone
    run = observed.run
    for role, (teacher, cached) in run.networks.teachers.items():
        require(not cached, f"the {role} should be asked live here")
        now = dict(teacher.model.state_dict())
        require(same_state(now, observed.start[role]), f"the weights of the {role} have changed")
        run_id = run.spec.frozen_runs[role]
        kept = load_student(runs.world.store, run_id, "last", runs.world.data).state_dict()
        require(same_state(now, dict(kept)), f"the record of the {role} has changed")


def check_cached_outputs(runs: Runs) -> None:
    """A run on cached teacher outputs, where its method takes them, trains everything and leaves
    the teachers as they were."""
    job = runs.world.job(runs.key, data={"augment": "none"}, recipe={"epochs": 1})
    if not job.spec.frozen_runs:
        return
    observed, outcome = observe(runs.world, job)
    message = outcome.failed.error["message"] if outcome.failed else ""
    require(outcome.finished is not None, f"the run failed: {message}")
    for role, (teacher, cached) in observed.run.networks.teachers.items():
        live = observed.run.method.asks_live(role)
        require(cached != live, f"the outputs of the {role} are {'' if live else 'not '}cached")
        now = dict(teacher.model.state_dict())
        require(same_state(now, observed.start[role]), f"the weights of the {role} have changed")
    _require_all_moved(observed)


def check_modes(runs: Runs) -> None:
    """What is trained is in train mode on every batch; what is not is in eval mode and makes
    no graph but for gradients with respect to images."""
    observed, _ = runs.alone
    networks = observed.run.networks
    for role in networks.sources:
        modes, trained = observed.training_modes[role], role in networks.in_training()
        require(modes == {trained}, f"{role}: train mode {sorted(modes)}, expected {trained}")
    graph = observed.run.method.image_score() is not None
    for role in observed.untrained():
        allowed = graph or observed.needs_grad[role] == {False}
        require(allowed, f"the {role} makes a graph")


def check_storage(runs: Runs) -> None:
    """No two networks share tensors, and each keeps its own from the first step to the last."""
    observed, _ = runs.alone
    owner: dict[int, str] = {}
    for role, module in observed.modules().items():
        for address in storages(module):
            first = owner.setdefault(address, role)
            require(first == role, f"{role} and {first} share a tensor")
        kept = storages(module) == observed.start_storage[role]
        require(kept, f"the tensors of {role} were replaced: the optimiser holds the old ones")


def check_logged_terms(runs: Runs) -> None:
    """Every epoch logs finite terms that sum to the loss, and the weights of the objective."""
    observed, outcome = runs.alone
    weights = observed.run.method.loss_weights()
    require(outcome.result["loss_weights"] == weights, "the result has other loss weights")
    require(all(map(math.isfinite, weights.values())), f"loss weights are not finite: {weights}")
    epochs = [row["epoch"] for row in outcome.rows]
    require(epochs == list(range(1, EPOCHS + 1)), f"it logged the epochs {epochs}")
    for row in outcome.rows:
        terms = {k.removeprefix("train.loss."): v for k, v in row.items() if "train.loss." in k}
        require(terms.keys() == weights.keys(), f"epoch {row['epoch']} logs {sorted(terms)}")
        require(all(map(math.isfinite, terms.values())), f"terms are not finite: {terms}")
        close = math.isclose(sum(terms.values()), row["train.loss"], rel_tol=1e-5, abs_tol=1e-12)
        require(close, f"the terms {terms} do not sum to the loss {row['train.loss']}")
        missing = {"lr", "train.accuracy", "val.accuracy", "val.nll"} - row.keys()
        require(not missing, f"epoch {row['epoch']} lacks {sorted(missing)}")


def check_independence(runs: Runs) -> None:
    """The run beside one that raises and one that diverges is the same bit for bit, whatever
    the caller's random numbers are."""
    _, alone = runs.alone
    job = runs.job()
    raises, diverges = other_run(job, Raises), other_run(job, Diverges)
    torch.manual_seed(12345)
    outcomes = runs.world.train(raises, job, diverges)
    require_same(outcomes[job.spec.id], alone, "beside other runs")
    failed, ended = outcomes[raises.spec.id], outcomes[diverges.spec.id]
    require(failed.finished is None and failed.failed is not None, "a run that raises goes on")
    require(ended.result["state"] == "diverged", "a loss that is no number goes on")


def check_resume(runs: Runs) -> None:
    """Stopped in the second epoch and resumed, the run is as if never stopped."""
    _, whole = runs.alone
    job, asked = runs.job(), iter(range(100))
    # One step into the second epoch: that step is lost, the first epoch is kept.
    first = runs.world.train(job, stopping=lambda: next(asked) >= 4)[job.spec.id]
    kept = [row["epoch"] for row in first.rows]
    require(first.finished is None and kept == [1], f"the stop kept the epochs {kept}")
    require(first.checkpoint is not None, "the stop left no checkpoint")
    torch.manual_seed(999)
    second = runs.world.alone(replace(job, checkpoint=first.checkpoint))
    require_same(second, whole, "after a stop", first.metrics)


def check_first_weights(runs: Runs) -> None:
    """The student starts from the weights that every method of this seed starts from."""
    observed, _ = runs.alone
    other = TrainingRun(other_run(runs.job(), LabelsOnly), runs.world.context())
    same = same_state(
        observed.start["student"], dict(other.networks.trained["student"].state_dict())
    )
    require(same, "the student's first weights are not those of other methods")


TRAINING = (
    check_gradients,
    check_optimizer,
    check_frozen_networks,
    check_cached_outputs,
    check_modes,
    check_storage,
    check_logged_terms,
    check_independence,
    check_resume,
    check_first_weights,
)


def training_checks(world: World, key: str) -> Checks:
    """The checks of a method in training, by name."""
    runs = Runs(world, key)
    return {check.__name__.removeprefix("check_"): partial(check, runs) for check in TRAINING}


def same_state(one: State, other: State) -> bool:
    """Whether two state dicts are equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def require_same(
    outcome: Outcome, expected: Outcome, when: str, before: list[dict[str, Any]] | None = None
) -> None:
    """Two runs agree bit for bit; `before` are epochs that the first one did earlier."""
    message = outcome.failed.error["message"] if outcome.failed else ""
    require(outcome.finished is not None, f"{when} the run failed: {message}")
    require((before or []) + outcome.metrics == expected.metrics, f"{when} its epochs differ")
    require(outcome.weights == expected.weights, f"{when} its weights differ")
    require(outcome.result == expected.result, f"{when} its result differs")


def _require_all_moved(observed: ObservedRun) -> None:
    still = sorted(set(observed.trainable()) - observed.moved)
    require(not still, f"no gradient reaches {', '.join(still)}")
