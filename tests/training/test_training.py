"""The training loop: what it does at the edges, what it shares, and where it stops."""

import dataclasses
import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors
from torch import nn

from kdbench import models
from kdbench.methods import METHODS
from kdbench.methods.base import Method
from kdbench.methods.networks import Average, Snapshot, Trained
from kdbench.records.spec import Recipe
from kdbench.training import loop as train
from kdbench.training import state
from kdbench.training.context import TrainingJob
from kdbench.training.cost import measure_costs
from kdbench.training.events import Epochs, Failed, Finished
from kdbench.training.examples import examples_of
from kdbench.training.networks import _inner
from kdbench.training.optim import lr_at, make_optimizer
from kdbench.training.run import TrainingRun, batches_for

CE = METHODS["ce"]


def variant(
    job: TrainingJob, kind: Any = None, name: str | None = None, **recipe: Any
) -> TrainingJob:
    """The same run with another method class or recipe values."""
    method = job.method if kind is None else kind()
    spec = replace(
        job.spec,
        method=name or job.spec.method,
        recipe=replace(job.spec.recipe, **recipe),
    )
    return TrainingJob(spec, method, job.layers, job.checkpoint)


def last(outcome: Any) -> dict[str, torch.Tensor]:
    """The student's last weights."""
    stored = load_tensors(outcome.weights)
    return {k.removeprefix("last/"): v for k, v in stored.items() if k.startswith("last/")}


def first_weights(world, job: TrainingJob, role: str = "student") -> dict[str, torch.Tensor]:
    return TrainingRun(job, world.context()).networks.trained[role].state_dict()


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def shared_tensors(one, other) -> set[str]:
    """Randomly drawn tensors that are equal in both: constants (norms) are left out."""
    return {k for k, v in one.items() if v.ndim > 1 and torch.equal(v, other[k])}


# -- a weight of zero


@pytest.mark.parametrize("student", ["digits-cnn-small", "noisy-for-tests"])
def test_kd_with_alpha_zero_is_ce_bit_for_bit(world, student):
    ce = world.alone(world.job("ce", student=student))
    kd = world.alone(world.job("kd", hparams={"alpha": 0.0}, student=student))
    assert kd.weights == ce.weights
    unweighted = [{k: v for k, v in r.items() if k != "train.loss.soft"} for r in kd.metrics]
    assert unweighted == ce.metrics


# -- edges of a cohort


class Explodes(CE):
    """Not a number from the first batch on."""

    def loss(self, out, batch, helpers, progress):
        return {"task": super().loss(out, batch, helpers, progress)["task"] * float("nan")}


class Raises(CE):
    def loss(self, out, batch, helpers, progress):
        raise RuntimeError("meant to fail")


def test_a_cohort_of_nothing_but_a_diverging_run_ends_there(world):
    """The run is over once: nobody says afterwards that it failed as well."""
    job = variant(world.job("ce"), Explodes, "explodes")
    outcome = world.alone(job)
    assert [type(event) for event in outcome.events] == [Epochs, Finished]
    assert outcome.result["state"] == "diverged"
    assert outcome.result["diverged_epoch"] == 1


def test_a_cohort_of_nothing_but_failing_runs_ends_there(world):
    outcome = world.alone(variant(world.job("ce"), Raises, "raises"))
    assert [type(event) for event in outcome.events] == [Failed]


def test_a_run_that_cannot_be_built_fails_alone(world):
    class NoHelpers(CE):
        def helpers(self, shapes):
            raise RuntimeError("no memory")

    job = world.job("ce")
    broken = variant(job, NoHelpers, "no-helpers")
    both = world.train(broken, job)
    assert "no memory" in both[broken.spec.id].failed.error["message"]
    assert both[job.spec.id].weights == world.alone(job).weights


def test_a_run_that_fails_at_its_end_fails_alone(world):
    class NoWeights(CE):
        def loss_weights(self):
            raise RuntimeError("no weights")

        def loss(self, out, batch, helpers, progress):
            return {"task": nn.functional.cross_entropy(out["student"].logits, batch.labels)}

    job = world.job("ce")
    broken = variant(job, NoWeights, "no-weights")
    both = world.train(broken, job)
    assert "no weights" in both[broken.spec.id].failed.error["message"]
    assert both[broken.spec.id].finished is None
    assert both[job.spec.id].weights == world.alone(job).weights


