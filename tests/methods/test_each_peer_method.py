"""What the methods without a finished teacher compute, against their formula written out, and
their published defaults."""

import dataclasses
import math

import pytest
import torch
from support.terms import Run, same
from torch.nn import functional as F

from kdbench.methods import METHODS, PREVIOUS, SAME_CLASS
from kdbench.methods.networks import Average, Shared, Trained
from kdbench.methods.types import Progress
from kdbench.testing import fakes

DEFAULTS = {
    "cs-kd": {"temperature": 4.0, "soft_weight": 1.0},
    "ddgsd": {"temperature": 4.0, "task_weight": 0.5, "soft_weight": 1.0, "beta": 5e-4},
    "dlb": {"temperature": 3.0, "soft_weight": 1.0},
    "one": {"temperature": 3.0, "soft_weight": 1.0, "branches": 3, "ramp_share": 80 / 300},
    "okddip": {"temperature": 3.0, "soft_weight": 1.0, "peers": 3, "ramp_share": 80 / 300},
    "pcl": {"temperature": 3.0, "soft_weight": 1.0, "decay": 0.999, "ramp_share": 80 / 300},
    "mean-teacher": {"soft_weight": 100.0, "decay": 0.97, "ramp_share": 5 / 180},
}


@pytest.mark.parametrize("key", DEFAULTS)
def test_published_defaults(key):
    assert dataclasses.asdict(METHODS[key]()) == DEFAULTS[key]


def kl(student, teacher, temperature=1.0):
    p, q = (F.softmax(z / temperature, dim=1) for z in (student, teacher))
    return (q * (q / p).log()).sum(dim=1).mean()


def close(value, expected):
    """Equal but for the 1e-7 that is added to target probabilities."""
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=0, check_dtype=False)


def logits(run, *roles):
    return [run.out[role].logits for role in roles]


def test_cs_kd_learns_from_another_example_of_the_class():
    run = Run("cs-kd", temperature=2.0, soft_weight=3.0)
    assert run.method.networks()["partner"] == Shared("student", gradient=False)
    assert run.method.examples == {"partner": SAME_CLASS}
    student, partner = logits(run, "student", "partner")
    same(run.terms["soft"], 3 * 4 * kl(student, partner, 2.0))
    same(run.terms["task"], F.cross_entropy(student, run.labels))
    sum(run.terms.values()).backward()
    assert partner.grad is None


def test_ddgsd_learns_in_both_views():
    setting = {"temperature": 2.0, "task_weight": 0.3, "soft_weight": 5.0, "beta": 7.0}
    run = Run("ddgsd", **setting)
    assert run.method.networks()["other"] == Shared("student")
    assert run.method.views == {"other": 1}
    first, second = logits(run, "student", "other")
    task = sum(F.cross_entropy(z, run.labels) for z in (first, second)) / 2
    same(run.terms["task"], 0.3 * task)
    same(run.terms["soft"], 5 * 4 * (kl(first, second, 2.0) + kl(second, first, 2.0)))
    h, other = (run.out[role].features["embedding"] for role in ("student", "other"))
    same(run.terms["representation"], 7 * (h.mean() - other.mean()) ** 2)
    run.terms["soft"].backward()
    p, q = (F.softmax(z / 2, dim=1) for z in (first, second))
    # The gradient of T**2 KL(q || p) is T (p - q) where q is a constant.
    same(first.grad, 5 * 2 * (p - q) / fakes.B)
    same(second.grad, 5 * 2 * (q - p) / fakes.B)


def test_dlb_remembers_what_it_answered():
    run = Run("dlb", temperature=2.0, soft_weight=3.0)
    assert run.method.networks()["again"] == Shared("student")
    assert run.method.examples == {"again": PREVIOUS}
    now, again = logits(run, "student", "again")
    same(run.terms["task"], F.cross_entropy(now, run.labels))
    assert run.terms["soft"] == 0
    later = fakes.outputs(run.method, fakes.shapes(run.method), 1, torch.float64)
    terms = run.method.loss(later, run.batch, run.helpers, fakes.MIDDLE)
    student, again = (later[role].logits for role in ("student", "again"))
    same(terms["soft"], 3 * 4 * kl(again, now, 2.0))
    both = (F.cross_entropy(student, run.labels) + F.cross_entropy(again, run.labels)) / 2
    same(terms["task"], both)


def test_dlb_leaves_out_what_it_has_not_seen():
    run = Run("dlb", temperature=2.0)
    previous = dataclasses.replace(run.batch.previous, position=torch.arange(4, 4 + fakes.B))
    batch = dataclasses.replace(run.batch, previous=previous)
    later = fakes.outputs(run.method, fakes.shapes(run.method), 1, torch.float64)
    terms = run.method.loss(later, batch, run.helpers, fakes.MIDDLE)
    student, again = (later[role].logits for role in ("student", "again"))
    before = run.out["student"].logits
    same(terms["soft"], 4 * kl(again[:4], before[4:], 2.0))
    every, labels = torch.cat([student, again[:4]]), torch.cat([run.labels, run.labels[:4]])
    same(terms["task"], F.cross_entropy(every, labels))


