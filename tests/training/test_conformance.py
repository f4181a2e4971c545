"""What every method must keep to, whoever wrote it: each entry of METHODS by being listed.

Every run here is three epochs of three batches (the last one smaller), live teachers and
a student with dropout and batch normalisation.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdbench.methods import METHODS
from kdbench.methods.networks import Frozen
from kdbench.training import loop as train
from kdbench.training.context import TrainingJob
from kdbench.training.run import TrainingRun
from kdbench.training.teachers import load_student

EVERY = list(METHODS)
#: The methods whose published defaults freeze a network.
WITH_FROZEN = [
    key
    for key in EVERY
    if any(isinstance(source, Frozen) for source in METHODS[key]().networks().values())
]


@dataclass
class Observed:
    """What was seen of one run from its first step to its end."""

    run: TrainingRun
    start: dict[str, dict[str, Tensor]]
    start_data: dict[str, set[int]]
    touched: set[str] = field(default_factory=set)
    steps: int = 0
    stepping: bool = False
    modes: dict[str, set[bool]] = field(default_factory=lambda: defaultdict(set))
    graphs: dict[str, set[bool]] = field(default_factory=lambda: defaultdict(set))


def trainable(run: TrainingRun) -> dict[str, nn.Parameter]:
    """All parameters that the run is meant to train, by role and name."""
    modules = {**run.networks.trained, "helpers": run.networks.helpers}
    return {f"{r}.{n}": p for r, m in modules.items() for n, p in m.named_parameters()}


def untrained(run: TrainingRun) -> dict[str, nn.Module]:
    """The networks that must get no gradient, by role."""
    frozen = {role: network.model for role, (network, _) in run.networks.teachers.items()}
    return {**frozen, **run.networks.followers}


def state(modules: dict[str, nn.Module]) -> dict[str, dict[str, Tensor]]:
    return {r: {k: v.clone() for k, v in m.state_dict().items()} for r, m in modules.items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def storages(module: nn.Module) -> set[int]:
    return {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}


def watched(world, job: TrainingJob) -> tuple[Observed, Any]:
    """Train a run alone and look at it after every step."""
    seen: list[Observed] = []

    class Watched(TrainingRun):
        def __init__(self, job, context):
            super().__init__(job, context)
            everything = {
                **self.networks.trained,
                "helpers": self.networks.helpers,
                **untrained(self),
            }
            watch = Observed(
                self, state(everything), {role: storages(m) for role, m in everything.items()}
            )
            seen.append(watch)
            for role, network in {**self.networks.extractors, **untrained(self)}.items():
                for part in network.modules():
                    if not list(part.children()):
                        part.register_forward_hook(self.looker(watch, role))

        def looker(self, watch, role):
            def look(module, given, out):
                if watch.stepping:
                    watch.modes[role].add(module.training)
                    watch.graphs[role].add(out.requires_grad)

            return look

        def step(self, batch):
            watch = seen[0]
            watch.stepping = True
            super().step(batch)
            watch.stepping = False
            watch.steps += 1
            for name, parameter in trainable(self).items():
                if parameter.grad is not None and parameter.grad.abs().sum() > 0:
                    watch.touched.add(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "TrainingRun", Watched)
        outcome = world.alone(job)
    return seen[0], outcome


def live(world, key: str):
    """A method's run whose frozen networks are asked live, so that they can be watched."""
    return world.job(key, recipe={"teacher_outputs": "live"})


@pytest.fixture(scope="module")
def seen(world):
    """`seen(key)`: the watched run of a method, trained once for all tests below."""
    kept: dict[str, Any] = {}

    def get(key: str) -> tuple[Observed, Any]:
        if key not in kept:
            kept[key] = watched(world, live(world, key))
        return kept[key]

    return get


@pytest.mark.parametrize("key", EVERY)
def test_a_gradient_reaches_every_trained_tensor_and_no_other(seen, key):
    watch, outcome = seen(key)
    assert outcome.finished is not None, outcome.failed
    assert watch.steps == 9
    assert set(trainable(watch.run)) - watch.touched == set()
    for role, network in untrained(watch.run).items():
        for name, parameter in network.named_parameters():
            assert parameter.grad is None, f"{role}.{name}"
            assert not parameter.requires_grad, f"{role}.{name}"


@pytest.mark.parametrize("key", EVERY)
def test_the_optimiser_holds_just_what_is_trained_and_moves_all_of_it(seen, key):
    watch, outcome = seen(key)
    run = watch.run
    held = [p for group in run.optimizer.param_groups for p in group["params"]]
    wanted = trainable(run)
    assert len(held) == len({id(p) for p in held})
    assert {id(p) for p in held} == {id(p) for p in wanted.values()}
    assert outcome.result["parameters"] == sum(p.numel() for p in wanted.values())
    for name, parameter in wanted.items():
        role, _, inside = name.partition(".")
        assert not torch.equal(parameter.detach(), watch.start[role][inside]), name


@pytest.mark.parametrize("key", WITH_FROZEN)
def test_frozen_networks_stay_as_they_were_to_the_last_bit(world, seen, key):
    watch, _ = seen(key)
    run = watch.run
    for role, (network, cached) in run.networks.teachers.items():
        assert not cached
        now = dict(network.model.state_dict())
        assert same(now, watch.start[role]), role
        # Nor has the file behind it changed, which other runs will load.
        run_id = run.spec.frozen_runs[role]
        assert same(now, dict(load_student(world.store, run_id, "last", world.data).state_dict()))