@pytest.mark.parametrize("train_on", ["fit", "all"])
def test_a_run_that_breaks_in_its_very_last_step_has_diverged(world, train_on):
    """Its last loss was still finite, but the weights that it would leave are of no use."""
    job = world.job("ce", data={"train_on": train_on})
    steps = 4 if train_on == "all" else 3

    class Late(CE):
        def loss(self, out, batch, helpers, progress):
            terms = super().loss(out, batch, helpers, progress)
            if progress.step >= (3 * steps - 1) / (3 * steps) - 1e-9:
                # A finite value with a gradient that is not.
                zero = out["student"].logits.sum() * 0
                terms["task"] = terms["task"] + torch.sqrt(zero * zero).nan_to_num()
            return terms

    outcome = world.alone(variant(job, Late, "late"))
    assert outcome.result["state"] == "diverged"
    assert outcome.result["diverged_epoch"] == 3
    assert outcome.finished.weights is None
    assert len(outcome.rows) == 3


def test_a_result_is_valid_json_whatever_diverged(world):
    import json

    outcome = world.alone(variant(world.job("ce"), Explodes, "explodes"))
    json.dumps([outcome.finished.result, outcome.rows], allow_nan=False)


def test_checkpoints_of_different_ages_meet_in_one_cohort(world):
    """Which a driver that died at an awkward moment can bring about."""
    jobs = [world.job(key) for key in ("ce", "ps-kd", "kd")]
    whole = [world.alone(job) for job in jobs]
    resumed = []
    for job, epochs in zip(jobs, (1, 2, 0), strict=True):
        calls = iter(range(100))
        stop = 3 * epochs + 1
        part = world.train(job, stopping=lambda c=calls, s=stop: next(c) >= s)[job.spec.id]
        resumed.append(replace(job, checkpoint=part.checkpoint))
    together = world.train(*resumed)
    for job, alone, epochs in zip(jobs, whole, (1, 2, 0), strict=True):
        mate = together[job.spec.id]
        assert mate.weights == alone.weights
        assert mate.metrics == alone.metrics[epochs:]


def test_stopped_before_an_epoch_is_whole_keeps_nothing_and_loses_nothing(world):
    job = world.job("ce")
    outcome = world.train(job, stopping=lambda: True)[job.spec.id]
    assert outcome.rows == []
    assert outcome.checkpoint is None
    assert outcome.finished is None
    assert outcome.failed is None


def test_checkpoints_are_said_while_training(world, monkeypatch):
    monkeypatch.setattr(state, "CHECKPOINT_EVERY", 0.0)
    job = world.job("ce")
    outcome = world.alone(job)
    epochs = [event for event in outcome.events if isinstance(event, Epochs)]
    assert [[row["epoch"] for row in event.rows] for event in epochs] == [[1], [2], [3]]
    # The last epoch needs none: the run is finished.
    assert [event.checkpoint is None for event in epochs] == [False, False, True]
    for event, left in zip(epochs[:2], ([2, 3], [3]), strict=True):
        again = world.alone(replace(job, checkpoint=event.checkpoint))
        assert [row["epoch"] for row in again.rows] == left
        assert again.weights == outcome.weights


def test_training_on_everything_has_no_validation(world):
    outcome = world.alone(world.job("ce", data={"train_on": "all"}))
    assert not any(k.startswith("val.") for row in outcome.rows for k in row)
    assert outcome.result["best"] == {}
    assert outcome.result["last"] == {}
    assert all(k.startswith("last/") for k in load_tensors(outcome.weights))


# -- what is measured


def test_validation_and_best_are_those_of_the_kept_weights(world):
    job = world.job("ce", recipe={"lr": 0.05, "epochs": 4})
    outcome = world.alone(job)
    stored = load_tensors(outcome.weights)
    context = world.context()
    held_out = examples_of(job.spec, context).held_out
    result = outcome.result

    def measured(which: str) -> tuple[float, float]:
        network = models.build(job.spec.models["student"], world.data.shape, world.data.classes)
        network.load_state_dict(
            {k.removeprefix(f"{which}/"): v for k, v in stored.items() if k.startswith(which)}
        )
        images = context.views("none").take(held_out)
        with torch.no_grad():
            logits = network.eval()(images)
        labels = world.data.labels[held_out]
        return (
            float((logits.argmax(1) == labels).double().mean()),
            float(nn.functional.cross_entropy(logits, labels)),
        )

    for which in ("last", "best"):
        accuracy, nll = measured(which)
        assert result[which]["val.accuracy"] == pytest.approx(accuracy)
        assert result[which]["val.nll"] == pytest.approx(nll, rel=1e-5)
    rows = outcome.rows
    chosen = max(rows, key=lambda r: (r["val.accuracy"], -r["val.nll"], -r["epoch"]))
    assert result["best"]["epoch"] == chosen["epoch"]
    assert result["last"]["val.accuracy"] == rows[-1]["val.accuracy"]


