"""Gradients with respect to images in training."""

import dataclasses

import pytest
import torch

from kdbench.methods import METHODS, Average, Trained
from kdbench.methods.kd import KD
from kdbench.study.planner import Planner
from kdbench.testing.world import entry
from kdbench.training.cuda_graphs.pool import GraphPool
from kdbench.training.examples import examples_of
from kdbench.training.run import TrainingRun, batches_for, live_layers

LIVE = {"teacher_outputs": "live"}


def begun(world, job):
    """A run before its first step, and the batches of its first epoch."""
    context = world.context()
    run = TrainingRun(job, context)
    examples = examples_of(job.spec, context)
    batches = batches_for([run], context, examples, 0)
    run.begin_epoch(len(batches))
    return run, batches


@pytest.mark.parametrize("graphs", [None, GraphPool])
def test_other_runs_do_not_change_by_a_bit(world, graphs):
    jobs = [world.job(key, recipe=LIVE) for key in ("kd", "jacobian", "hint")]
    together = world.train(*jobs, graphs=graphs and graphs())
    for job in jobs:
        alone, outcome = world.alone(job), together[job.spec.id]
        assert outcome.metrics == alone.metrics
        assert outcome.weights == alone.weights


def test_the_teacher_answers_live_whatever_the_recipe_says(world):
    for way in ("auto", "cache", "live"):
        recipe, data = {"teacher_outputs": way}, {"augment": "none"}
        run = TrainingRun(world.job("jacobian", recipe=recipe, data=data), world.context())
        assert [cached for _, cached in run.networks.teachers.values()] == [False]
        assert live_layers([run]) == {}  # nobody else is to wait for it
    study = world.study(entry("kd"), entry("jacobian"), data={"name": "digits", "validation": 30})
    planner = Planner(study, world.data, world.store, tune=False)
    plan = planner.plan()
    ways = {
        node.spec.method: planner.outputs.access(plan, node.id)
        for node in plan.nodes.values()
        if node.spec.frozen_runs
    }
    assert ways == {"kd": {"teacher": "cache"}, "jacobian": {"teacher": "live"}}


def test_the_gradients_are_those_of_the_networks_themselves(world):
    run, (batch, *_) = begun(world, world.job("jacobian"))
    run.networks.trained["student"].eval()  # no dropout
    for role in ("student", "teacher"):
        out = run._forward(role, batch)
        network = run.networks.teachers["teacher"][0].model
        if role == "student":
            network = run.networks.trained[role]
        images = batch.images(0).clone().requires_grad_()
        label_logits = network(images)[torch.arange(len(batch)), batch.labels]
        (expected,) = torch.autograd.grad(label_logits.sum(), images)
        torch.testing.assert_close(out.image_gradient, expected)
        assert out.image_gradient.requires_grad == (role == "student")
    assert not batch.images(0).requires_grad


class Averaged(METHODS["jacobian"]):
    """The teacher is the student's running mean."""

    def networks(self):
        return {"student": Trained(), "teacher": Average()}


def test_a_network_of_the_run_that_is_not_trained_has_image_gradients_too(world):
    job = dataclasses.replace(world.job("ce"), method=Averaged())
    run, (batch, *_) = begun(world, job)
    run.step(batch)
    out = run._forward("teacher", batch)
    assert out.image_gradient.abs().sum() > 0
    assert not out.image_gradient.requires_grad
    assert all(p.grad is None for p in run.networks.followers["teacher"].parameters())


class Unneeded(KD):
    """Asks for image gradients and reads none."""

    def image_score(self):
        return lambda logits, labels: logits.sum(dim=1)


def test_asking_for_gradients_does_not_change_the_answers(world):
    plain = world.job("kd", recipe=LIVE)
    asked = world.alone(dataclasses.replace(plain, method=Unneeded()))
    assert asked.metrics == world.alone(plain).metrics
    assert asked.weights == world.alone(plain).weights
