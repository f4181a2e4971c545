"""SGD in which terms have momenta of their own."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from support.terms import Run, same
from torch import nn
from torch.nn import functional as F

from kdbench.methods import METHODS
from kdbench.study.planner import Planner
from kdbench.testing.world import entry
from kdbench.training.cuda_graphs.pool import GraphPool
from kdbench.training.run import TrainingRun
from kdbench.training.split_momentum import SplitMomentum
from kdbench.training.state import load_checkpoint

SGD = {"optimizer": "sgd", "momentum": 0.9}


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()


def terms(model, step):
    g = torch.Generator().manual_seed(step)
    x = torch.randn(5, 6, generator=g, dtype=torch.float64)
    y, target = torch.randint(0, 4, (5,), generator=g), torch.randn(5, 4, generator=g).double()
    logits = model(x)
    return {"task": F.cross_entropy(logits, y), "soft": F.mse_loss(logits, target)}


def moved(optimizer_of, steps=6):
    """The parameters after some steps, one row for each."""
    model = network()
    optimizer = optimizer_of(model.parameters())
    for step in range(steps):
        if isinstance(optimizer, SplitMomentum):
            optimizer.backward(terms(model, step))
        else:
            optimizer.zero_grad()
            sum(terms(model, step).values()).backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("shifts", [{}, {"task": 0.0, "soft": 0.0}, {"soft": 0.05, "task": 0.05}])
def test_with_one_shift_it_is_sgd(shifts):
    setting = {"lr": 0.1, "weight_decay": 5e-4}
    split = moved(lambda p: SplitMomentum(p, shifts, momentum=0.85, **setting))
    plain = moved(lambda p: torch.optim.SGD(p, momentum=0.85, **setting))
    torch.testing.assert_close(split, plain, rtol=1e-12, atol=1e-14)


def test_the_definition_written_with_numpy():
    model, lr, mu, delta, decay = network(), 0.1, 0.9, 0.075, 1e-2
    w = [p.detach().numpy().copy() for p in model.parameters()]
    running = {name: [np.zeros_like(each) for each in w] for name in ("task", "soft")}
    for step in range(6):
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), w, strict=True):
                parameter.copy_(torch.from_numpy(value))
        gradients = {
            name: torch.autograd.grad(term, list(model.parameters()), retain_graph=True)
            for name, term in terms(model, step).items()
        }
        for k in range(len(w)):
            task, soft = running["task"], running["soft"]
            task[k] = (mu - delta) * task[k] + gradients["task"][k].numpy() + decay * w[k]
            soft[k] = (mu + delta) * soft[k] + gradients["soft"][k].numpy()
            w[k] = w[k] - lr * (task[k] + soft[k])
    shifts = {"task": -delta, "soft": delta}
    split = moved(lambda p: SplitMomentum(p, shifts, lr=lr, momentum=mu, weight_decay=decay))
    expected = torch.from_numpy(np.concatenate([each.ravel() for each in w]))
    torch.testing.assert_close(split, expected, rtol=1e-12, atol=1e-14)
    # Each part matters.
    for other in (
        {"shifts": {"task": -delta}},
        {"shifts": {"soft": delta}},
        {"momentum": 0.8},
        {"weight_decay": 0.0},
    ):
        setting = {"shifts": shifts, "lr": lr, "momentum": mu, "weight_decay": decay, **other}
        assert not torch.allclose(moved(lambda p, s=setting: SplitMomentum(p, **s)), expected)


@pytest.mark.parametrize("name", ["task", "soft"])
def test_a_parameter_that_one_term_reaches_has_the_plain_momentum(name):
    parameter, twin = (nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2))
    other = nn.Parameter(torch.ones(3, dtype=torch.float64))
    setting = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2}
    split = SplitMomentum([parameter, other], {"task": -0.1, "soft": 0.05}, **setting)
    plain = torch.optim.SGD([twin], **setting)
    for step in range(5):
        parts = {"task": other.sum(), "soft": other.square().sum()}
        parts[name] = parts[name] + (parameter * step).square().sum()
        split.backward(parts)
        split.step()
        plain.zero_grad()
        (twin * step).square().sum().backward()
        plain.step()
    torch.testing.assert_close(parameter, twin, rtol=1e-12, atol=1e-14)


def test_a_checkpoint_holds_both_momenta(world):
    job = world.job("dot", recipe={"teacher_outputs": "live"})
    asked = iter(range(100))
    first = world.train(job, stopping=lambda: next(asked) >= 4)[job.spec.id]
    state = load_checkpoint(first.checkpoint, torch.device("cpu"))["optimizer"]["state"]
    for held in state.values():
        assert held.keys() == {"momentum0", "momentum1"}
        assert all(value.any() for value in held.values())
        assert not torch.equal(held["momentum0"], held["momentum1"])
    # A run that lost one of them ends elsewhere.
    whole = world.alone(job)
    assert world.alone(dataclasses.replace(job, checkpoint=first.checkpoint)).weights == (
        whole.weights
    )
    loaded = load_checkpoint(first.checkpoint, torch.device("cpu"))
    for held in loaded["optimizer"]["state"].values():
        held["momentum1"].zero_()
    buffer = io.BytesIO()
    torch.save(loaded, buffer)
    lost = world.alone(dataclasses.replace(job, checkpoint=buffer.getvalue()))
    assert lost.weights != whole.weights


def test_captured_and_beside_others_it_is_the_same(world):
    jobs = [world.job("dot"), world.job("dot", hparams={"delta": 0.02}), world.job("kd")]
    together = world.train(*jobs, graphs=GraphPool())
    for job in jobs:
        assert together[job.spec.id].weights == world.alone(job).weights
        assert "why_not_captured" not in together[job.spec.id].result


def test_without_a_distance_it_is_kd(world):
    split = world.job("dot", hparams={"delta": 0.0})
    plain = world.job("kd", recipe=SGD)
    split = dataclasses.replace(
        split, spec=dataclasses.replace(split.spec, frozen_runs=plain.spec.frozen_runs)
    )
    one, other = world.alone(split), world.alone(plain)
    for a, b in zip(one.metrics, other.metrics, strict=True):
        assert a["train.loss"] == pytest.approx(b["train.loss"], rel=1e-4)
    assert isinstance(TrainingRun(split, world.context()).optimizer, SplitMomentum)


@pytest.mark.parametrize(
    ("recipe", "tune", "reason"),
    [
        (SGD, None, None),
        ({"optimizer": "adam"}, None, "momenta of their own; the recipe has adam"),
        ({"optimizer": "adamw"}, None, "momenta of their own; the recipe has adamw"),
        ({**SGD, "momentum": 0.0}, None, "momenta of their own; the recipe has momentum 0"),
        ({**SGD, "momentum": 0.05}, None, "of the term task would be -0.025"),
        ({**SGD, "momentum": 0.95}, None, "of the term soft would be 1.025"),
        ({**SGD, "momentum": 0.92}, None, None),
        (
            {**SGD, "momentum": 0.92},
            {"trials": 2, "epochs": 1, "seeds": [100]},
            "of the term soft would be 1.01",
        ),
    ],
)
def test_a_recipe_without_momentum_is_incompatible(world, recipe, tune, reason):
    study = world.study(entry("ce"), entry("dot"), recipe=recipe, tune=tune)
    found = Planner(study, world.data, world.store).incompatible
    assert found["ce"] is None
    if reason is None:
        assert found["dot"] is None
    else:
        assert reason in found["dot"]
        assert "\n" not in found["dot"]


def test_the_loss_is_that_of_kd():
    hparams = {"temperature": 3.0, "alpha": 0.3}
    run, kd = Run("dot", **hparams), Run("kd", **hparams)
    for name, term in run.terms.items():
        same(term, kd.terms[name].detach())
    assert METHODS["dot"](delta=0.05).momentum_shifts() == {"task": -0.05, "soft": 0.05}