def test_the_best_weights_so_far_outlive_an_interruption(world):
    class Unlearns(CE):
        """Gets worse from the second epoch on."""

        def loss(self, out, batch, helpers, progress):
            terms = super().loss(out, batch, helpers, progress)
            return {"task": terms["task"] * (1.0 if progress.epoch == 0 else -0.1)}

    job = variant(world.job("ce", student="digits-cnn-small"), Unlearns, "unlearns")
    whole = world.alone(job)
    assert whole.result["best"]["epoch"] == 1
    calls = iter(range(100))
    part = world.train(job, stopping=lambda: next(calls) >= 7)[job.spec.id]
    again = world.alone(replace(job, checkpoint=part.checkpoint))
    assert again.result == whole.result
    assert again.weights == whole.weights


def test_validation_does_not_move_the_run(world):
    """Neither its presence nor its size: it draws nothing and changes no buffer."""
    job = world.job("ce", data={"train_on": "all"})
    plain = world.alone(job)
    seen = []

    class Peeks(TrainingRun):
        def end_epoch(self, held_out):
            seen.append(1)
            return super().end_epoch(torch.arange(10))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "TrainingRun", Peeks)
        peeked = world.alone(job)
    assert len(seen) == 3
    assert same(last(peeked), last(plain))


def test_train_accuracy_and_loss_are_means_over_images(world):
    """Over images, not over batches of different sizes."""
    logged: list[tuple[int, float]] = []
    right: list[int] = []

    class Logs(CE):
        def loss(self, out, batch, helpers, progress):
            terms = super().loss(out, batch, helpers, progress)
            logged.append((len(batch.labels), float(terms["task"].detach())))
            right.append(int((out["student"].logits.argmax(1) == batch.labels).sum()))
            return terms

    outcome = world.alone(variant(world.job("ce"), Logs, epochs=1))
    assert [count for count, _ in logged] == [40, 40, 20]
    mean = sum(count * value for count, value in logged) / 100
    assert outcome.rows[0]["train.loss"] == pytest.approx(mean, rel=1e-5)
    assert outcome.rows[0]["train.accuracy"] == pytest.approx(sum(right) / 100)


def test_progress_runs_from_the_first_step_to_the_last(world):
    seen = []

    class Logs(CE):
        def loss(self, out, batch, helpers, progress):
            seen.append((progress.epoch, progress.epoch_end, progress.step))
            return super().loss(out, batch, helpers, progress)

    world.alone(variant(world.job("ce"), Logs, epochs=2))
    assert np.allclose(seen, [(0, 0.5, i / 6) if i < 3 else (0.5, 1, i / 6) for i in range(6)])


# -- batches


def test_an_epoch_shows_each_fit_image_once_and_no_held_out_one(world):
    context, job = world.context(), world.job("kdcl")
    run = TrainingRun(job, context)
    examples = examples_of(job.spec, context)
    fit, held_out = examples.labelled, examples.held_out
    batches = batches_for([run], context, examples, 0)
    shown = torch.cat([batch.position for batch in batches])
    assert [len(batch.position) for batch in batches] == [40, 40, 20]
    assert sorted(shown.tolist()) == sorted(fit.tolist())
    assert not set(shown.tolist()) & set(held_out.tolist())
    assert len(fit) + len(held_out) == len(world.data.labels)
    for batch in batches:
        assert torch.equal(batch.labels, world.data.labels[batch.position])
        for view in (0, 1):
            expected = context.views("flip").take(batch.position, batch.view_ids[view])
            assert torch.equal(batch.images(view), expected)
    views = [torch.cat([batch.view_ids[k] for batch in batches]) for k in (0, 1)]
    assert not torch.equal(*views)


