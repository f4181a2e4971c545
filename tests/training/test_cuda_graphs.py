"""Recorded steps are the steps themselves: same numbers, alone and in company."""

import dataclasses
import functools
from typing import ClassVar

import pytest
import torch

from kdbench.methods import BUILTIN, METHODS
from kdbench.methods.types import Progress
from kdbench.training.batches import epoch_batches, training_positions
from kdbench.training.cuda_graphs import recording
from kdbench.training.cuda_graphs import step as capture
from kdbench.training.cuda_graphs.step import GraphedStep
from kdbench.training.memory import CohortTooLarge
from kdbench.training.run import TrainingRun

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


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("key", sorted(BUILTIN))
def test_recorded_steps_are_the_eager_ones(world, key, device):
    try:
        job = world.job(key)
    except AssertionError as error:
        pytest.skip(f"{key} cannot serve this pair: {error}")
    eager = world.train(job, bench=world.bench(device))[job.spec.id]
    recorded = world.train(job, bench=world.bench(device, recorded=True))[job.spec.id]
    assert close(recorded, eager, device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("key", ["ce", "kd", "dml"])
def test_recorded_runs_are_as_accurate_as_eager_ones(world, key, device):
    """Paired seeds: recordings of one seed serve the others."""
    recorded, eager = world.bench(device, recorded=True), world.bench(device)
    differences = []
    for seed in range(8):
        job = world.job(key, seed)
        one, other = (world.train(job, bench=b)[job.spec.id] for b in (recorded, eager))
        accuracies = [each.result["last"]["val.accuracy"] for each in (one, other)]
        differences.append((accuracies[0] - accuracies[1]) * job.spec.data.validation)
    mean = sum(differences) / len(differences)
    assert abs(mean) <= (0 if device == "cpu" else ACCURACY_TOLERANCE)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("way", ["cache", "live"])
def test_a_recorded_run_does_not_depend_on_its_company(world, device, way):
    keys = ("kd", "ce", "hint", "dml", "ps-kd", "at")
    jobs = [world.job(key, recipe={"teacher_outputs": way}) for key in keys]
    together = world.train(*jobs, bench=world.bench(device, recorded=True))
    for job in jobs:
        alone = world.train(job, bench=world.bench(device, recorded=True))[job.spec.id]
        assert close(together[job.spec.id], alone, device)


@pytest.mark.parametrize("device", DEVICES)
def test_a_recorded_run_goes_on_where_it_was_stopped(world, device):
    job = world.job("kd", recipe={"optimizer": "sgd", "momentum": 0.9})
    whole = world.train(job, bench=world.bench(device, recorded=True))[job.spec.id]
    seen = []

    def after_an_epoch() -> bool:
        seen.append(1)
        return len(seen) > 5

    first = world.train(job, bench=world.bench(device, recorded=True), stopping=after_an_epoch)[
        job.spec.id
    ]
    assert first.finished is None
    assert first.checkpoint is not None
    rest = world.train(
        dataclasses.replace(job, checkpoint=first.checkpoint),
        bench=world.bench(device, recorded=True),
    )[job.spec.id]
    rest.rows = first.rows + rest.rows
    assert close(rest, whole, device)


def replayed(world, device: str, key: str = "kd") -> tuple[TrainingRun, GraphedStep, list]:
    bench = world.bench(device)
    job = world.job(key)
    member = TrainingRun(job, bench)
    fit, _ = training_positions(job.spec, bench)
    batches = epoch_batches(bench, fit, 0, [member])
    member.begin_epoch(len(batches))
    steps = GraphedStep({0: member}, batches[0])
    steps.record([0])
    return member, steps, batches


@pytest.mark.parametrize("device", DEVICES)
def test_recording_leaves_the_run_as_it_was(world, device):
    job = world.job("kd")
    fresh = TrainingRun(job, world.bench(device))
    member, _, _ = replayed(world, device)
    for name, value in member.trained["student"].state_dict().items():
        assert torch.equal(value, fresh.trained["student"].state_dict()[name]), name
    for state in member.optimizer.state.values():
        assert all(not value.any() for value in state.values())
    assert not member._correct
    assert not any(member._sums.values())


@pytest.mark.parametrize("device", DEVICES)
def test_what_changes_from_step_to_step_is_read_anew(world, device):
    _, steps, batches = replayed(world, device)
    steps.load(batches[1])
    batch = steps.batch
    assert torch.equal(batch.position, batches[1].position)
    assert torch.equal(batch.labels, batches[1].labels)
    assert torch.equal(batch.images(0), batches[1].images(0))
    shares = [getattr(batch.progress, f.name) for f in dataclasses.fields(Progress)]
    told = [getattr(batches[1].progress, f.name) for f in dataclasses.fields(Progress)]
    assert [float(s) for s in shares] == told


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("key", sorted(BUILTIN))
def test_every_methods_step_can_be_recorded(world, key, device):
    try:
        world.job(key)
    except AssertionError as error:
        pytest.skip(f"{key} cannot serve this pair: {error}")
    _, steps, _ = replayed(world, device, key)
    assert steps.eager == {}


@CUDA
def test_a_gpu_can_record():
    assert recording.can_record(torch.device("cuda"))


@CUDA
def test_a_step_that_cannot_be_recorded_is_taken_eagerly(world):
    class Reads(METHODS["kd"]):
        def loss(self, out, batch, helpers, progress):
            float(out["student"].logits.sum())  # waits for the device
            return super().loss(out, batch, helpers, progress)

    job = world.job("kd")
    odd = dataclasses.replace(job, method=Reads())
    plain = world.train(job, bench=world.bench("cuda"))[job.spec.id]
    eager = world.train(odd, bench=world.bench("cuda", recorded=True))[job.spec.id]
    assert close(eager, plain, "cuda")
    assert eager.result["eager"]
    assert "eager" not in plain.result


def test_each_size_of_batch_is_recorded_once(world, monkeypatch):
    made = []

    class Counted(GraphedStep):
        def __init__(self, seats, batch):
            made.append(len(batch))
            super().__init__(seats, batch)

    monkeypatch.setattr(capture, "GraphedStep", Counted)
    job = world.job("kd")
    bench = world.bench(recorded=True)
    fit, _ = training_positions(job.spec, bench)
    world.train(job, bench=bench)
    sizes = {job.spec.recipe.batch, len(fit) % job.spec.recipe.batch} - {0}
    assert sorted(made) == sorted(sizes)


@pytest.mark.parametrize("device", DEVICES)
def test_a_method_that_raises_fails_alone_when_recorded(world, device):
    class Raises(METHODS["kd"]):
        def loss(self, out, batch, helpers, progress):
            raise ArithmeticError("no such loss")

    good, bad = world.job("ce"), dataclasses.replace(world.job("kd"), method=Raises())
    outcomes = world.train(good, bad, bench=world.bench(device, recorded=True))
    assert "no such loss" in outcomes[bad.spec.id].failed.error["message"]
    alone = world.train(good, bench=world.bench(device, recorded=True))[good.spec.id]
    assert close(outcomes[good.spec.id], alone, device)


@pytest.mark.parametrize("at", [1, 4])  # what is shared; the last of three members
@pytest.mark.parametrize("again", [False, True])
def test_after_a_recording_that_broke_off_all_steps_are_eager(world, monkeypatch, again, at):
    """Other recordings may be damaged; also when memory ran out in its midst."""
    record = recording.CudaGraph.record
    made = []

    def breaks_off(self, work, generators=()):
        made.append(work)
        if len(made) == at:
            cause = torch.OutOfMemoryError("full") if again else RuntimeError("no such work")
            raise recording.CaptureFailed("broke off") from cause
        record(self, work, generators)

    monkeypatch.setattr(recording.CudaGraph, "record", breaks_off)
    bench = world.bench(recorded=True)
    jobs = [world.job(key) for key in ("ce", "kd", "mse")]
    if again:
        with pytest.raises(CohortTooLarge):
            world.train(*jobs, bench=bench)
    for cohort in (jobs, jobs[:1]):
        together = world.train(*cohort, bench=bench)
        for job in cohort:
            outcome = together[job.spec.id]
            assert close(outcome, world.alone(job), "cpu")
            assert outcome.result["eager"] == "broke off"
    assert len(made) == at


# -- recordings that are used again


@pytest.fixture
def recordings(monkeypatch) -> list[int]:
    """The seats that were recorded, in order."""
    made: list[int] = []
    record = GraphedStep._record

    def counted(self, seat):
        made.append(seat)
        record(self, seat)

    monkeypatch.setattr(GraphedStep, "_record", counted)
    return made


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("key", sorted(BUILTIN))
def test_a_run_in_the_recordings_of_another_seed_is_the_run_alone(world, key, device, recordings):
    try:
        first, second = (world.job(key, seed) for seed in (0, 1))
    except AssertionError as error:
        pytest.skip(f"{key} cannot serve this pair: {error}")
    bench = world.bench(device, recorded=True)
    world.train(first, bench=bench)
    made = len(recordings)
    assert made
    after = world.train(second, bench=bench)[second.spec.id]
    # Where each seed has frozen runs of its own, their outputs are in the recordings.
    assert (len(recordings) == made) == (first.spec.frozen_runs == second.spec.frozen_runs)
    assert close(after, world.train(second, bench=world.bench(device))[second.spec.id], device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "recipe", [{"optimizer": "sgd", "momentum": 0.9}, {"optimizer": "adam", "lr": 0.02}]
)
def test_a_cohort_goes_on_in_the_recordings_of_another(world, device, recipe, recordings):
    keys = ("kd", "ce", "dml", "ps-kd")
    bench = world.bench(device, recorded=True)
    others = {"optimizer": recipe["optimizer"], "lr": 0.01}
    world.train(*(world.job(key, 0, recipe={**recipe, **others}) for key in keys), bench=bench)
    made = len(recordings)
    # Fewer of them, in another order, with another learning rate.
    jobs = [world.job(key, 1, recipe=recipe) for key in ("ps-kd", "kd", "ce")]
    together = world.train(*jobs, bench=bench)
    assert len(recordings) == made
    for job in jobs:
        alone = world.train(job, bench=world.bench(device))[job.spec.id]
        assert close(together[job.spec.id], alone, device)


@pytest.mark.parametrize("device", DEVICES)
def test_a_stopped_run_goes_on_in_the_recordings_of_another(world, device, recordings):
    first, job = (world.job("kd", seed, recipe={"optimizer": "adam"}) for seed in (0, 1))
    whole = world.train(job, bench=world.bench(device))[job.spec.id]
    seen = []

    def after_an_epoch() -> bool:
        seen.append(1)
        return len(seen) > 5

    part = world.train(job, bench=world.bench(device), stopping=after_an_epoch)[job.spec.id]
    bench = world.bench(device, recorded=True)
    world.train(first, bench=bench)
    made = len(recordings)
    job = dataclasses.replace(job, checkpoint=part.checkpoint)
    rest = world.train(job, bench=bench)[job.spec.id]
    assert len(recordings) == made
    rest.rows = part.rows + rest.rows
    assert close(rest, whole, device)


def test_a_run_without_a_forerunner_is_recorded_beside_those_that_have_one(world, recordings):
    bench = world.bench(recorded=True)
    trials = [world.job("kd", 0, hparams={"alpha": alpha}) for alpha in (0.2, 0.4)]
    world.train(*trials, world.job("ce"), bench=bench)
    sizes = 2
    assert len(recordings) == 3 * sizes
    cohort = [world.job("mse"), world.job("kd", 0, hparams={"alpha": 0.6}), world.job("at")]
    together = world.train(*cohort, bench=bench)
    assert len(recordings) == 5 * sizes  # `kd` has a forerunner
    for job in cohort:
        assert close(together[job.spec.id], world.alone(job), "cpu")


def test_a_final_run_goes_on_in_the_recordings_of_a_trial(world, recordings):
    """It trains on the images that were held out too, so its last batch has another size."""
    bench = world.bench(recorded=True)
    world.train(world.job("kd", hparams={"alpha": 0.2}, data={"train_on": "fit"}), bench=bench)
    made = len(recordings)
    job = world.job("kd", data={"train_on": "all"})
    after = world.train(job, bench=bench)[job.spec.id]
    assert len(recordings) == made + 1
    assert close(after, world.alone(job), "cpu")


def test_nothing_is_made_that_no_run_needs(world, recordings):
    """A live teacher's forward is in the recording of a cohort, not in the next one's."""
    bench = world.bench(recorded=True)
    plain = world.job("ce", recipe={"teacher_outputs": "live"})
    world.train(world.job("kd", recipe={"teacher_outputs": "live"}), plain, bench=bench)
    made = len(recordings)
    after = world.train(plain, bench=bench)[plain.spec.id]
    assert len(recordings) > made
    assert all(not replayed._live for replayed in bench.captured._sizes.values())
    assert close(after, world.alone(plain), "cpu")


class Apart(METHODS["dml"]):
    """The peer looks at a view of its own."""

    views: ClassVar = {"peer1": 1}


@pytest.mark.parametrize(("way", "key", "kind"), [("live", "hint", None), ("auto", "dml", Apart)])
def test_what_all_need_is_recorded_anew_where_it_was_not_recorded(world, way, key, kind):
    """A layer of the live teacher, a second view."""
    bench = world.bench(recorded=True)
    jobs = [world.job(k, recipe={"teacher_outputs": way}) for k in ("kd", key)]
    world.train(jobs[0], bench=bench)
    if kind:
        jobs[1] = dataclasses.replace(jobs[1], method=kind())
    together = world.train(*jobs, bench=bench)
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
    outcomes = world.train(job, leaves, bench=world.bench(recorded=True))
    assert outcomes[leaves.spec.id].failed is not None
    assert close(outcomes[job.spec.id], world.alone(job), "cpu")


def other_knobs(key: str) -> dict[str, float]:
    """A value for each hyperparameter that tuning moves, apart from its default."""
    return {
        name: (2 * its.low + its.high) / 3 if isinstance(its.low, float) else its.high
        for name, its in METHODS[key].searched().items()
    }


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("key", sorted(BUILTIN))
def test_a_trial_in_the_recordings_of_another_is_the_run_alone(world, key, device, recordings):
    """A step is recorded once for all hyperparameters that tuning moves."""
    told = other_knobs(key)
    try:
        first, second = (world.job(key, 0, hparams=hparams) for hparams in ({}, told))
    except AssertionError as error:
        pytest.skip(f"{key} cannot serve this pair: {error}")
    bench = world.bench(device, recorded=True)
    world.train(first, bench=bench)
    made = len(recordings)
    after = world.train(second, bench=bench)[second.spec.id]
    assert len(recordings) == made
    assert close(after, world.train(second, bench=world.bench(device))[second.spec.id], device)


def test_knobs_that_tuning_leaves_alone_are_recorded_anew(world, recordings):
    bench = world.bench(recorded=True)
    world.train(world.job("dkd", 0), bench=bench)
    made = len(recordings)
    job = world.job("dkd", 0, hparams={"warmup": 0.9})
    after = world.train(job, bench=bench)[job.spec.id]
    assert len(recordings) == 2 * made
    assert close(after, world.alone(job), "cpu")


@dataclasses.dataclass(frozen=True)
class Shaped(METHODS["kd"]):
    """A hyperparameter of its own is held by a helper."""

    def helpers(self, shapes):
        return torch.nn.ModuleDict({"drop": torch.nn.Dropout(self.alpha)})

    def loss(self, out, batch, helpers, progress):
        terms = super().loss(out, batch, helpers, progress)
        return terms | {"task": terms["task"] * (1 + helpers["drop"].p)}


@dataclasses.dataclass(frozen=True)
class Counts(METHODS["kd"]):
    """Needs its hyperparameters as numbers."""

    def loss(self, out, batch, helpers, progress):
        if not isinstance(self.temperature, float):
            raise TypeError("temperature must be a number")
        return super().loss(out, batch, helpers, progress)


@dataclasses.dataclass(frozen=True)
class Keeps(METHODS["kd"]):
    """Keeps what it made of a hyperparameter in its first step."""

    @functools.cached_property
    def square(self):
        return self.temperature**2 * self.alpha

    def loss(self, out, batch, helpers, progress):
        terms = super().loss(out, batch, helpers, progress)
        return terms | {"task": terms["task"] * self.square}


KINDS = [(METHODS["kd"], 1), (Shaped, 2), (Counts, 2), (Keeps, 2)]


@pytest.mark.parametrize(("kind", "again"), KINDS)
def test_a_method_that_needs_a_number_has_it(world, kind, again, recordings):
    bench = world.bench(recorded=True)
    for alpha in (0.9, 0.3):
        job = world.job("kd", 0, hparams={"alpha": alpha})
        job = dataclasses.replace(job, method=kind(alpha=alpha))
        after = world.train(job, bench=bench)[job.spec.id]
        assert "eager" not in after.result
        assert close(after, world.alone(job), "cpu")
    sizes = 2
    assert len(recordings) == again * sizes


@CUDA
def test_a_method_that_reads_a_knob_back_is_recorded_with_numbers(world):
    class Reads(METHODS["kd"]):
        def loss(self, out, batch, helpers, progress):
            terms = super().loss(out, batch, helpers, progress)
            return terms if self.alpha > 0.5 else {"task": terms["task"]}

    job = dataclasses.replace(world.job("kd"), method=Reads())
    eager = world.train(job, bench=world.bench("cuda"))[job.spec.id]
    recorded = world.train(job, bench=world.bench("cuda", recorded=True))[job.spec.id]
    assert close(recorded, eager, "cuda")
    assert "eager" not in recorded.result


def test_a_run_may_follow_one_that_failed(world, recordings):
    """A seat whose run ended in the middle of an epoch is as good as any."""

    class Breaks(METHODS["kd"]):
        def loss(self, out, batch, helpers, progress):
            if progress.step > 0.4 and broken:
                raise ArithmeticError("no such loss")
            return super().loss(out, batch, helpers, progress)

    broken = [True]
    bench = world.bench(recorded=True)
    first, second = (world.job("kd", seed) for seed in (0, 1))
    failed = world.train(dataclasses.replace(first, method=Breaks()), bench=bench)
    assert failed[first.spec.id].failed is not None
    broken.clear()
    after = world.train(second, bench=bench)[second.spec.id]
    assert close(after, world.alone(second), "cpu")


class Noisy(METHODS["kd"]):
    """Draws noise of its own in every step."""

    def loss(self, out, batch, helpers, progress):
        logits = out["student"].logits
        noise = torch.randn(logits.shape, generator=batch.generator, device=logits.device)
        terms = super().loss(out, batch, helpers, progress)
        return terms | {"task": terms["task"] + (noise * logits).mean()}


@pytest.mark.parametrize("device", DEVICES)
def test_a_methods_own_draws_are_the_eager_ones(world, device, recordings):
    """A recording's warm-up must not use up what the run was to draw."""
    bench = world.bench(device, recorded=True)
    for seed in (0, 1):
        job = dataclasses.replace(world.job("kd", seed), method=Noisy())
        eager = world.train(job, bench=world.bench(device))[job.spec.id]
        assert close(world.train(job, bench=bench)[job.spec.id], eager, device)
    assert len(recordings) == len(set(recordings)) * 2  # two sizes of batch, one seat
