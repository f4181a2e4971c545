"""Reference values of the methods without a finished teacher: the student itself, branches and
peers."""

import pytest
import torch
from support.golden import CASES, Inputs, check_case
from torch.func import functional_call
from torch.nn import functional as F

from kdbench import losses
from kdbench.methods.one import gate


def cs_kd(x: Inputs) -> torch.Tensor:
    soft = losses.kl(x["student"], x["student_logits_2"], x.arguments["temperature"])
    weight = x.arguments["lambda"] * x.arguments["temperature"] ** 2
    return F.cross_entropy(x["student"], x["labels"]) + weight * soft


def ddgsd(x: Inputs) -> torch.Tensor:
    pair, temperature = (x["student_logits"], x["student_logits_2"]), x.arguments["temperature"]
    task = F.cross_entropy(torch.cat(pair), x["labels"].repeat(2)) / 2
    soft = losses.kl(*pair, temperature) + losses.kl(*pair[::-1], temperature)
    gap = losses.mean_gap(x["student_embedding"], x["student_embedding_2"])
    return task + temperature**2 * soft + 5e-4 * gap


def dlb(x: Inputs) -> torch.Tensor:
    now, again, before = (x[f"student_logits{n}"] for n in ("", "_2", "_3"))
    temperature = x.arguments["temperature"]
    labels = torch.cat([x["labels"], x["labels"].roll(1)])
    seen = torch.ones(len(now))
    task = losses.masked_cross_entropy(torch.cat([now, again]), labels, seen.repeat(2))
    soft = losses.masked_kl(again, before, seen, temperature)
    return task + x.arguments["alpha"] * temperature**2 * soft


def one(x: Inputs) -> torch.Tensor:
    branches = [x[f"student_logits{n}"] for n in ("", "_2", "_3")]
    parts = {"2.weight": "weight", "2.bias": "bias", "3.weight": "bn_weight", "3.bias": "bn_bias"}
    parameters = {name: x[f"parameter:gate_{part}"] for name, part in parts.items()}
    weights = functional_call(gate(6, 3), parameters, x["student_map_early"])
    ensemble = losses.gated_logits(branches, weights)
    task = sum(F.cross_entropy(z, x["labels"]) for z in (*branches, ensemble))
    return task + x.arguments["weight"] * 9 * sum(
        losses.mutual_kl(z, ensemble.detach(), 3.0) for z in branches
    )


def okddip(x: Inputs) -> torch.Tensor:
    leader, names = x["teacher_logits_2"], ("", "_2", "_3")
    peers = [x[f"student_logits{n}"] for n in names]
    embeddings = torch.stack([x[f"student_embedding{n}"] for n in names])
    query, key = (embeddings @ x[f"parameter:{n}"].T for n in ("query", "key"))
    mixed = losses.attended_logits(peers, query, key)
    task = sum(F.cross_entropy(z, x["labels"]) for z in (leader, *peers))
    soft = sum(losses.mutual_kl(z, r, 3.0) for z, r in zip(peers, mixed, strict=True))
    soft = soft + losses.mutual_kl(leader, torch.stack(peers).mean(dim=0), 3.0)
    return task + x.arguments["weight"] * 9 * soft


COMPUTE = {
    "cs-kd:T=4,lambda=1": cs_kd,
    "ddgsd:T=4": ddgsd,
    "dlb:T=3,alpha=1": dlb,
    "one:weight=1": one,
    "okddip:weight=1,T=3": okddip,
    "mean-teacher:mse": lambda x: losses.probability_mse(x["student"], x["teacher"]),
}
#: What the names of the cases in this file begin with.
FAMILIES = ("cs-kd", "ddgsd", "dlb", "one", "okddip", "mean-teacher")


def test_every_case_is_computed():
    assert COMPUTE.keys() == {case for case in CASES if case.split(":")[0] in FAMILIES}


@pytest.mark.parametrize("case", COMPUTE)
def test_reference(case):
    check_case(case, COMPUTE[case])
