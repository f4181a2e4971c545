"""What the methods on embeddings compute, against their formula written out, and their published
defaults."""

import dataclasses

import pytest
import torch
from support.terms import Run, same
from torch.nn import functional as F

from kdbench import losses
from kdbench.methods import METHODS
from kdbench.methods.memory import Memory, Queue
from kdbench.testing import fakes

WIDER = "wider, larger, deeper"
DEFAULTS = {
    "itrd": {
        "correlation_weight": 2.0,
        "mutual_weight": 1.0,
        "order": 1.01,
        "layer": "embedding",
    },
    "pefd": {"beta": 25.0, "projectors": 3, "layer": "embedding"},
    "crd": {
        "beta": 0.8,
        "temperature": 0.07,
        "negatives": 16384,
        "momentum": 0.5,
        "width": 128,
        "layer": "embedding",
    },
    "rrd": {
        "beta": 1.0,
        "student_temperature": 0.1,
        "teacher_temperature": 0.02,
        "queue": 16384,
        "width": 128,
        "layer": "embedding",
    },
}


@pytest.mark.parametrize("key", DEFAULTS)
def test_published_defaults(key):
    assert dataclasses.asdict(METHODS[key]()) == DEFAULTS[key]


def check_task(run):
    same(run.terms["task"], F.cross_entropy(run.out["student"].logits, run.labels))


@pytest.mark.parametrize("teacher", [fakes.SAME, WIDER])
def test_itrd_projects_where_it_must(teacher):
    setting = {"correlation_weight": 3.0, "mutual_weight": 5.0, "order": 1.5}
    run = Run("itrd", teacher=teacher, **setting)
    student, target = run.features("embedding")
    projected = run.helpers["projector"](student)
    same(run.terms["correlation"], 3 * losses.correlation_entropy(projected, target, 1.5))
    compared = projected if teacher == WIDER else student
    same(run.terms["mutual"], 5 * losses.mutual_information(compared, target))
    check_task(run)


def test_pefd_takes_the_mean_of_projectors():
    run = Run("pefd", teacher=WIDER, beta=3.0, projectors=4)
    student, teacher = run.features("embedding")
    layers = run.helpers["projectors"]
    assert len(layers) == 4
    mean = sum(F.relu(student @ p.weight.T + p.bias) for p in layers) / 4
    gap = 1 - F.cosine_similarity(mean, teacher.detach(), dim=1)
    same(run.terms["representation"], 3 * gap.mean())
    check_task(run)


def test_rrd_compares_with_a_queue_that_holds_the_batch():
    setting = {"beta": 3.0, "queue": 10, "width": 6}
    run = Run("rrd", teacher=WIDER, student_temperature=0.5, teacher_temperature=0.2, **setting)
    student, teacher = run.features("embedding")
    pair = zip(run.out, (student, teacher), strict=True)
    sides = [F.normalize(run.helpers[role](h), dim=1) for role, h in pair]
    others = run.helpers["queue"].rows
    assert others.shape == (10, 6)
    same(others[: fakes.B], sides[1])
    expected = losses.relation_cross_entropy(*sides, others, 0.5, 0.2)
    same(run.terms["representation"], 3 * expected)
    assert not list(run.helpers["teacher"].parameters())
    check_task(run)


def test_a_queue_replaces_its_oldest_rows():
    torch.manual_seed(0)
    queue = Queue(5, 2)
    torch.testing.assert_close(queue.rows.norm(dim=1), torch.ones(5))
    first = queue.rows.clone()
    queue.push(torch.full((3, 2), 1.0))
    rows = queue.push(torch.full((3, 2), 2.0))
    assert rows[:, 0].tolist() == [2, 1, 1, 2, 2]
    assert not torch.equal(first, rows)
    rows = queue.push(torch.arange(7.0)[:, None].expand(7, 2))
    assert sorted(rows[:, 0].tolist()) == [2, 3, 4, 5, 6]


def test_a_memory_knows_what_was_written():
    memory = Memory(6, 2)
    memory.write(torch.tensor([4, 1]), torch.tensor([[1.0, 2], [3, 4]], requires_grad=True))
    position = torch.tensor([1, 0, 4])
    assert memory.read(position).tolist() == [[3, 4], [0, 0], [1, 2]]
    assert memory.seen(position).tolist() == [1, 0, 1]
    assert not list(memory.parameters())


def test_crd_tells_pairs_from_examples_of_other_classes():
    setting = {"beta": 3.0, "temperature": 0.5, "negatives": 4, "momentum": 0.25, "width": 6}
    run = Run("crd", teacher=WIDER, **setting)
    method, helpers, batch = run.method, run.helpers, fakes.batch()
    memory = fakes.helpers(method, fakes.shapes(method, WIDER)).double()["memory"]
    pair = zip(run.out, run.features("embedding"), strict=True)
    student, teacher = (helpers[role](h) for role, h in pair)
    same(student.norm(dim=1), torch.ones(fakes.B))
    labels = torch.full((100,), -1)
    labels[batch.position] = batch.labels
    share = torch.rand((fakes.B, 4), generator=batch.generator)
    others = losses.other_class_examples(labels, batch.labels, share)
    index = torch.cat([batch.position[:, None], others], dim=1)
    total = 0
    for vectors, rows in ((student, memory.teacher), (teacher, memory.student)):
        scores = ((vectors[:, None] * rows[index]).sum(dim=2) / 0.5).exp()
        scores = scores / (scores.mean() * 100).detach()
        total = total + losses.noise_contrastive(scores, 100)
    same(run.terms["representation"], 3 * total)
    check_task(run)
    moved = F.normalize(0.25 * memory.student[:8] + 0.75 * student.detach(), dim=1)
    same(helpers["memory"].student[:8], moved)
    same(helpers["memory"].student[8:], memory.student[8:])


def test_crd_keeps_the_normalisers_of_its_first_batch():
    run = Run("crd", negatives=4)
    first = run.helpers["memory"].normalisers.clone()
    assert (first > 0).all()
    later = fakes.outputs(run.method, fakes.shapes(run.method), 1, torch.float64)
    run.method.loss(later, fakes.batch(1), run.helpers, fakes.MIDDLE)
    assert torch.equal(run.helpers["memory"].normalisers, first)
