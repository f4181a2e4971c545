"""Reference values of the losses from information theory, projector ensembles, queues and
memories."""

import pytest
import torch
from support.golden import CASES, Inputs, check_case
from torch.nn import functional as F

from kdbench import losses
from kdbench.methods.memory import PairMemory, Queue


def linear(x: Inputs, vectors: torch.Tensor, name: str) -> torch.Tensor:
    return F.linear(vectors, x[f"parameter:{name}_weight"], x[f"parameter:{name}_bias"])


def pefd(x: Inputs) -> torch.Tensor:
    each = [linear(x, x["student"], f"projector_{i}").relu() for i in range(3)]
    return losses.direction_gap(torch.stack(each).mean(dim=0), x["teacher"])


def rrd(x: Inputs, pointer: int) -> torch.Tensor:
    arguments = x.arguments
    sides = [F.normalize(linear(x, x[n], n), dim=1) for n in ("student", "teacher")]
    queue = Queue(arguments["K"], 16).double()
    rows, columns = torch.arange(arguments["K"]).double()[:, None], torch.arange(16).double()
    queue.rows.copy_(F.normalize((16 * rows + columns).cos(), dim=1))
    queue.oldest.fill_(pointer)
    temperatures = arguments["tau_student"], arguments["tau_teacher"]
    return losses.relation_cross_entropy(*sides, queue.push(sides[1]), *temperatures)


def crd_memory() -> PairMemory:
    """As the case's note describes it."""
    memory = PairMemory(20, 16).double()
    angle = 16 * torch.arange(20).double()[:, None] + torch.arange(16)
    memory.student.copy_(F.normalize(angle.cos(), dim=1))
    memory.teacher.copy_(F.normalize(angle.sin(), dim=1))
    return memory


def crd_step(x: Inputs, memory: PairMemory) -> torch.Tensor:
    sides = [F.normalize(linear(x, x[n], n), dim=1) for n in ("student", "teacher")]
    position = (3 * torch.arange(8) + 1) % 20
    index = (position[:, None] + torch.arange(6)) % 20
    scores = memory.scores(*sides, index, x.arguments["tau"])
    memory.update(position, *sides, x.arguments["momentum"])
    return torch.stack([losses.noise_contrastive(s, 20) for s in scores]).sum()


COMPUTE = {
    "crd:K=5,n=20": lambda x: crd_step(x, crd_memory()),
    "itrd-correlation:alpha=1.5": lambda x: losses.correlation_entropy(
        linear(x, x["student"], "projector"), x["teacher"], 1.5
    ),
    "itrd-mutual": lambda x: losses.mutual_information(
        linear(x, x["student"], "projector"), x["teacher"]
    ),
    "pefd": pefd,
    "pefd:wide-teacher": pefd,
    "rrd:K=16": lambda x: rrd(x, 0),
    "rrd:K=24": lambda x: rrd(x, 8),
}
#: What the names of the cases in this file begin with.
FAMILIES = ("crd", "itrd-correlation", "itrd-mutual", "pefd", "rrd")


def test_every_case_is_computed():
    assert COMPUTE.keys() == {case for case in CASES if case.split(":")[0] in FAMILIES}


@pytest.mark.parametrize("case", COMPUTE)
def test_reference(case):
    check_case(case, COMPUTE[case])


def test_the_first_batch_sets_the_normalisers_and_moves_the_memories():
    case = CASES["crd:K=5,n=20"]
    for expected in case["values"]:
        memory, first = crd_memory(), crd_memory()
        crd_step(Inputs(case, expected["seed"], expected["scale"]), memory)
        assert memory.normalisers.tolist() == pytest.approx(expected["Z"], rel=1e-6)
        for name in ("student", "teacher"):
            moved = (getattr(memory, name) - getattr(first, name)).norm().item()
            assert moved == pytest.approx(expected[f"memory_{name}_norm_of_change"], rel=1e-6)