@pytest.mark.parametrize("key", WITH_FROZEN)
def test_frozen_networks_stay_as_they_were_when_read_from_a_table(world, key):
    job = world.job(key, data={"augment": "none"}, recipe={"epochs": 1})
    assert job.spec.frozen_runs
    watch, outcome = watched(world, job)
    assert outcome.finished is not None, outcome.failed
    for role, (network, cached) in watch.run.networks.teachers.items():
        assert cached
        assert same(dict(network.model.state_dict()), watch.start[role]), role
    assert set(trainable(watch.run)) - watch.touched == set()


@pytest.mark.parametrize("key", EVERY)
def test_what_is_trained_is_in_train_mode_on_every_batch_and_nothing_else(seen, key):
    watch, _ = seen(key)
    for role in watch.run.networks.sources:
        assert watch.modes[role] == {role in watch.run.networks.trained}, role


@pytest.mark.parametrize("key", EVERY)
def test_what_is_not_trained_makes_no_graph(seen, key):
    watch, _ = seen(key)
    for role in untrained(watch.run):
        assert watch.graphs[role] == {False}, role


@pytest.mark.parametrize("key", EVERY)
def test_no_two_networks_share_storage(seen, key):
    watch, _ = seen(key)
    run = watch.run
    networks = {**run.networks.trained, **untrained(run), "helpers": run.networks.helpers}
    owner: dict[int, str] = {}
    for role, module in networks.items():
        for pointer in storages(module):
            assert owner.setdefault(pointer, role) == role
        # Loading and moving keep the tensors: an optimiser holds the ones that are used.
        assert storages(module) == watch.start_data[role]


@pytest.mark.parametrize("key", EVERY)
def test_logged_terms_are_finite_and_sum_to_the_loss(seen, key):
    watch, outcome = seen(key)
    weights = watch.run.method.loss_weights()
    assert outcome.result["loss_weights"] == weights
    assert all(math.isfinite(value) for value in weights.values())
    assert [row["epoch"] for row in outcome.rows] == [1, 2, 3]
    for row in outcome.rows:
        terms = {k.removeprefix("train.loss."): v for k, v in row.items() if "train.loss." in k}
        assert terms.keys() == weights.keys()
        assert all(math.isfinite(value) for value in terms.values())
        assert sum(terms.values()) == pytest.approx(row["train.loss"], rel=1e-5)
        assert {"lr", "train.accuracy", "val.accuracy", "val.nll"} <= row.keys()


@pytest.mark.parametrize("key", EVERY)
def test_two_runs_of_one_spec_agree_bit_for_bit(world, seen, key):
    _, first = seen(key)
    torch.manual_seed(12345)  # the caller's random numbers are no part of a spec
    second = world.alone(live(world, key))
    assert second.weights == first.weights
    assert second.metrics == first.metrics
    assert second.result == first.result


@pytest.mark.parametrize("key", EVERY)
def test_interrupted_and_resumed_is_as_uninterrupted(world, seen, key):
    _, whole = seen(key)
    job = live(world, key)
    asked = iter(range(100))
    # Stopped one step into the second epoch: that step is lost, the first epoch is kept.
    first = world.train(job, stopping=lambda: next(asked) >= 4)[job.spec.id]
    assert first.finished is None
    assert [row["epoch"] for row in first.rows] == [1]
    assert first.checkpoint is not None
    torch.manual_seed(999)
    second = world.alone(replace(job, checkpoint=first.checkpoint))
    assert [row["epoch"] for row in second.rows] == [2, 3]
    assert first.metrics + second.metrics == whole.metrics
    assert second.weights == whole.weights
    assert second.result == whole.result


class Raises(METHODS["ce"]):
    """Fails in the middle of the second epoch."""

    def loss(self, out, batch, helpers, progress):
        if progress.step > 0.5:
            raise RuntimeError("meant to fail")
        return super().loss(out, batch, helpers, progress)


class Diverges(METHODS["ce"]):
    """Its loss is not a number from the middle of the second epoch on."""

    def loss(self, out, batch, helpers, progress):
        terms = super().loss(out, batch, helpers, progress)
        return {"task": terms["task"] * float("nan" if progress.step > 0.5 else "1")}


def odd(world, kind: type, name: str) -> TrainingJob:
    """A run of a method that is in no table."""
    job = world.job("ce")
    return TrainingJob(replace(job.spec, method=name), kind(), ())


@pytest.fixture(scope="module")
def company(world):
    """All methods in one cohort, between a mate that raises and one that diverges."""
    jobs = [live(world, key) for key in EVERY]
    mates = [odd(world, Raises, "raises"), odd(world, Diverges, "diverges")]
    outcomes = world.train(mates[0], *jobs[::2], mates[1], *jobs[1::2])
    by_key = {key: outcomes[job.spec.id] for key, job in zip(EVERY, jobs, strict=True)}
    return by_key, [outcomes[mate.spec.id] for mate in mates]


@pytest.mark.parametrize("key", EVERY)
def test_a_run_in_company_is_as_alone(company, seen, key):
    mates, _ = company
    _, alone = seen(key)
    assert mates[key].weights == alone.weights
    assert mates[key].metrics == alone.metrics
    assert mates[key].result == alone.result


def test_the_mates_that_went_wrong_said_so(company):
    _, (raises, diverges) = company
    assert raises.finished is None
    assert "meant to fail" in raises.failed.error["message"]
    assert "Traceback" in raises.failed.error["traceback"]
    assert diverges.failed is None
    assert diverges.result["state"] == "diverged"
    assert diverges.result["diverged_epoch"] == 2
    assert diverges.finished.weights is None
    assert [row["epoch"] for row in diverges.rows] == [1, 2]
    assert "train.loss" in diverges.rows[0]
    assert "train.loss" not in diverges.rows[1]


@pytest.mark.parametrize("key", EVERY)
def test_every_method_starts_from_the_same_student(world, seen, key):
    ours = seen(key)[0].start["student"]
    assert same(ours, seen("ce")[0].start["student"])
