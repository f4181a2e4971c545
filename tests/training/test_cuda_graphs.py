"""Captured steps are the steps themselves: same numbers, alone and beside other runs."""

import dataclasses
from typing import ClassVar

import pytest
import torch

from kdbench.methods import BUILTIN, METHODS
from kdbench.methods.types import Progress
from kdbench.training.cuda_graphs import graph as graphs
from kdbench.training.cuda_graphs import pool
from kdbench.training.cuda_graphs.pool import GraphPool
from kdbench.training.cuda_graphs.step import GraphedStep
from kdbench.training.examples import examples_of
from kdbench.training.memory import CohortTooLarge
from kdbench.training.run import TrainingRun, batches_for

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=CUDA)]
#: On a GPU two trainings of one run may differ by the order of atomic additions.
LOSS_TOLERANCE = 1e-3
#: So may their accuracies, in the mean over paired seeds: by this many of 30 held-out images.
ACCURACY_TOLERANCE = 0.5


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def close(one, other, device: str) -> bool:
    """Whether two outcomes are one: bit for bit on the CPU, to rounding on a GPU."""
    assert one.failed is None, one.failed
    assert other.failed is None, other.failed
    if device == "cpu":
        return one.weights == other.weights and one.metrics == other.metrics
    return all(
        a["train.loss"] == pytest.approx(b["train.loss"], rel=LOSS_TOLERANCE)
        for a, b in zip(one.rows, other.rows, strict=True)
    )


def captured(world, *jobs, device="cpu", graphs=None, **options):
    """What each run reported when its steps were captured."""
    return world.train(
        *jobs, context=world.context(device), graphs=graphs or GraphPool(), **options
    )


def eager(world, job, device="cpu"):
    return world.train(job, context=world.context(device))[job.spec.id]


#: Every source of networks, helpers with and without buffers, phases and two sizes of teacher.
FAMILIES = {"ce", "kd", "ab", "dml", "ps-kd", "byot", "ensemble"}
EACH = [
    pytest.param(key, marks=() if key in FAMILIES else pytest.mark.long) for key in sorted(BUILTIN)
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("key", EACH)
def test_captured_steps_are_the_eager_ones(world, key, device):
    try:
        job = world.job(key)
    except AssertionError as error:
        pytest.skip(f"{key} cannot serve this pair: {error}")
    outcome = captured(world, job, device=device)[job.spec.id]
    assert outcome.result.get("why_not_captured") is None
    assert close(outcome, eager(world, job, device), device)


@CUDA
@pytest.mark.parametrize("key", ["ce", "kd", "dml"])
def test_captured_runs_are_as_accurate_as_eager_ones(world, key):
    differences = []
    for seed in range(8):
        job = world.job(key, seed)
        pair = captured(world, job, device="cuda")[job.spec.id], eager(world, job, "cuda")
        one, other = (each.result["last"]["val.accuracy"] for each in pair)
        differences.append((one - other) * job.spec.data.validation)
    assert abs(sum(differences) / len(differences)) <= ACCURACY_TOLERANCE


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("way", ["cache", "live"])
def test_a_captured_run_does_not_depend_on_the_other_runs(world, device, way):
    keys = ("kd", "ce", "hint", "dml")
    jobs = [world.job(key, recipe={"teacher_outputs": way}) for key in keys]
    together = captured(world, *jobs, device=device)
    for job in jobs:
        assert close(together[job.spec.id], eager(world, job, device), device)


@pytest.mark.parametrize("device", DEVICES)
def test_a_captured_run_goes_on_where_it_was_stopped(world, device):
    job = world.job("kd", recipe={"optimizer": "sgd", "momentum": 0.9})
    whole = captured(world, job, device=device)[job.spec.id]
    steps = []

    def after_an_epoch() -> bool:
        steps.append(1)
        return len(steps) > 5

    first = captured(world, job, device=device, stopping=after_an_epoch)[job.spec.id]
    assert first.finished is None
    assert first.checkpoint is not None
    job = dataclasses.replace(job, checkpoint=first.checkpoint)
    rest = captured(world, job, device=device)[job.spec.id]
    rest.rows = first.rows + rest.rows
    assert close(rest, whole, device)


@pytest.mark.parametrize("device", DEVICES)
def test_one_pool_serves_one_cohort_after_another(world, device):
    pool = GraphPool()
    for seed, optimizer in enumerate(("sgd", "adam")):
        recipe = {"optimizer": optimizer, "momentum": 0.9}
        jobs = [world.job(key, seed, recipe=recipe) for key in ("kd", "ce")]
        together = captured(world, *jobs, device=device, graphs=pool)
        for job in jobs:
            assert close(together[job.spec.id], eager(world, job, device), device)


def graphed(world, device: str, key: str = "kd") -> tuple[TrainingRun, GraphedStep, list]:
    context, job = world.context(device), world.job(key)
    run = TrainingRun(job, context)
    examples = examples_of(job.spec, context)
    batches = batches_for([run], context, examples, 0)
    run.begin_epoch(len(batches))
    return run, GraphedStep([run], batches[0]), batches


@pytest.mark.parametrize("device", DEVICES)
def test_a_capture_leaves_the_run_as_it_was(world, device):
    fresh = TrainingRun(world.job("kd"), world.context(device)).networks.trained["student"]
    run, _, _ = graphed(world, device)
    for name, value in run.networks.trained["student"].state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name]), name
    for state in run.optimizer.state.values():
        assert all(not value.any() for value in state.values())
    assert not run.correct
    assert not any(run.loss_sums.values())


