"""Networks that are asked again, and the other examples that they are shown."""

import dataclasses

import torch
from torch.nn import functional as F

from kdbench.methods import METHODS, PREVIOUS, SAME_CLASS, Shared, Trained
from kdbench.methods.ce import CE
from kdbench.testing.training import other_run
from kdbench.training.cuda_graphs.pool import GraphPool
from kdbench.training.examples import examples_of
from kdbench.training.other_examples import of_same_class
from kdbench.training.run import TrainingRun, batches_for


def epochs_of(world, key, *epochs):
    context = world.context()
    run = TrainingRun(world.job(key), context)
    examples = examples_of(run.spec, context)
    return (
        context,
        examples.labelled,
        [batches_for([run], context, examples, epoch) for epoch in epochs],
    )


def test_partners_are_examples_of_the_same_class_that_are_trained_on(world):
    context, fit, epochs = epochs_of(world, "cs-kd", 0, 1)
    shown = []
    for batch in [batch for batches in epochs for batch in batches]:
        position, ids = batch.others[SAME_CLASS]
        assert torch.equal(world.data.labels[position], batch.labels)
        assert set(position.tolist()) <= set(fit.tolist())
        expected = context.views("flip").take(position, ids)
        assert torch.equal(batch.images(SAME_CLASS), expected)
        shown.append((batch.position, position))
    own, partner = (torch.cat(tensors) for tensors in zip(*shown, strict=True))
    assert (own != partner).float().mean() > 0.8


def test_every_example_of_a_class_is_drawn_alike():
    labels = torch.tensor([1, 0, 1, 1, 0, 2])
    positions = torch.tensor([5, 0, 4, 2, 1])
    for share, expected in ((0.0, [5, 0, 4, 0, 4]), (0.99, [5, 2, 1, 2, 1])):
        chosen = of_same_class(labels, positions, torch.full((5,), share))
        assert chosen.tolist() == expected


def test_the_batch_before_is_shown_again_across_epochs(world):
    _, fit, epochs = epochs_of(world, "dlb", 0, 1)
    every = [batch for batches in epochs for batch in batches]
    first = every[0]
    assert torch.equal(first.others[PREVIOUS][0], first.position)
    whole = torch.cat([batch.position for batch in every])
    for index, batch in enumerate(every[1:], 1):
        previous = batch.previous()
        start = 0 if index == 1 else sum(map(len, every[: index - 1]))
        if index == 3:  # an epoch's last batch is smaller
            start = len(fit) - len(batch)
        assert torch.equal(previous.position, whole[start : start + len(batch)])
        assert torch.equal(previous.labels, world.data.labels[previous.position])
    assert not torch.equal(every[1].others[PREVIOUS][1], every[0].view_ids[0])


class Again(CE):
    """The student once more, on view 0 as well."""

    def networks(self):
        return {"student": Trained(), "again": Shared()}

    def loss(self, out, batch, helpers, progress):
        assert out["again"].logits.requires_grad
        logits = out["student"].logits + 0 * out["again"].logits
        return {"task": F.cross_entropy(logits, batch.labels)}


def test_a_network_that_is_asked_again_sees_batch_statistics_twice_and_has_one_set_of_weights(
    world,
):
    context = world.context()
    job = dataclasses.replace(world.job("ce"), method=Again())
    run = TrainingRun(job, context)
    examples = examples_of(run.spec, context)
    (batch, *_) = batches_for([run], context, examples, 0)
    run.begin_epoch(3)
    run.step(batch)
    student = run.networks.trained["student"]
    assert student.norm1.num_batches_tracked == 2
    assert len(run.networks.trainable()) == len(list(student.parameters()))
    # Dropout of its own: the two passes are not the same.
    assert run._dropout["student"] != run._dropout["again"]


def test_other_examples_memories_and_classifiers_can_be_captured(world):
    few = {"crd": {"negatives": 50, "width": 8}, "rrd": {"queue": 50, "width": 8}}
    jobs = [world.job(key, hparams=few.get(key)) for key in ("cs-kd", "dlb", "crd", "rrd")]
    together = world.train(*jobs, graphs=GraphPool())
    for job in jobs:
        alone, outcome = world.alone(job), together[job.spec.id]
        assert outcome.metrics == alone.metrics
        assert outcome.weights == alone.weights


def test_a_run_goes_on_after_the_only_one_that_looked_at_other_examples(world):
    class Leaves(METHODS["cs-kd"]):
        def loss(self, out, batch, helpers, progress):
            if progress.epoch > 0:
                raise ArithmeticError("no such loss")
            return super().loss(out, batch, helpers, progress)

    job = world.job("ce")
    leaves = dataclasses.replace(other_run(job, CE), method=Leaves())
    outcomes = world.train(job, leaves, graphs=GraphPool())
    assert outcomes[leaves.spec.id].failed is not None
    assert outcomes[job.spec.id].weights == world.alone(job).weights
