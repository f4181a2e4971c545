"""Reference values of the methods that read or treat gradients in a way of their own."""

import pytest
import torch
from support.golden import CASES, Inputs, check_case

from kdbench import losses
from kdbench.methods.image_gradients import with_image_gradient
from kdbench.models.output import Output
from kdbench.training.split_momentum import SplitMomentum


def jacobian(x: Inputs) -> torch.Tensor:
    """Two layers with tanh between them, for student and teacher."""

    def gradient(role: str) -> torch.Tensor:
        w_1, b_1, w_2, b_2 = (
            x[f"parameter:{role}_{part}"] for part in ("1", "1_bias", "2", "2_bias")
        )

        def network(images: torch.Tensor) -> Output:
            return Output(torch.tanh(images.flatten(1) @ w_1.T + b_1) @ w_2.T + b_2)

        score, trained = losses.label_logits, role == "student"
        return with_image_gradient(network, x["images"], x["labels"], score, trained).image_gradient

    return losses.gradient_direction_mse(gradient("student"), gradient("teacher"))


def dot(x: Inputs) -> tuple[torch.Tensor, torch.Tensor, list[float]]:
    """The parameters after some steps, and the norm of both together after each."""
    w, v = (torch.nn.Parameter(x[f"parameter:{name}"].detach().clone()) for name in "wv")
    settings = dict(x.arguments)
    steps, delta = settings.pop("steps"), settings.pop("delta")
    optimizer = SplitMomentum([w, v], {"task": -delta, "soft": delta}, **settings)
    i, norms = torch.arange(5, dtype=torch.float64), []
    for t in range(steps):
        terms = {
            "task": (w * (i + t).cos()).sum() + (v * (2 * i + t).cos()).sum(),
            "soft": (w * (i + t).sin()).sum(),
        }
        optimizer.backward(terms)
        optimizer.step()
        norms.append(torch.cat([w, v]).norm().item())
    return w, v, norms


#: `dot` is no loss, and is held to its values by a test of its own.
COMPUTE = {"jacobian:hidden=16": jacobian, "dot:delta=0.075": dot}
#: What the names of the cases in this file begin with.
FAMILIES = ("jacobian", "dot")


def test_every_case_is_computed():
    assert COMPUTE.keys() == {case for case in CASES if case.split(":")[0] in FAMILIES}


def test_jacobian():
    check_case("jacobian:hidden=16", jacobian)


def test_dot():
    case = CASES["dot:delta=0.075"]
    (expected,) = case["values"]
    w, v, norms = dot(Inputs(case, expected["seed"], expected["scale"]))
    assert w.tolist() == pytest.approx(expected["w"], rel=1e-6)
    assert v.tolist() == pytest.approx(expected["v"], rel=1e-6)
    assert norms == pytest.approx(expected["norm_after_each_step"], rel=1e-6)
    assert (w.sum() + v.sum()).item() == pytest.approx(expected["loss"], rel=1e-6)
