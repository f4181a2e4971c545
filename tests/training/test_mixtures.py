"""Recipes with mixup and CutMix: what is mixed, with which labels, and who can learn from it."""

import dataclasses

import numpy as np
import pytest
import torch
from support.desk import study_of
from torch.nn import functional as F

from kdbench.methods import METHODS, STRONG
from kdbench.methods.types import NO_LABEL, LabelsRead, MixedBatch
from kdbench.study.planner import Planner
from kdbench.training.batches import MIXTURE
from kdbench.training.cuda_graphs.pool import GraphPool
from kdbench.training.examples import examples_of
from kdbench.training.mixtures import draw_mixtures, own_share
from kdbench.training.run import TrainingRun, batches_for

FEW = {"labelled": 20, "unlabelled": 2}
KINDS = [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 1.0}]


def begun(world, job, epoch=0):
    context = world.context()
    run = TrainingRun(job, context)
    return run, batches_for([run], context, examples_of(job.spec, context), epoch)


def recipe_of(**values):
    return study_of("ce", recipe=values).recipe.resolve()


def test_shares_follow_the_beta_distribution():
    rng = np.random.default_rng(0)
    cut, share, y, _ = draw_mixtures(recipe_of(cutmix=1.0), rng, 4000).unbind(1)
    assert cut.all()
    assert abs(share.mean() - 0.5) < 0.02  # beta(1, 1) is uniform
    assert abs(share.std() - 12**-0.5) < 0.01
    assert abs(y.mean() - 0.5) < 0.02
    cut, share, *_ = draw_mixtures(recipe_of(mixup=0.4), rng, 4000).unbind(1)
    assert not cut.any()
    assert share.min() >= 0.5
    # The mean of |b - 1/2| for beta(0.4, 0.4) by many draws of it.
    expected = np.abs(np.random.default_rng(1).beta(0.4, 0.4, 200_000) - 0.5).mean()
    assert abs(share.mean() - 0.5 - expected) < 0.01
    cut, *_ = draw_mixtures(recipe_of(mixup=0.4, cutmix=1.0), rng, 4000).unbind(1)
    assert abs(cut.mean() - 0.5) < 0.03


def test_a_rectangle_has_the_area_of_the_rest_less_what_lies_outside():
    inside = own_share(torch.tensor([1.0, 0.75, 0.5, 0.5]), 32, 32)
    expected = torch.ones(32, 32)
    expected[8:24, 8:24] = 0  # a quarter, with sides of a half
    assert torch.equal(inside, expected)
    corner = own_share(torch.tensor([1.0, 0.75, 0.0, 0.0]), 32, 32)
    assert corner.mean() == 1 - 1 / 16
    assert torch.equal(own_share(torch.tensor([1.0, 1.0, 0.5, 0.5]), 8, 8), torch.ones(8, 8))
    assert own_share(torch.tensor([0.0, 0.75, 0.5, 0.5]), 8, 8).unique().tolist() == [0.75]


@pytest.mark.parametrize("recipe", KINDS)
@pytest.mark.parametrize("data", [None, FEW])
def test_images_and_labels_are_mixed_by_the_same_share(world, recipe, data):
    _, batches = begun(world, world.job("kd", recipe=recipe, data=data))
    for batch in batches:
        plain = batch.views.take(batch.position, batch.view_ids[0])
        share = own_share(*batch.others[MIXTURE], 8, 8)
        seen = batch.of_loss(torch.Generator(), 0.0)
        first, second = seen.pairs
        for i in range(len(batch)):
            start = 0 if i < batch.labelled else batch.labelled
            stop = batch.labelled if i < batch.labelled else len(batch)
            other = i - 1 if i > start else stop - 1
            expected = share * plain[i] + (1 - share) * plain[other]
            torch.testing.assert_close(batch.images(0)[i], expected)
            assert (first[i], second[i]) == (batch.labels[i], batch.labels[other])
        assert torch.equal(seen.share, share.mean())
        assert seen.images.is_contiguous(memory_format=torch.channels_last)
        assert bool((first[batch.labelled :] == NO_LABEL).all())


