"""Few labels: who gets them, what a step shows, and that no hidden label reaches anything."""

import dataclasses

import numpy as np
import pytest
import torch

from kdbench.data import few_labels, split
from kdbench.methods.types import NO_LABEL
from kdbench.training import examples as examples_module
from kdbench.training.examples import examples_of
from kdbench.training.run import TrainingRun, batches_for

FEW = {"labelled": 20, "unlabelled": 2}


def epoch_of(world, key, epoch=0, **changes):
    context = world.context()
    run = TrainingRun(world.job(key, data={**FEW, **changes}), context)
    examples = examples_of(run.spec, context)
    return examples, batches_for([run], context, examples, epoch)


def test_only_the_labelled_images_and_those_that_validate_have_labels(world):
    examples, _ = epoch_of(world, "kd")
    known = (examples.labels != NO_LABEL).nonzero().flatten()
    assert len(examples.labelled) == 20
    assert set(known.tolist()) == {*examples.labelled.tolist(), *examples.held_out.tolist()}
    assert torch.equal(examples.labels[known], world.data.labels[known])
    every = torch.cat([examples.labelled, examples.unlabelled, examples.held_out])
    assert sorted(every.tolist()) == list(range(len(world.data.labels)))


def test_a_final_run_has_no_more_labels_than_tuning(world):
    tuning, _ = epoch_of(world, "kd")
    final, _ = epoch_of(world, "kd", train_on="all")
    assert torch.equal(final.labelled, tuning.labelled)
    assert len(final.held_out) == 0
    assert set(tuning.held_out.tolist()) <= set(final.unlabelled.tolist())
    known = (final.labels != NO_LABEL).nonzero().flatten()
    assert sorted(known.tolist()) == sorted(final.labelled.tolist())


def test_labels_are_kept_in_equal_shares_of_the_classes():
    labels = torch.arange(1000) % 10
    fit, _ = split(labels, 200, 0)
    kept = few_labels(labels, fit, 40, 0)
    assert set(kept.tolist()) <= set(fit.tolist())
    assert torch.equal(labels[kept].bincount(), torch.full((10,), 4))
    assert torch.equal(kept, few_labels(labels, fit, 40, 0))
    assert not torch.equal(kept, few_labels(labels, fit, 40, 1))


@pytest.mark.parametrize("count", [9, 791])
def test_too_few_or_too_many_labels_are_refused(count):
    labels = torch.arange(1000) % 10
    with pytest.raises(ValueError, match="with 10 classes it takes 10 to 790"):
        few_labels(labels, split(labels, 200, 0)[0], count, 0)


def test_a_class_that_would_have_no_label_is_named():
    labels = torch.tensor([0] * 500 + [1] * 500 + [2] * 3)
    with pytest.raises(ValueError, match="of 4 images with labels none would show class 2"):
        few_labels(labels, torch.arange(len(labels)), 4, 0)


def test_an_epoch_shows_each_image_without_a_label_once(world):
    examples, batches = epoch_of(world, "kd")
    rest = torch.cat([batch.position[batch.labelled :] for batch in batches])
    assert sorted(rest.tolist()) == sorted(examples.unlabelled.tolist())
    for batch in batches[:-1]:
        assert (batch.labelled, len(batch)) == (20, 60)
    for batch in batches:
        own = batch.position[: batch.labelled]
        assert sorted(own.tolist()) == sorted(examples.labelled.tolist())
        assert torch.equal(batch.labels[: batch.labelled], world.data.labels[own])
        assert bool((batch.labels[batch.labelled :] == NO_LABEL).all())
        assert torch.equal(batch.images(0), batch.views.take(batch.position, batch.view_ids[0]))


def test_a_pass_over_the_labelled_images_has_no_image_twice_in_a_batch(world):
    context = world.context()
    job = world.job("kd", data=FEW, recipe={"batch": 8})
    examples = examples_of(job.spec, context)
    run = TrainingRun(job, context)
    shown = []
    for epoch in range(6):
        for batch in batches_for([run], context, examples, epoch):
            own = batch.position[: batch.labelled].tolist()
            assert len(set(own)) == len(own) == 8
            shown += own
    assert set(shown) == set(examples.labelled.tolist())


def test_a_method_without_use_for_them_sees_the_same_labelled_images_and_steps(world):
    _, with_rest = epoch_of(world, "kd", epoch=1)
    _, alone = epoch_of(world, "ce", epoch=1)
    assert len(alone) == len(with_rest)
    for one, other in zip(alone, with_rest, strict=True):
        assert len(one) == other.labelled
        assert torch.equal(one.position, other.position[: other.labelled])
        assert torch.equal(one.view_ids[0], other.view_ids[0][: other.labelled])
        assert dataclasses.astuple(one.progress) == dataclasses.astuple(other.progress)


@pytest.mark.parametrize(
    "key", ["kd", "ce", "mean-teacher", "cs-kd", "function-matching", "fixmatch", "noisy-student"]
)
def test_no_run_learns_from_a_hidden_label(world, monkeypatch, key):
    """Noise in place of the hidden labels gives the same run to the last bit."""
    job = world.job(key, data=FEW)
    first = world.alone(job)
    parts = examples_of(job.spec, world.context())
    hidden = (parts.labels == NO_LABEL).nonzero().flatten()
    noise = world.data.labels.clone()
    noise[hidden] = torch.from_numpy(np.random.default_rng(0).integers(10, size=len(hidden)))
    # The split is stratified by all labels, as a benchmark needs it; it is not what is tested.
    monkeypatch.setattr(examples_module, "split", lambda *_: (
        torch.cat([parts.labelled, parts.unlabelled]).sort().values, parts.held_out
    ))  # fmt: skip
    monkeypatch.setattr(examples_module, "few_labels", lambda *_: parts.labelled)
    noisy = dataclasses.replace(world, data=dataclasses.replace(world.data, labels=noise))
    second = noisy.alone(job)
    assert (second.metrics, second.weights) == (first.metrics, first.weights)


def test_unlabelled_images_change_what_a_method_with_a_teacher_learns(world):
    """And the labelled ones alone what one without learns."""
    few = {**FEW, "unlabelled": 3}
    kd = [world.alone(world.job("kd", data=data)).weights for data in (FEW, few)]
    assert kd[0] != kd[1]


def test_accuracy_in_training_is_over_the_labelled_images(world):
    job = world.job("kd", hparams={"alpha": 0.05}, data=FEW, recipe={"epochs": 30})
    rows = world.alone(job).rows
    assert rows[-1]["train.accuracy"] > 0.8  # at most 20 of 60 images a step could be right


def test_runs_with_and_without_unlabelled_images_train_in_one_cohort(world):
    jobs = [world.job(key, data=FEW) for key in ("ce", "kd", "dkd")]
    together = world.train(*jobs)
    for job in jobs:
        alone, mate = world.alone(job), together[job.spec.id]
        assert (mate.metrics, mate.weights) == (alone.metrics, alone.weights)
