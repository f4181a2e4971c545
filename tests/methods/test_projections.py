"""The modules that methods on features share."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdbench.methods.calibration import Calibration
from kdbench.methods.projections import BatchNorm, Orthogonal, adapter, conv_bn_relu
from kdbench.methods.review import Review

side = st.integers(1, 12)


def test_deep_levels_reach_the_shallow_ones_and_not_the_other_way():
    review = Review([(4, 8, 8), (6, 4, 4), (12,)], [(4, 8, 8), (6, 4, 4), (12,)]).double()
    features = [torch.randn(3, *s).double().requires_grad_() for s in ((4, 8, 8), (6, 4, 4), (12,))]
    for level, output in enumerate(review(features)):
        touched = torch.autograd.grad(
            output.square().sum(), features, retain_graph=True, allow_unused=True
        )
        assert [g is not None for g in touched] == [k >= level for k in range(3)]


@pytest.mark.parametrize("batch", [1, 5, 8, 16, 20])
def test_semckd_takes_any_batch(batch):
    module = Calibration([3], [4], width=8)
    maps = torch.randn(batch, 3, 4, 4)
    rows = module.similarity(maps)
    assert rows.shape == (batch, 8)
    flat = maps.flatten(1)
    if batch <= 8:
        torch.testing.assert_close(rows[:, :batch], flat @ flat.T)
        assert (rows[:, batch:] == 0).all()
    if batch == 16:
        torch.testing.assert_close(rows, (flat @ flat.T).view(16, 8, 2).mean(dim=2))
    errors, attention = module([maps], [torch.randn(batch, 4, 2, 2)])
    assert errors.isfinite().all()
    torch.testing.assert_close(attention, torch.ones(batch, 1, 1))


@pytest.mark.parametrize(("source", "target"), [(5, 5), (3, 8), (8, 3), (1, 4)])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_projection_is_orthogonal(source, target, scale):
    layer = Orthogonal(source, target).double()
    with torch.no_grad():
        layer.weight *= scale
    q = layer.matrix()
    assert q.shape == (source, target)
    gram = q @ q.T if source <= target else q.T @ q
    torch.testing.assert_close(gram, torch.eye(min(source, target)).double(), rtol=0, atol=1e-9)
    whole = torch.linalg.matrix_exp(layer.weight - layer.weight.T)
    torch.testing.assert_close(q, whole[:source, :target], rtol=0, atol=1e-9)


def test_adapter_of_equal_shapes_is_nothing():
    assert isinstance(adapter((3, 4, 4), (3, 4, 4)), torch.nn.Identity)
    assert isinstance(adapter((3,), (4,)), torch.nn.Linear)


def test_batch_norm_is_pytorchs_in_train_mode():
    x = torch.randn(4, 3, 5, 5)
    torch.testing.assert_close(BatchNorm(3)(x), torch.nn.BatchNorm2d(3)(x))
    vectors = torch.randn(4, 3)
    torch.testing.assert_close(BatchNorm(3)(vectors), torch.nn.BatchNorm1d(3)(vectors))


@settings(max_examples=20, deadline=None)
@given(source=side, target=side, wide=st.booleans())
def test_normalised_regressor_gives_the_shape_asked_for(source, target, wide):
    ratio = 2 if wide else 1
    layer = conv_bn_relu((3, source, source * ratio), (5, target, target * ratio))
    assert not any("bias" in name for name, _ in layer[0].named_parameters())
    out = layer(torch.randn(1, 3, source, source * ratio))
    assert out.shape == (1, 5, target, target * ratio)
    assert (out >= 0).all()


def test_normalised_regressor_of_equal_sizes_is_repdistillers():
    layer = conv_bn_relu((16, 8, 8), (32, 8, 8))
    conv, norm, relu = layer
    assert conv.weight.shape == (32, 16, 1, 1)
    assert isinstance(norm, torch.nn.BatchNorm2d)
    assert isinstance(relu, torch.nn.ReLU)
    x = torch.randn(4, 16, 8, 8)
    expected = torch.nn.BatchNorm2d(32)(conv(x)).relu()
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (1, 3)])
def test_batch_norm_of_one_value_is_the_bias(shape):
    norm = BatchNorm(3)
    torch.nn.init.normal_(norm.bias)
    torch.testing.assert_close(norm(torch.randn(shape)).flatten(), norm.bias, rtol=0, atol=1e-3)


def test_running_statistics_are_pytorchs_and_a_single_value_leaves_them():
    ours, pytorchs = BatchNorm(3, running=True), torch.nn.BatchNorm2d(3)
    for _ in range(3):
        x = torch.randn(5, 3, 2, 2)
        torch.testing.assert_close(ours(x), pytorchs(x))
    before = ours.running_var.clone()
    assert ours(torch.randn(1, 3, 1, 1)).abs().max() < 1e-3
    assert torch.equal(ours.running_var, before)
    x = torch.randn(1, 3, 1, 1)
    torch.testing.assert_close(ours.eval()(x), pytorchs.eval()(x))
