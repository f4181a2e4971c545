"""What a recipe makes of the labels, and the mean of weights that it asks for."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors
from support.terms import Run, same
from torch.nn import functional as F

from kdbench.testing import fakes
from kdbench.training.cuda_graphs.pool import GraphPool
from kdbench.training.ema import Ema
from kdbench.training.examples import TrainingExamples, balanced_weights, examples_of
from kdbench.training.run import TrainingRun, batches_for
from kdbench.training.teachers import load_student

SMOOTHING = 0.3


def smoothed(logits, labels, share=SMOOTHING):
    """The cross-entropy against labels that are mixed with the uniform distribution."""
    target = torch.full_like(logits, share / logits.shape[1])
    target[torch.arange(len(labels)), labels] += 1 - share
    return -(target * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


def terms(run, **recipe):
    batch = dataclasses.replace(run.batch, **recipe)
    return run.method.loss(run.answered, batch, run.helpers, fakes.END)


@pytest.mark.parametrize("key", ["ce", "kd", "dkd", "mean-teacher", "fixmatch", "rkd"])
def test_label_smoothing_is_in_the_term_of_the_labels_and_no_other(key):
    run = Run(key)
    changed = terms(run, label_smoothing=SMOOTHING)
    weight = run.method.loss_weights()["task"]
    same(changed["task"], weight * smoothed(run.out["student"].logits, run.labels))
    for name, term in run.terms.items():
        if name != "task":
            same(changed[name], term)


def test_label_smoothing_is_in_the_terms_of_peers_exits_and_other_views():
    run = Run("kdcl")
    peer = terms(run, label_smoothing=SMOOTHING)["peer.task"]
    same(peer, smoothed(run.out["peer1"].logits, run.labels))
    run = Run("ddgsd", task_weight=1.0)
    both = sum(smoothed(run.out[role].logits, run.labels) for role in ("student", "other")) / 2
    same(terms(run, label_smoothing=SMOOTHING)["task"], both)
    run = Run("dlb")  # the second of two steps on the same images: all of them were seen
    both = sum(smoothed(run.out[role].logits, run.labels) for role in ("student", "again")) / 2
    same(terms(run, label_smoothing=SMOOTHING)["task"], both)


WEIGHTS = torch.tensor([0.5, 3.0, 1.0, 0.25, 2.0])


def weighted_mean(logits, labels, smoothing=0.0):
    logs, w = F.log_softmax(logits, dim=1), WEIGHTS.double()
    chosen = w[labels] * logs[torch.arange(len(labels)), labels]
    spread = (w * logs).sum(dim=1) / logits.shape[1]
    return -((1 - smoothing) * chosen + smoothing * spread).sum() / w[labels].sum()


@pytest.mark.parametrize("smoothing", [0.0, SMOOTHING])
def test_class_weights_are_those_of_a_weighted_mean(smoothing):
    recipe = {"class_weights": WEIGHTS, "label_smoothing": smoothing}
    for key in ("ce", "kd", "mean-teacher"):
        run = Run(key)
        expected = weighted_mean(run.out["student"].logits, run.labels, smoothing)
        changed = terms(run, **recipe)
        same(changed["task"], run.method.loss_weights()["task"] * expected)
        assert all(torch.equal(changed[n], t) for n, t in run.terms.items() if n != "task")
    run = Run("ddgsd", task_weight=1.0)
    both = torch.cat([run.out[role].logits for role in ("student", "other")])
    same(terms(run, **recipe)["task"], weighted_mean(both, run.labels.repeat(2), smoothing))
    run = Run("dlb")
    both = torch.cat([run.out[role].logits for role in ("student", "again")])
    same(terms(run, **recipe)["task"], weighted_mean(both, run.labels.repeat(2), smoothing))


def test_balanced_weights_are_scikit_learns(world):
    from sklearn.utils.class_weight import compute_class_weight

    spec = world.job("ce", data={"labelled": 31, "unlabelled": 2}).spec
    examples = examples_of(spec, world.context())
    labels = world.data.labels[examples.labelled].numpy()
    expected = compute_class_weight("balanced", classes=np.arange(10), y=labels)
    assert len(set(expected)) > 1
    torch.testing.assert_close(balanced_weights(examples, 10), torch.from_numpy(expected).float())


def test_a_class_without_images_has_no_share_in_smoothed_labels():
    """Otherwise its weight, the greatest, would teach the student to give it."""
    labels = torch.arange(40) % 2
    nothing = torch.empty(0, dtype=torch.int64)
    weights = balanced_weights(TrainingExamples(torch.arange(40), nothing, nothing, labels), 3)
    logits = torch.zeros(40, 3, requires_grad=True)
    F.cross_entropy(logits, labels, weights, label_smoothing=SMOOTHING).backward()
    assert (logits.grad[:, 2] > 0).all()


def test_a_recipe_with_class_weights_is_what_a_run_learns(world):
    job = world.job("kd", recipe={"class_weights": "balanced", "epochs": 1})
    context = world.context()
    run, examples = TrainingRun(job, context), examples_of(job.spec, context)
    (batch, *_) = batches_for([run], context, examples, 0)
    assert torch.equal(batch.class_weights, balanced_weights(examples, 10))
    plain, weighted = (world.alone(j) for j in (world.job("kd", recipe={"epochs": 1}), job))
    assert weighted.weights != plain.weights
    captured = world.train(job, graphs=GraphPool())[job.spec.id]
    assert captured.weights == weighted.weights


def last(outcome):
    return load_tensors(outcome.weights)


def test_a_recipe_with_label_smoothing_is_what_a_run_learns(world):
    """The loss of the first step, before any weight has moved."""
    job = world.job("ce", recipe={"label_smoothing": SMOOTHING, "epochs": 1})
    context = world.context()
    run = TrainingRun(job, context)
    (batch, *_) = batches_for([run], context, examples_of(job.spec, context), 0)
    run.begin_epoch(1)
    logits = run._forward("student", batch).logits
    expected = smoothed(logits, batch.labels).item()
    run.step(batch)
    assert run.loss_sums[""].item() / len(batch) == pytest.approx(expected, rel=1e-5)


# -- the mean of the weights


def test_ema_is_the_mean_written_out():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    ema = Ema(network, 0.9)
    mean = {name: value.double() for name, value in network.state_dict().items()}
    for _ in range(5):
        network(torch.randn(6, 3))  # moves the running statistics
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        ema.update()
        for name, value in network.state_dict().items():
            mean[name] = 0.9 * mean[name] + 0.1 * value
    for name, value in ema.mean.state_dict().items():
        if "num_batches" in name:
            assert value == 5
        else:
            torch.testing.assert_close(value.double(), mean[name])


@pytest.mark.parametrize("key", ["simkd", "mean-teacher"])
def test_the_mean_is_scored_and_saved_and_training_is_the_same(world, key):
    plain = world.job(key)
    job = replace(plain, spec=replace(plain.spec, recipe=replace(plain.spec.recipe, ema=0.8)))
    context = world.context()
    run = TrainingRun(job, context)
    alone, outcome = world.alone(plain), world.alone(job)
    for name in ("train.loss", "train.accuracy"):
        assert [r[name] for r in outcome.rows] == [r[name] for r in alone.rows]
    assert outcome.rows[-1]["val.nll"] != alone.rows[-1]["val.nll"]
    weights, raw = last(outcome), last(alone)
    assert weights.keys() == raw.keys()
    assert any(not torch.equal(weights[n], raw[n]) for n in raw)
    # What is saved is what was validated.
    world.keep(job)
    student = load_student(world.store, job.spec.id, "last", world.data)
    held_out = examples_of(job.spec, context).held_out
    views = context.views("none")
    with torch.no_grad():
        nll = F.cross_entropy(student(views.take(held_out)), views.labels[held_out])
    assert nll.item() == pytest.approx(outcome.rows[-1]["val.nll"], rel=1e-5)
    assert run.networks.ema is not None


@pytest.mark.parametrize(("key", "graphs"), [("ce", None), ("simkd", GraphPool)])
def test_a_stopped_run_goes_on_with_its_mean(world, key, graphs):
    job = world.job(key, recipe={"ema": 0.8, "label_smoothing": 0.1})
    whole = world.alone(job)
    asked = iter(range(100))
    # Three steps an epoch: stopped in the second.
    first = world.train(job, stopping=lambda: next(asked) >= 4, graphs=graphs and graphs())
    part = first[job.spec.id]
    assert part.finished is None
    rest = world.train(replace(job, checkpoint=part.checkpoint), graphs=graphs and graphs())
    outcome = rest[job.spec.id]
    assert outcome.weights == whole.weights
    assert part.metrics + outcome.metrics == whole.metrics


def test_a_teacher_is_a_run_like_any_other(world):
    """Its weights, which its students load, are the mean too."""
    job = world.job("ce", recipe={"ema": 0.8}, seed=5)
    outcome = world.keep(job)
    student = load_student(world.store, job.spec.id, "last", world.data)
    for name, value in student.state_dict().items():
        assert torch.equal(value, last(outcome)[f"last/{name}"])
