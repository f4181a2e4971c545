"""Reference values of the methods that read or treat gradients in a way of their own."""

import pytest
import torch
from support.golden import CASES, Inputs, check_case

from kdbench import losses
from kdbench.methods.image_gradients import with_image_gradient
from kdbench.models.output import Output


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


COMPUTE = {"jacobian:hidden=16": jacobian}
#: What the names of the cases in this file begin with.
FAMILIES = ("jacobian",)


def test_every_case_is_computed():
    assert COMPUTE.keys() == {case for case in CASES if case.split(":")[0] in FAMILIES}


@pytest.mark.parametrize("case", COMPUTE)
def test_reference(case):
    check_case(case, COMPUTE[case])