def test_a_role_with_a_view_of_its_own_is_shown_it(world):
    context = world.context()
    run = TrainingRun(world.job("kdcl"), context)
    examples = examples_of(run.spec, context)
    batch = batches_for([run], context, examples, 0)[0]
    shown = {}
    for role, network in run.networks.extractors.items():
        network.register_forward_pre_hook(
            lambda module, given, role=role: shown.update({role: given[0]})
        )
    run.begin_epoch(3)
    run.step(batch)
    assert torch.equal(shown["student"], batch.images(0))
    assert torch.equal(shown["peer1"], batch.images(1))
    assert not torch.equal(shown["student"], shown["peer1"])


def test_a_single_left_over_image_is_left_out(world):
    context = world.context()
    job = world.job("ce", recipe={"batch": 33})
    examples = examples_of(job.spec, context)
    batches = batches_for([TrainingRun(job, context)], context, examples, 0)
    assert [len(batch.position) for batch in batches] == [33, 33, 33]
    assert world.alone(job).finished is not None


def order(world, job: TrainingJob, epoch: int = 0) -> tuple[list[int], list[int]]:
    """Which images an epoch shows, and in which view."""
    context = world.context()
    examples = examples_of(job.spec, context)
    batches = batches_for([TrainingRun(job, context)], context, examples, epoch)
    return (
        torch.cat([b.position for b in batches]).tolist(),
        torch.cat([b.view_ids[0] for b in batches]).tolist(),
    )


# -- pairing


@pytest.mark.parametrize("key", ["kd", "dml", "kdcl", "hint", "ps-kd", "byot", "ban"])
def test_methods_of_a_seed_are_paired(world, key):
    ce, other = world.job("ce"), world.job(key)
    for epoch in (0, 2):
        assert order(world, ce, epoch) == order(world, other, epoch)
    assert order(world, ce, 0) != order(world, ce, 1)
    assert same(first_weights(world, ce), first_weights(world, other))


def test_pairing_does_not_depend_on_knobs_or_recipe(world):
    plain = world.job("hint")
    for other in (
        world.job("hint", hparams={"beta": 3.0, "task_weight": 0.2}),
        variant(plain, lr=0.5, optimizer="sgd", epochs=9, weight_decay=0.1),
    ):
        assert other.spec.id != plain.spec.id
        assert order(world, plain) == order(world, other)
        assert same(first_weights(world, plain), first_weights(world, other))
        helpers = [
            TrainingRun(job, world.context()).networks.helpers.state_dict()
            for job in (plain, other)
        ]
        assert same(*helpers)


def test_seeds_lineages_and_roles_differ(world):
    job = world.job("dml")
    base = first_weights(world, job)
    kin = replace(job, spec=replace(job.spec, lineage=1))
    mate = replace(job, spec=replace(job.spec, seed=1))
    for other in (
        first_weights(world, mate),
        first_weights(world, kin),
        first_weights(world, job, "peer1"),
    ):
        assert shared_tensors(base, other) == set()
    assert order(world, job) != order(world, mate)
    assert order(world, job) != order(world, kin)


def test_peers_drop_different_neurons(world):
    """Equal peers with equal weights would otherwise stay equal for ever."""
    job = world.job("dml")
    context = world.context()
    run = TrainingRun(job, context)
    run.begin_epoch(3)
    seeds = [run._dropout[role][0] for role in ("student", "peer1")]
    assert seeds[0] != seeds[1]
    student = world.job("ce")
    alone = TrainingRun(student, context)
    alone.begin_epoch(3)
    assert alone._dropout["student"] == run._dropout["student"]


def test_a_generation_never_starts_from_its_teachers_first_weights(world):
    spec = world.job("ban").spec
    starts, line = [], []
    while True:
        method = METHODS[spec.method](**spec.hparams)
        starts.append(first_weights(world, TrainingJob(spec, method, ())))
        line.append(spec.lineage)
        if not spec.frozen_runs:
            break
        spec = world.store.record(spec.frozen_runs["teacher"]).spec()
    assert len(starts) == 3
    assert line[0] == 0
    assert len(set(line)) == 3
    for one in range(3):
        for other in range(one):
            assert shared_tensors(starts[one], starts[other]) == set()


