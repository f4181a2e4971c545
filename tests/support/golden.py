"""The second set of reference values: fixed inputs, parameters, values and gradient norms.

A test file of a family keeps `COMPUTE`, a function by case that takes `Inputs` and returns the
loss, and calls `check_case` for each of its cases.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

CASES: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "golden_losses_2.json").read_text()
)["cases"]


class Inputs(dict[str, Tensor]):
    """The tensors of a case by name, parameters as `parameter:NAME`; what the case calls
    student and teacher, if anything, as `student` and `teacher` too."""

    def __init__(self, case: Mapping[str, Any], seed: int, scale: float) -> None:
        super().__init__(draw(seed, scale))
        self.arguments: Mapping[str, Any] = case.get("arguments", {})
        for k, parameter in enumerate(case.get("parameters", ())):
            self[f"parameter:{parameter['name']}"] = value_of(parameter, k)
        for tensor in self.values():
            if tensor.is_floating_point():
                tensor.requires_grad_()
        for role in ("student", "teacher"):
            name = self.arguments.get(role)
            if isinstance(name, str) and name in self:
                self[role] = self[name]


def draw(seed: int, scale: float) -> dict[str, Tensor]:
    """The inputs that the fixture's `about` describes, drawn in its order, in float64."""
    r = np.random.RandomState(seed)
    drawn: dict[str, Any] = {
        "student_logits": r.randn(8, 10) * scale,
        "teacher_logits": r.randn(8, 10) * scale,
        "labels": r.randint(0, 10, 8),
        "student_embedding": r.randn(8, 32),
        "teacher_embedding": r.randn(8, 32),
    }

    def rectified(*shape: int) -> np.ndarray:
        return np.maximum(r.randn(8, *shape), 0)

    for name, channels in (
        ("student_map", 12), ("teacher_map", 12), ("student_map_early", 6), ("teacher_map_early", 6)
    ):  # fmt: skip
        drawn[name] = rectified(channels, 4, 4)
    for name in ("student_logits_2", "teacher_logits_2", "student_logits_3"):
        drawn[name] = r.randn(8, 10) * scale
    for name in ("student_embedding_2", "student_embedding_3"):
        drawn[name] = r.randn(8, 32)
    drawn["teacher_embedding_wide"] = r.randn(8, 48)
    drawn["student_pre"], drawn["teacher_pre"] = r.randn(8, 12, 4, 4), r.randn(8, 12, 4, 4)
    drawn["student_map_large"] = rectified(6, 8, 8)
    drawn["teacher_map_large"] = rectified(10, 8, 8)
    drawn["teacher_map_wide"] = rectified(20, 4, 4)
    drawn["images"] = r.randn(8, 3, 5, 5)
    drawn["uniform"] = r.rand(8, 12, 1, 1)
    return {name: torch.tensor(value) for name, value in drawn.items()}


def value_of(parameter: Mapping[str, Any], k: int) -> Tensor:
    """Parameter number `k` of a case."""
    shape = tuple(parameter["shape"])
    count = int(np.prod(shape)) if shape else 1
    wave = np.cos(k + np.arange(count))
    values = 1 + 0.1 * wave if parameter.get("kind") == "scale" else 0.3 * wave
    return torch.tensor(values.reshape(shape))


def check_case(name: str, compute: Callable[[Inputs], Tensor]) -> None:
    """Hold a loss to the reference's values and gradient norms to a millionth, as references
    guard divisions with small constants of their own."""
    case = CASES[name]
    for expected in case["values"]:
        x = Inputs(case, expected["seed"], expected["scale"])
        loss = compute(x)
        assert loss.item() == pytest.approx(expected["loss"], rel=1e-6)
        gradients = torch.autograd.grad(loss, [x[n] for n in case["wrt"]])
        norms = [gradient.norm().item() for gradient in gradients]
        assert norms == pytest.approx(expected["grad_norms"], rel=1e-6)