@pytest.mark.parametrize("device", DEVICES)
def test_what_changes_from_step_to_step_is_read_anew(world, device):
    _, steps, batches = graphed(world, device)
    steps.load(batches[1])
    batch = steps.batch
    assert torch.equal(batch.position, batches[1].position)
    assert torch.equal(batch.labels, batches[1].labels)
    assert torch.equal(batch.images(0), batches[1].images(0))
    for field in dataclasses.fields(Progress):
        expected = getattr(batches[1].progress, field.name)
        assert float(getattr(batch.progress, field.name)) == expected


@CUDA
def test_a_gpu_can_capture():
    assert graphs.can_capture(torch.device("cuda"))


@CUDA
def test_a_step_that_cannot_be_captured_is_taken_eagerly(world):
    class Reads(METHODS["kd"]):
        def loss(self, out, batch, helpers, progress):
            float(out["student"].logits.sum())  # waits for the device
            return super().loss(out, batch, helpers, progress)

    job = world.job("kd")
    odd = dataclasses.replace(job, method=Reads())
    outcome = captured(world, odd, device="cuda")[job.spec.id]
    assert close(outcome, eager(world, job, "cuda"), "cuda")
    assert outcome.result["why_not_captured"]


def test_each_size_of_batch_is_captured_once(world, monkeypatch):
    sizes = []

    class Counted(GraphedStep):
        def __init__(self, runs, batch):
            sizes.append(len(batch))
            super().__init__(runs, batch)

    monkeypatch.setattr(pool, "GraphedStep", Counted)
    job = world.job("kd")
    examples = examples_of(job.spec, world.context())
    captured(world, job)
    assert sorted(sizes) == sorted(
        {job.spec.recipe.batch, len(examples.labelled) % job.spec.recipe.batch} - {0}
    )


@pytest.mark.parametrize("device", DEVICES)
def test_a_method_that_raises_fails_alone_when_captured(world, device):
    class Raises(METHODS["kd"]):
        def loss(self, out, batch, helpers, progress):
            raise ArithmeticError("no such loss")

    good, bad = world.job("ce"), dataclasses.replace(world.job("kd"), method=Raises())
    outcomes = captured(world, good, bad, device=device)
    assert "no such loss" in outcomes[bad.spec.id].failed.error["message"]
    assert close(outcomes[good.spec.id], eager(world, good, device), device)


@pytest.mark.parametrize("at", [1, 4])  # what is shared; the last of three runs
@pytest.mark.parametrize("out_of_memory", [False, True])
def test_after_a_capture_that_failed_all_steps_are_eager(world, monkeypatch, out_of_memory, at):
    """Other graphs may be damaged; also when memory ran out during a capture."""
    capture = graphs.CudaGraph.capture
    captures = []

    def fails(self, work, generators=()):
        captures.append(work)
        if len(captures) == at:
            cause = torch.OutOfMemoryError("full") if out_of_memory else RuntimeError("no")
            raise graphs.CaptureFailed("it failed") from cause
        capture(self, work, generators)

    monkeypatch.setattr(graphs.CudaGraph, "capture", fails)
    pool = GraphPool()
    jobs = [world.job(key) for key in ("ce", "kd", "mse")]
    if out_of_memory:
        with pytest.raises(CohortTooLarge):
            captured(world, *jobs, graphs=pool)
    for cohort in (jobs, jobs[:1]):
        together = captured(world, *cohort, graphs=pool)
        for job in cohort:
            outcome = together[job.spec.id]
            assert close(outcome, world.alone(job), "cpu")
            assert outcome.result["why_not_captured"] == "it failed"
    assert len(captures) == at


class Apart(METHODS["dml"]):
    """The peer looks at a view of its own."""

    views: ClassVar = {"peer1": 1}


@pytest.mark.parametrize(("way", "key", "kind"), [("live", "hint", None), ("auto", "dml", Apart)])
def test_what_the_runs_share_is_captured_for_all_of_them(world, way, key, kind):
    """A layer of the live teacher, a second view."""
    jobs = [world.job(k, recipe={"teacher_outputs": way}) for k in ("kd", key)]
    if kind:
        jobs[1] = dataclasses.replace(jobs[1], method=kind())
    together = captured(world, *jobs)
    for job in jobs:
        assert close(together[job.spec.id], world.alone(job), "cpu")


def test_a_run_goes_on_after_the_only_one_that_looked_at_another_view(world):
    class Leaves(METHODS["kd"]):
        views: ClassVar = {"teacher": 1}

        def loss(self, out, batch, helpers, progress):
            if progress.epoch > 0:
                raise ArithmeticError("no such loss")
            return super().loss(out, batch, helpers, progress)

    job = world.job("ce")
    leaves = dataclasses.replace(
        world.job("kd", recipe={"teacher_outputs": "live"}), method=Leaves()
    )
    outcomes = captured(world, job, leaves)
    assert outcomes[leaves.spec.id].failed is not None
    assert close(outcomes[job.spec.id], world.alone(job), "cpu")


class Noisy(METHODS["kd"]):
    """Draws noise of its own in every step."""

    def loss(self, out, batch, helpers, progress):
        logits = out["student"].logits
        noise = torch.randn(logits.shape, generator=batch.generator, device=logits.device)
        terms = super().loss(out, batch, helpers, progress)
        return terms | {"task": terms["task"] + (noise * logits).mean()}


@pytest.mark.parametrize("device", DEVICES)
def test_a_methods_own_draws_are_the_eager_ones(world, device):
    """The warm-up of a capture must not use up what the run was to draw."""
    job = dataclasses.replace(world.job("kd"), method=Noisy())
    outcome = captured(world, job, device=device)[job.spec.id]
    assert close(outcome, eager(world, job, device), device)