def test_the_members_of_an_ensemble_are_different_networks(world):
    spec = world.job("ensemble").spec
    assert len(set(spec.frozen_runs.values())) == 3
    starts = []
    for run_id in spec.frozen_runs.values():
        one = world.store.record(run_id).spec()
        starts.append(first_weights(world, TrainingJob(one, METHODS[one.method](), ())))
    assert shared_tensors(starts[0], starts[1]) == shared_tensors(starts[1], starts[2]) == set()


class Draws(CE):
    """Weighs each example by a number of its own drawing."""

    def loss(self, out, batch, helpers, progress):
        each = nn.functional.cross_entropy(out["student"].logits, batch.labels, reduction="none")
        chance = torch.rand(len(each), generator=batch.generator)
        return {"task": (each * chance).mean()}


def test_a_methods_own_draws_are_its_own(world):
    """Whatever company draws, and wherever the run was interrupted."""
    job = world.job("ce")
    one, other = variant(job, Draws, "draws"), variant(job, Draws, "draws-too", lr=0.02)
    alone = world.alone(one)
    assert alone.weights != world.alone(job).weights
    assert world.train(other, job, one)[one.spec.id].weights == alone.weights
    calls = iter(range(100))
    part = world.train(one, stopping=lambda: next(calls) >= 5)[one.spec.id]
    assert world.alone(replace(one, checkpoint=part.checkpoint)).weights == alone.weights


# -- networks that follow another


@dataclass(frozen=True)
class Follows(Method):
    """Mean teacher and previous self at once; keeps what the followers were like."""

    log: ClassVar[list[Any]] = []

    def networks(self):
        return {
            "student": Trained(),
            "mean": Average("student", decay=0.9),
            "previous": Snapshot("student"),
        }

    def loss_weights(self):
        return {"task": 1.0, "mean": 0.5, "previous": 0.5}

    def loss(self, out, batch, helpers, progress):
        student = out["student"].logits
        for role in ("mean", "previous"):
            assert not out[role].logits.requires_grad
        return {
            "task": nn.functional.cross_entropy(student, batch.labels),
            "mean": 0.5 * (student - out["mean"].logits).square().mean(),
            "previous": 0.5 * (student - out["previous"].logits).square().mean(),
        }


def follower(run: TrainingRun, role: str) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in _inner(run.networks.followers[role]).state_dict().items()}


def student(run: TrainingRun) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in run.networks.trained["student"].state_dict().items()}


@pytest.fixture
def watch_runs(monkeypatch):
    """Members of the next cohorts, with the student and followers after each step."""
    runs: list[Any] = []

    class Watched(TrainingRun):
        def __init__(self, job, context):
            super().__init__(job, context)
            self.trail = [(student(self), follower(self, "mean"), follower(self, "previous"))]
            runs.append(self)

        def step(self, batch):
            super().step(batch)
            self.trail.append((student(self), follower(self, "mean"), follower(self, "previous")))

    monkeypatch.setattr(train, "TrainingRun", Watched)
    return runs


def test_an_average_is_the_running_mean_and_a_snapshot_the_last_epochs_end(world, watch_runs):
    world.alone(variant(world.job("ce"), Follows, "follows"))
    trail = watch_runs[0].trail
    assert len(trail) == 10
    first, mean_before, previous_before = trail[0]
    assert same(first, mean_before)
    assert same(first, previous_before)
    # The mean begins with the first step's weights: the random start has no part in it.
    mean = {k: v.double() for k, v in trail[1][0].items()}
    for step, (now, average, previous) in enumerate(trail[1:], 1):
        if step > 1:
            for k, v in now.items():
                if v.is_floating_point():
                    mean[k] = 0.9 * mean[k] + 0.1 * v.double()
        for k, v in average.items():
            if v.is_floating_point():
                torch.testing.assert_close(v.double(), mean[k], rtol=1e-5, atol=1e-6)
        epoch = (step - 1) // 3
        assert same(previous, trail[3 * epoch][0]), step
        # Buffers follow too, or the copy would normalise by somebody else's statistics.
        if step > 3:
            assert not torch.equal(previous["norm1.running_mean"], first["norm1.running_mean"])
        assert not torch.equal(now["conv1.weight"], average["conv1.weight"]) or step == 1