@pytest.mark.parametrize(
    ("done", "share", "ramp"),
    [
        (0.0, 0.2, math.exp(-5)),
        (0.1, 0.2, math.exp(-1.25)),
        (0.2, 0.2, 1),
        (0.9, 0.2, 1),
        (0, 0, 1),
    ],
)
def test_mean_teacher_ramps_up(done, share, ramp):
    progress = Progress(done, done + 0.1, done)
    run = Run("mean-teacher", progress, soft_weight=3.0, ramp_share=share, decay=0.9)
    assert run.method.networks() == {"student": Trained(), "mean": Average("student", 0.9)}
    assert run.method.views == {"mean": 1}
    student, mean = logits(run, "student", "mean")
    error = (F.softmax(student, dim=1) - F.softmax(mean, dim=1)).square().mean()
    same(run.terms["soft"], 3 * ramp * error)
    same(run.terms["task"], F.cross_entropy(student, run.labels))


#: Half of the ramp is done: the exponent is -5 / 4.
HALF = Progress(0.1, 0.2, 0.1)


def test_one_learns_from_a_gated_ensemble():
    setting = {"temperature": 2.0, "soft_weight": 3.0, "branches": 4, "ramp_share": 0.2}
    run = Run("one", HALF, **setting)
    student, shared = run.out["student"].logits, run.out["student"].features["stage1"]
    grown = [run.helpers[f"branch{i}"](shared) for i in (2, 3, 4)]
    weights = run.helpers["gate"](shared)
    assert weights.shape == (fakes.B, 4)
    every = [student, *grown]
    ensemble = sum(weights[:, i, None] * z for i, z in enumerate(every))
    same(run.terms["task"], F.cross_entropy(student, run.labels))
    same(run.terms["branch.task"], sum(F.cross_entropy(z, run.labels) for z in grown))
    same(run.terms["ensemble.task"], F.cross_entropy(ensemble, run.labels))
    soft = math.exp(-1.25) * 3 * 4 * sum(kl(z, ensemble, 2.0) for z in every)
    close(run.terms["soft"], soft)
    run.terms["soft"].backward(retain_graph=True)
    assert all(p.grad is None for p in run.helpers["gate"].parameters())
    run.terms["ensemble.task"].backward()
    assert all(p.grad is not None for p in run.helpers["gate"].parameters())


def test_okddip_peers_choose_whom_they_learn_from():
    setting = {"temperature": 2.0, "soft_weight": 3.0, "peers": 2, "ramp_share": 0.2}
    run = Run("okddip", HALF, **setting)
    student, *peers = logits(run, "student", "peer1", "peer2")
    h = [run.out[f"peer{i}"].features["embedding"] for i in (1, 2)]
    queries, keys = ([run.helpers[n](e) for e in h] for n in ("query", "key"))
    weight = math.exp(-1.25) * 3 * 4
    soft = 0
    for own, query in zip(peers, queries, strict=True):
        scores = torch.stack([(query * key).sum(dim=1) for key in keys], dim=1)
        share = F.softmax(scores, dim=1)
        soft = soft + kl(own, share[:, :1] * peers[0] + share[:, 1:] * peers[1], 2.0)
    close(run.terms["peer.soft"], weight * soft)
    same(run.terms["peer.task"], sum(F.cross_entropy(z, run.labels) for z in peers))
    close(run.terms["soft"], weight * kl(student, sum(peers) / 2, 2.0))
    same(run.terms["task"], F.cross_entropy(student, run.labels))
    run.terms["soft"].backward()
    assert peers[0].grad.any()


def test_pcl_peers_learn_from_their_ensemble_and_from_each_other_s_means():
    run = Run("pcl", HALF, temperature=2.0, soft_weight=3.0, decay=0.9, ramp_share=0.2)
    networks, views = run.method.networks(), run.method.views
    assert networks["mean2"] == Average("peer2", 0.9)
    assert networks["mean1"] == Average("student", 0.9)
    assert (views.get("student", 0), views["peer2"], views["peer3"]) == (0, 1, 2)
    assert (views.get("mean1", 0), views["mean2"], views["mean3"]) == (0, 1, 2)
    roles = ("student", "peer2", "peer3")
    peers, means = logits(run, *roles), logits(run, "mean1", "mean2", "mean3")
    every = torch.cat([run.out[role].features["embedding"] for role in roles], dim=1)
    classifier = run.helpers["classifier"]
    ensemble = every @ classifier.weight.T + classifier.bias
    weight = math.exp(-1.25) * 3 * 4
    same(run.terms["task"], F.cross_entropy(peers[0], run.labels))
    same(run.terms["peer.task"], sum(F.cross_entropy(z, run.labels) for z in peers[1:]))
    same(run.terms["ensemble.task"], F.cross_entropy(ensemble, run.labels))
    same(run.terms["ensemble.soft"], weight * sum(kl(z, ensemble, 2.0) for z in peers))
    others = sum(kl(peers[a], means[b], 2.0) / 2 for a in range(3) for b in range(3) if a != b)
    same(run.terms["mean.soft"], weight * others)
    run.terms["ensemble.soft"].backward(retain_graph=True)
    assert classifier.weight.grad is None
    run.terms["mean.soft"].backward()
    assert all(mean.grad is None for mean in means)
