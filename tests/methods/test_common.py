"""Regressors, weighting and the lookup of layers."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdbench.methods.base import Incompatible, Method
from kdbench.methods.common import common, stages, weighted
from kdbench.methods.ramp import linear_ramp
from kdbench.methods.regressor import regressor
from kdbench.methods.types import Shapes

side = st.integers(1, 12)


@settings(max_examples=20, deadline=None)
@given(source=side, target=side, wide=st.booleans())
def test_regressor_gives_the_shape_asked_for(source, target, wide):
    ratio = 2 if wide else 1
    layer = regressor((3, source, source * ratio), (5, target, target * ratio))
    out = layer(torch.randn(2, 3, source, source * ratio))
    assert out.shape == (2, 5, target, target * ratio)


@settings(max_examples=20, deadline=None)
@given(target=side, ratio=st.integers(1, 6))
def test_regressor_skips_no_pixel(target, ratio):
    """Every pixel of the student's map can move some pixel of the prediction."""
    layer = regressor((1, target * ratio, target * ratio), (1, target, target))
    torch.nn.init.ones_(layer.weight)
    image = torch.zeros(1, 1, target * ratio, target * ratio, requires_grad=True)
    layer(image).sum().backward()
    assert (image.grad > 0).all()


def test_regressor_of_equal_sizes_is_the_tutorials():
    layer = regressor((16, 8, 8), (32, 8, 8))
    assert (layer.kernel_size, layer.stride, layer.padding) == ((3, 3), (1, 1), (1, 1))
    assert layer.weight.shape == (32, 16, 3, 3)


def test_regressor_of_vectors_is_linear():
    assert regressor((7,), (9,))(torch.randn(2, 7)).shape == (2, 9)


def test_regressor_refuses_what_it_cannot_map():
    with pytest.raises(Incompatible, match="cannot map a feature"):
        regressor((7,), (9, 4, 4))
    with pytest.raises(Incompatible, match="one side shrinks"):
        regressor((3, 8, 4), (3, 4, 8))


def test_common_names_are_sorted_and_in_all():
    a = {"stage2": 0, "stage1": 0, "stage3": 0, "stage1_pre": 0, "embedding": 0}
    b = {"stage1": 0, "stage2": 0, "stage2_pre": 0, "stage1_pre": 0}
    assert common((a, b), "stage?") == ["stage1", "stage2"]
    assert common((a, b), "stage?_pre") == ["stage1_pre"]


def test_stages_say_what_is_missing():
    sizes = Shapes(5, 10, {"student": {"stage1": (1, 2, 2)}, "teacher": {}})
    with pytest.raises(
        Incompatible, match=r"1 or more layers stage\? in student and teacher; there are"
    ):
        stages(sizes, ["student", "teacher"], "stage?")


def test_weights_and_terms_have_to_agree():
    one = torch.tensor(1.0)
    terms = weighted({"task": 2.0, "peer.task": 3.0}, task=one, peer__task=one)
    assert terms == {"task": 2, "peer.task": 3}
    with pytest.raises(KeyError, match="do not match"):
        weighted({"task": 2.0, "soft": 3.0}, task=one)


def test_a_field_that_is_no_hyperparameter_is_named():
    @dataclass(frozen=True)
    class Plain(Method):
        power: float = 2.0

    for act in (Plain, Plain.hparams):
        with pytest.raises(TypeError, match=r"Plain.power is not declared with hparam\(\)"):
            act()


@pytest.mark.parametrize(("done", "weight"), [(0.05, 0.5), (0.1, 1.0), (0.7, 1.0)])
def test_a_term_warms_up_linearly(done, weight):
    assert linear_ramp(done, 0.1, torch.zeros(1)).item() == pytest.approx(weight)
    assert linear_ramp(done, 0.0, torch.zeros(1)).item() == 1