def test_followers_resume_exactly(world, watch_runs):
    job = variant(world.job("ce"), Follows, "follows")
    whole = world.alone(job)
    calls = iter(range(100))
    part = world.train(job, stopping=lambda: next(calls) >= 5)[job.spec.id]
    again = world.alone(replace(job, checkpoint=part.checkpoint))
    assert part.metrics + again.metrics == whole.metrics
    assert again.weights == whole.weights
    ends = [run.trail[-1] for run in (watch_runs[0], watch_runs[2])]
    for one, other in zip(*ends, strict=True):
        assert same(one, other)


# -- precision


def test_bf16_runs_on_the_cpu_and_stays_near(world):
    job = world.job("hint", student="digits-cnn-small")
    plain, coarse = world.alone(job), world.alone(variant(job, precision="bf16"))
    assert coarse.weights != plain.weights
    for row, exact in zip(coarse.rows, plain.rows, strict=True):
        assert math.isfinite(row["train.loss"])
        assert row["train.loss"] == pytest.approx(exact["train.loss"], rel=0.05)
    # Weights, and what they are saved as, stay in single precision.
    assert {v.dtype for v in last(coarse).values()} == {torch.float32}


# -- recipe

PLAIN = Recipe(
    epochs=12,
    batch=8,
    optimizer="sgd",
    lr=0.1,
    momentum=0.9,
    weight_decay=0.0,
    schedule="constant",
    milestones=(),
    gamma=0.0,
    precision="fp32",
    teacher_outputs="auto",
)


def with_torch(recipe: Recipe, schedule: Any) -> list[float]:
    """Learning rates as torch's own scheduler gives them."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    scheduler = schedule(optimizer)
    found = []
    for _ in range(recipe.epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_learning_rates_are_those_of_torchs_schedulers():
    from torch.optim import lr_scheduler as torchs

    cosine = replace(PLAIN, schedule="cosine")
    expected = with_torch(cosine, lambda o: torchs.CosineAnnealingLR(o, cosine.epochs))
    assert [lr_at(cosine, e) for e in range(12)] == pytest.approx(expected)
    for epochs, milestones, at in (
        (12, (0.5, 0.75), [6, 9]),
        (240, (0.625, 0.75, 0.875), [150, 180, 210]),
        (10, (0.1, 0.7), [1, 7]),
        (7, (0.5,), [4]),
    ):
        steps = replace(PLAIN, epochs=epochs, schedule="step", milestones=milestones, gamma=0.1)
        expected = with_torch(steps, lambda o, at=at: torchs.MultiStepLR(o, at, 0.1))
        assert [lr_at(steps, e) for e in range(epochs)] == pytest.approx(expected)
    assert [lr_at(PLAIN, e) for e in range(12)] == [0.1] * 12


@pytest.mark.parametrize("epochs", [7, 10, 30, 240])
def test_one_cycle_is_torchs_with_an_epoch_for_a_step(epochs):
    recipe = replace(PLAIN, epochs=epochs, schedule="one-cycle")
    assert [lr_at(recipe, e) for e in range(epochs)] == pytest.approx(one_cycle_of_torch(recipe))


def one_cycle_of_torch(recipe: Recipe) -> list[float]:
    """`OneCycleLR` over exactly the epochs: its last step may not be exceeded."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.lr, total_steps=recipe.epochs, cycle_momentum=False
    )
    found = [optimizer.param_groups[0]["lr"]]
    for _ in range(recipe.epochs - 1):
        optimizer.step()
        scheduler.step()
        found.append(optimizer.param_groups[0]["lr"])
    return found


def test_a_warm_up_grows_to_the_learning_rate_and_the_schedule_begins_after_it():
    cosine = replace(PLAIN, schedule="cosine", warmup=4)
    rates = [lr_at(cosine, e) for e in range(12)]
    assert rates[:5] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    assert rates[4:] == pytest.approx(
        [lr_at(replace(cosine, epochs=8, warmup=0), e) for e in range(8)]
    )
    steps = replace(PLAIN, schedule="step", milestones=(0.5,), gamma=0.1, warmup=2)
    assert [lr_at(steps, e) for e in range(12)] == pytest.approx([0.05] + [0.1] * 5 + [0.01] * 6)


