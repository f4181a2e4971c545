"""Strong views: who is shown them, and that they depend on spec and epoch alone."""

import dataclasses

import pytest
import torch

from kdbench.methods import STRONG
from kdbench.methods.kd import KD
from kdbench.training.cuda_graphs.pool import GraphPool
from kdbench.training.examples import examples_of
from kdbench.training.run import TrainingRun, batches_for

FEW = {"labelled": 20, "unlabelled": 2}


def begun(world, job, epoch=0):
    context = world.context()
    run = TrainingRun(job, context)
    return run, batches_for([run], context, examples_of(job.spec, context), epoch)


def test_teacher_and_weak_view_are_as_they_were_and_the_student_sees_the_strong_one(world):
    run, (batch, *_) = begun(world, world.job("noisy-student", data=FEW))
    strong = batch.images(STRONG)
    assert len(strong) == len(batch) == 60  # those without a label too
    assert torch.equal(batch.images(0), batch.views.take(batch.position, batch.view_ids[0]))
    away = (strong - batch.images(0)).abs().flatten(1).amax(1) > 1e-3
    assert away.float().mean() > 0.8
    run.begin_epoch(9)
    teacher, _ = run.networks.teachers["teacher"]
    assert torch.equal(
        run._forward("teacher", batch).logits, teacher.live(batch.images(0), ()).logits
    )
    seen = []
    run.networks.extractors["student"].register_forward_pre_hook(
        lambda _module, inputs: seen.append(inputs[0])
    )
    run._forward("student", batch)
    assert torch.equal(seen[0], strong)


class Elsewhere(KD):
    """Another method whose student is shown strong views."""

    examples = {"student": STRONG}  # noqa: RUF012


def test_strong_views_do_not_depend_on_the_method_and_change_with_epoch_and_seed(world):
    job = world.job("fixmatch")
    other = dataclasses.replace(world.job("kd"), method=Elsewhere())

    def first(job, epoch=0):
        return begun(world, job, epoch)[1][0].others[STRONG][0]

    assert torch.equal(first(job), first(other))
    assert not torch.equal(first(job), first(job, 1))
    assert not torch.equal(first(job), first(world.job("fixmatch", seed=1)))


def test_labelled_images_are_in_the_same_strong_views_with_and_without_the_others(world):
    alone = dataclasses.replace(world.job("kd", data=FEW), method=Elsewhere())
    object.__setattr__(alone.method, "unlabelled", False)
    _, batches = begun(world, world.job("fixmatch", data=FEW))
    _, fewer = begun(world, alone)
    for batch, part in zip(batches, fewer, strict=True):
        own = batch.others[STRONG][0][: batch.labelled]
        assert torch.equal(part.others[STRONG][0], own)


@pytest.mark.parametrize("graphs", [None, GraphPool])
def test_other_runs_do_not_change_by_a_bit(world, graphs):
    jobs = [world.job(key, data=FEW) for key in ("kd", "fixmatch")]
    together = world.train(*jobs, graphs=graphs and graphs())
    for job in jobs:
        alone, outcome = world.alone(job), together[job.spec.id]
        assert (outcome.metrics, outcome.weights) == (alone.metrics, alone.weights)


def test_generations_are_runs_of_the_plan(world):
    job = world.job("noisy-student", hparams={"generations": 2})
    earlier = world.store.record(job.spec.frozen_runs["teacher"]).spec()
    assert (earlier.method, earlier.hparams["generations"]) == ("noisy-student", 1)
    assert earlier.models["student"] == job.spec.models["student"]
    teacher = world.store.record(earlier.frozen_runs["teacher"]).spec()
    assert (teacher.method, teacher.models["student"]) == ("ce", "digits-cnn")
    assert world.alone(job).result["state"] == "done"


@pytest.mark.parametrize("key", ["fixmatch", "noisy-student"])
def test_images_without_labels_change_what_is_learned(world, key):
    weights = [
        world.alone(
            world.job(key, data=data, hparams={"threshold": 0.2} if key == "fixmatch" else None)
        ).weights
        for data in (FEW, {**FEW, "unlabelled": 3})
    ]
    assert weights[0] != weights[1]


# -- recipes whose images are changed at random

RANDOM = {"augment": "randaugment", "erasing": 0.5}


def test_a_recipe_s_images_are_changed_for_every_network_and_asked_of_a_live_teacher(world):
    run, (batch, *_) = begun(world, world.job("kd", recipe=RANDOM))
    run.begin_epoch(3)
    images, ids = batch.images(0), batch.view_ids[0][:, 0].long()
    plain = world.context().views("flip").take(batch.position, ids)
    assert ((images - plain).abs().flatten(1).amax(1) > 1e-3).float().mean() > 0.8
    teacher, cached = run.networks.teachers["teacher"]
    assert not cached
    assert torch.equal(run._forward("teacher", batch).logits, teacher.live(images, ()).logits)
    # Crops and mirroring are those of a recipe without.
    _, (before, *_) = begun(world, world.job("kd"))
    assert torch.equal(before.view_ids[0], ids)


@pytest.mark.parametrize(("augment", "graphs"), [("randaugment", None), ("autoaugment", GraphPool)])
def test_runs_on_changed_images_are_the_same_alone_and_together(world, augment, graphs):
    recipe = {**RANDOM, "augment": augment}
    jobs = [world.job(key, recipe=recipe) for key in ("kd", "mean-teacher", "cs-kd")]
    together = world.train(*jobs, graphs=graphs and graphs())
    for job in jobs:
        alone, outcome = world.alone(job), together[job.spec.id]
        assert (outcome.metrics, outcome.weights) == (alone.metrics, alone.weights)


def test_a_stopped_run_draws_the_same_images_again(world):
    job = world.job("fixmatch", recipe=RANDOM)
    whole, asked = world.alone(job), iter(range(100))
    part = world.train(job, stopping=lambda: next(asked) >= 4)[job.spec.id]
    assert part.finished is None
    rest = world.alone(dataclasses.replace(job, checkpoint=part.checkpoint))
    assert rest.weights == whole.weights
    assert part.metrics + rest.metrics == whole.metrics


def test_validation_and_test_see_plain_images(world):
    _, (batch, *_) = begun(world, world.job("ce", recipe=RANDOM))
    run, _ = begun(world, world.job("ce", recipe=RANDOM))
    examples = examples_of(run.spec, run.context)
    plain, _ = begun(world, world.job("ce"))
    assert run._validate(examples.held_out) == plain._validate(examples.held_out)
    assert batch.views is not run.context.views("none")
