"""Values and gradient norms of public reference implementations on fixed inputs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kdbench import losses

CASES = json.loads((Path(__file__).parents[1] / "fixtures" / "golden_losses.json").read_text())[
    "cases"
]


def dkd(x: dict[str, torch.Tensor], alpha: float, beta: float, temperature: float) -> torch.Tensor:
    target, non_target = losses.decoupled_kl(
        x["student_logits"], x["teacher_logits"], x["labels"], temperature
    )
    return temperature**2 * (alpha * target + beta * non_target)


COMPUTE = {
    "kd:T=1.0": lambda x: losses.kl(x["student_logits"], x["teacher_logits"], 1.0),
    "kd:T=4.0": lambda x: 16 * losses.kl(x["student_logits"], x["teacher_logits"], 4.0),
    "at": lambda x: losses.attention_transfer(x["student_map"], x["teacher_map"]),
    "sp": lambda x: losses.similarity(x["student_map"], x["teacher_map"]),
    "rkd:d=25,a=50": lambda x: (
        25 * losses.distance(x["student_embedding"], x["teacher_embedding"])
        + 50 * losses.angle(x["student_embedding"], x["teacher_embedding"])
    ),
    "fsp": lambda x: losses.flow_mse(
        x["student_map_early"], x["student_map"], x["teacher_map_early"], x["teacher_map"]
    ),
    "dkd:alpha=1.0,beta=8.0,T=4.0": lambda x: dkd(x, 1.0, 8.0, 4.0),
    "cosine": lambda x: losses.cosine(x["student_embedding"], x["teacher_embedding"]),
    "mse-prob:T=5": lambda x: losses.probability_mse(x["student_logits"], x["teacher_logits"], 5.0),
}


def inputs(seed: int, scale: float) -> dict[str, torch.Tensor]:
    """The inputs that the fixture's `about` describes, drawn in its order."""
    r = np.random.RandomState(seed)
    drawn = {
        "student_logits": r.randn(8, 10) * scale,
        "teacher_logits": r.randn(8, 10) * scale,
        "labels": r.randint(0, 10, 8),
        "student_embedding": r.randn(8, 32),
        "teacher_embedding": r.randn(8, 32),
    }
    for name, channels in [
        ("student_map", 12),
        ("teacher_map", 12),
        ("student_map_early", 6),
        ("teacher_map_early", 6),
    ]:
        drawn[name] = np.maximum(r.randn(8, channels, 4, 4), 0)
    return {k: torch.tensor(v, requires_grad=k != "labels") for k, v in drawn.items()}


def test_every_case_is_computed():
    assert COMPUTE.keys() == CASES.keys()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("row", range(3))
def test_value_and_gradient(case, row):
    expected = CASES[case]["values"][row]
    x = inputs(expected["seed"], expected["scale"])
    value = COMPUTE[case](x)
    gradients = torch.autograd.grad(value, [x[name] for name in CASES[case]["wrt"]])
    assert value.item() == pytest.approx(expected["loss"], rel=1e-9)
    norms = [g.norm().item() for g in gradients]
    assert norms == pytest.approx(expected["grad_norms"], rel=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_float32_is_close(case):
    expected = CASES[case]["values"][0]
    x = {
        k: v if k == "labels" else v.detach().float()
        for k, v in inputs(expected["seed"], expected["scale"]).items()
    }
    assert COMPUTE[case](x).item() == pytest.approx(expected["loss"], rel=1e-4)