@pytest.mark.parametrize("key", ["ce", "kd", "mean-teacher", "ddgsd"])
def test_the_loss_is_that_with_both_labels(world, key):
    recipe = {"mixup": 0.8, "label_smoothing": 0.1, "class_weights": "balanced", "epochs": 1}
    run, (batch, *_) = begun(world, world.job(key, recipe=recipe))
    run.begin_epoch(1)
    roles = ("student", "other") if key == "ddgsd" else ("student",)
    logits = torch.cat([run._forward(role, batch).logits for role in roles])
    seen = batch.of_loss(run.generator, 0.1)
    both = [
        F.cross_entropy(
            logits, labels.repeat(len(roles)), batch.class_weights, label_smoothing=0.1
        ).item()
        for labels in (batch.labels, batch.labels.roll(1))
    ]
    expected = seen.share * both[0] + (1 - seen.share) * both[1]
    run.step(batch)
    weight = run.method.loss_weights()["task"]
    assert run.loss_sums["task"].item() / len(batch) == pytest.approx(
        (weight * expected).item(), rel=1e-5
    )


def test_teacher_and_every_view_see_the_mixtures(world):
    run, (batch, *_) = begun(world, world.job("kd", recipe={"mixup": 0.8}))
    run.begin_epoch(1)
    teacher, cached = run.networks.teachers["teacher"]
    assert not cached
    answer = teacher.live(batch.images(0), ()).logits
    assert torch.equal(run._forward("teacher", batch).logits, answer)
    _, (batch, *_) = begun(world, world.job("fixmatch", recipe={"mixup": 0.8}))
    strong = batch.strong.take(batch.position, batch.others[STRONG][0])
    share = own_share(*batch.others[MIXTURE], 8, 8)
    torch.testing.assert_close(
        batch.images(STRONG), share * strong + (1 - share) * strong.roll(1, 0)
    )


@pytest.mark.parametrize("graphs", [None, GraphPool])
def test_runs_are_the_same_alone_together_and_after_a_stop(world, graphs):
    recipe = {"mixup": 0.2, "cutmix": 1.0, "ema": 0.8}
    jobs = [world.job(key, recipe=recipe) for key in ("kd", "fixmatch")]
    together = world.train(*jobs, graphs=graphs and graphs())
    for job in jobs:
        alone, outcome = world.alone(job), together[job.spec.id]
        assert (outcome.metrics, outcome.weights) == (alone.metrics, alone.weights)
    asked = iter(range(100))
    part = world.train(jobs[0], stopping=lambda: next(asked) >= 4)[jobs[0].spec.id]
    rest = world.alone(dataclasses.replace(jobs[0], checkpoint=part.checkpoint))
    assert rest.weights == together[jobs[0].spec.id].weights


def test_a_mixed_batch_has_no_label_for_each_image():
    two = torch.zeros(2)
    batch = MixedBatch(two, (two, two), torch.tensor(0.5), two, torch.Generator())
    with pytest.raises(LabelsRead, match=r"recipe.mixup.*have two"):
        _ = batch.labels


def test_methods_that_read_labels_are_left_out_with_the_reason(world):
    """And all others learn."""
    keys = [key for key in METHODS if key not in ("takd", "eskd", "dot")]
    study = world.study(*keys, student="digits-cnn-small", recipe={"mixup": 0.2})
    reasons = {
        key: reason
        for key, reason in Planner(study, world.data, world.store).incompatible.items()
        if reason
    }
    reading = {
        "crd", "dkd", "kdcl", "nd", "nkd", "ofa", "rld", "sdd-dkd", "sdd-kd", "tf-kd-reg", "wkd-l",
        "wsld",
    }  # fmt: skip
    assert {key for key, reason in reasons.items() if "reads the label" in reason} == reading
    others = {key: reason for key, reason in reasons.items() if key not in reading}
    assert others.keys() == {"cs-kd", "dlb", "function-matching", "jacobian"}
    assert "same-class examples" in others["cs-kd"]
    assert "mixed examples" in others["function-matching"]
    assert "gradients" in others["jacobian"]