def test_gradients_are_clipped_at_their_norm(world):
    """With SGD without momentum a step moves the weights by at most lr times the norm."""
    recipe = {"optimizer": "sgd", "lr": 1.0, "momentum": 0.0, "epochs": 1, "schedule": "constant"}
    job = world.job("ce", recipe={**recipe, "clip": 0.01})
    run = TrainingRun(job, world.context())
    before = [p.detach().clone() for p in run.networks.trainable()]
    (batch, *_) = batches_for([run], world.context(), examples_of(job.spec, world.context()), 0)
    run.begin_epoch(1)
    run.step(batch)
    moved = [a.detach() - b for a, b in zip(run.networks.trainable(), before, strict=True)]
    assert torch.cat([m.flatten() for m in moved]).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_a_run_uses_the_schedule(world):
    job = world.job("ce")
    rows = world.alone(job).rows
    assert [row["lr"] for row in rows] == [lr_at(job.spec.recipe, e) for e in range(3)]
    assert len({row["lr"] for row in rows}) == 3


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("sgd", lambda p, wd: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=wd)),
        ("nesterov", lambda p, wd: torch.optim.SGD(p, 0.1, 0.9, weight_decay=wd, nesterov=True)),
        ("adam", lambda p, wd: torch.optim.Adam(p, lr=0.1, weight_decay=wd)),
        ("adamw", lambda p, wd: torch.optim.AdamW(p, lr=0.1, weight_decay=wd)),
    ],
)
@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_optimisers_are_torchs(name, plain, decay):
    kind = {"optimizer": "sgd", "nesterov": True} if name == "nesterov" else {"optimizer": name}
    recipe = replace(PLAIN, weight_decay=decay, **kind)
    ends = []
    for make in (
        lambda p: make_optimizer(recipe, p, torch.device("cpu")),
        lambda p: plain(p, decay),
    ):
        torch.manual_seed(0)
        model, data = nn.Linear(5, 3), torch.randn(7, 5)
        optimizer = make(model.parameters())
        for _ in range(5):
            optimizer.zero_grad()
            model(data).square().mean().backward()
            optimizer.step()
        ends.append(model.weight.detach())
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_weight_decay_shrinks_the_weights_of_a_run(world, name):
    job = world.job("ce", recipe={"optimizer": name, "lr": 0.01})
    sizes = [
        sum(float(v.square().sum()) for k, v in last(world.alone(each)).items() if "conv" in k)
        for each in (job, variant(job, weight_decay=0.5))
    ]
    assert sizes[1] < sizes[0]


# -- what a method costs


def test_calibration_gives_sensible_numbers(world):
    jobs = {key: world.job(key) for key in ("ce", "kd", "dml")}
    spec = jobs["ce"].spec
    images = len(examples_of(spec, world.context()).labelled)
    expected = spec.recipe.epochs * math.ceil(images / spec.recipe.batch)
    rows = measure_costs(jobs, "ce", world.context(), lambda: False)
    assert rows.keys() == jobs.keys()
    assert rows["ce"]["relative"] == 1.0
    for row in rows.values():
        assert row["relative"] > 0
        assert row["seconds_per_step"] > 0
        assert row["peak_mb"] > 0
        assert row["steps"] == expected
    # Two students hold about twice what one holds.
    assert 1.5 < rows["dml"]["peak_mb"] / rows["ce"]["peak_mb"] < 3.5


def test_measured_memory_grows_with_the_batch(world):
    job = world.job("ce")
    peaks = [
        measure_costs({"ce": each}, "ce", world.context(), lambda: False)["ce"]["peak_mb"]
        for each in (variant(job, batch=10), variant(job, batch=40))
    ]
    assert 2 < peaks[1] / peaks[0] < 5


def test_calibration_leaves_no_trace(world):
    job = world.job("kd")
    before = world.alone(job)
    context = world.context()
    measure_costs({"ce": world.job("ce"), "kd": job}, "ce", context, lambda: False)
    after = world.train(job, context=context)[job.spec.id]
    assert after.weights == before.weights
    assert after.metrics == before.metrics


def test_calibration_stops_when_asked(world):
    job = world.job("ce")
    assert measure_costs({"ce": job}, "ce", world.context(), lambda: True) == {}


def test_a_job_says_all_that_a_run_needs():
    """So that a worker elsewhere can carry it out."""
    assert [f.name for f in dataclasses.fields(TrainingJob)] == [
        "spec",
        "method",
        "layers",
        "checkpoint",
    ]
