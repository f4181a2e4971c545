"""Mixed images: what they are, who is shown them, and that nothing else changes."""

import dataclasses

import numpy as np
import pytest
import torch

from kdbench.methods import MIXED, Snapshot, Trained
from kdbench.methods.function_matching import FunctionMatching
from kdbench.methods.kd import KD
from kdbench.training.cuda_graphs.pool import GraphPool
from kdbench.training.examples import examples_of
from kdbench.training.other_examples import first_shares, mixed
from kdbench.training.run import TrainingRun, batches_for, input_of

LIVE = {"teacher_outputs": "live"}


def begun(world, job, epoch=0):
    """A run, and the batches of an epoch."""
    context = world.context()
    run = TrainingRun(job, context)
    examples = examples_of(job.spec, context)
    return run, batches_for([run], context, examples, epoch)


def test_each_image_is_mixed_with_the_one_before_it():
    images, shares = torch.randn(4, 3, 5, 5), torch.tensor([0.9, 0.6, 1.0, 0.5])
    got = mixed(images, shares)
    for i, share in enumerate(shares.tolist()):
        expected = share * images[i].double() + (1 - share) * images[i - 1].double()
        torch.testing.assert_close(got[i].double(), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(got[2], images[2])
    last = torch.channels_last
    assert mixed(images.to(memory_format=last), shares).is_contiguous(memory_format=last)


def test_shares_are_one_for_each_batch_and_at_least_a_half():
    shares = first_shares(np.random.default_rng(0), 10_050, 10).reshape(-1, 10)
    assert (shares == shares[:, :1]).all()
    each = shares[:, 0]
    assert each.dtype == np.float32
    assert each.min() >= 0.5
    assert each.max() < 1
    # The larger of u and 1 - u is uniform in [0.5, 1).
    assert abs(each.mean() - 0.75) < 0.02
    assert abs(each.std() - 0.5 / 12**0.5) < 0.01
    assert len(first_shares(np.random.default_rng(0), 7, 4)) == 7


def test_teacher_and_student_see_the_same_images_to_the_bit(world):
    run, batches = begun(world, world.job("function-matching"))
    seen: dict[str, list[torch.Tensor]] = {"student": [], "teacher": []}
    student = run.networks.extractors["student"]
    teacher = run.networks.teachers["teacher"][0].network(())
    for role, network in (("student", student), ("teacher", teacher)):
        network.register_forward_hook(
            lambda _module, inputs, _out, role=role: seen[role].append(inputs[0].clone())
        )
    run.begin_epoch(len(batches))
    for batch in batches:
        run.step(batch)
    assert len(seen["student"]) == len(seen["teacher"]) == len(batches)
    assert all(map(torch.equal, seen["student"], seen["teacher"]))
    for batch, images in zip(batches, seen["student"], strict=True):
        (share,) = batch.others[MIXED]
        assert len(share) == len(batch)
        assert (share == share[0]).all()
        assert torch.equal(
            images, mixed(batch.views.take(batch.position, batch.view_ids[0]), share)
        )
        assert not torch.equal(images, batch.images(0))


class Elsewhere(KD):
    """Another method whose student alone is shown mixed images."""

    examples = {"student": MIXED}  # noqa: RUF012


def test_mixtures_do_not_depend_on_the_method_and_change_with_epoch_and_seed(world):
    job = world.job("function-matching")
    other = dataclasses.replace(world.job("kd"), method=Elsewhere())

    def images(job, epoch):
        return [batch.images(MIXED) for batch in begun(world, job, epoch)[1]]

    assert all(map(torch.equal, images(job, 0), images(other, 0)))
    shares = [
        begun(world, world.job("function-matching", seed), epoch)[1][0].others[MIXED][0][0].item()
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert len(set(shares)) == 3


def test_a_teacher_that_is_shown_plain_images_may_be_cached(world):
    method, recipe = Elsewhere(), {"teacher_outputs": "cache"}
    job = dataclasses.replace(world.job("kd", recipe=recipe), method=method)
    assert begun(world, job)[0].networks.teachers["teacher"][1]
    matching = world.job("function-matching", recipe=recipe)
    assert not begun(world, matching)[0].networks.teachers["teacher"][1]


@pytest.mark.parametrize("graphs", [None, GraphPool])
def test_other_runs_do_not_change_by_a_bit(world, graphs):
    """The teacher answers for the batch's own images and for the mixed ones."""
    jobs = [world.job(key, recipe=LIVE) for key in ("kd", "function-matching", "hint")]
    together = world.train(*jobs, graphs=graphs and graphs())
    for job in jobs:
        alone, outcome = world.alone(job), together[job.spec.id]
        assert outcome.metrics == alone.metrics
        assert outcome.weights == alone.weights


class Leaves(FunctionMatching):
    def loss(self, out, batch, helpers, progress):
        if progress.epoch > 0:
            raise ArithmeticError("no such loss")
        return super().loss(out, batch, helpers, progress)


def test_a_run_goes_on_after_the_only_one_that_looked_at_mixed_images(world):
    job = world.job("kd", recipe=LIVE)
    leaves = dataclasses.replace(world.job("function-matching", recipe=LIVE), method=Leaves())
    outcomes = world.train(job, leaves, graphs=GraphPool())
    assert outcomes[leaves.spec.id].failed is not None
    assert outcomes[job.spec.id].weights == world.alone(job).weights


class OwnPast(FunctionMatching):
    """The teacher is the student after the last epoch."""

    def networks(self):
        return {"student": Trained(), "teacher": Snapshot()}


def test_a_network_of_the_run_is_shown_mixed_images_too(world):
    run, (batch, *_) = begun(world, dataclasses.replace(world.job("ce"), method=OwnPast()))
    run.begin_epoch(3)
    assert input_of(run.method, "teacher") == MIXED
    expected = run.networks.followers["teacher"](batch.images(MIXED))
    assert torch.equal(run._forward("teacher", batch).logits, expected)
