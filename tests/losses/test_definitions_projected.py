"""Losses between projected features, in float64, against their definitions written another
way, and what mathematics demands of them."""

import math

import numpy as np
import pytest
import torch

from kdbench import losses

B, C = 6, 4
LABELS = torch.tensor([0, 3, 1, 1, 2, 0])
CENTRES = torch.randn(C, 7, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(value: torch.Tensor, expected: float, rel: float = 1e-10) -> None:
    assert value.dim() == 0
    assert value.item() == pytest.approx(float(expected), rel=rel, abs=1e-14)


def nd(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return losses.norm_and_direction(student, teacher, CENTRES, LABELS)


#: A loss and the shape of its features.
ALL = {
    "feature_sse": (losses.feature_sse, (B, 3, 8, 8)),
    "hierarchical_context": (losses.hierarchical_context, (B, 3, 8, 8)),
    "factor_l1": (losses.factor_l1, (B, 3, 4, 4)),
    "factor_attention_l1": (losses.factor_attention_l1, (B, 3, 4, 4)),
    "normalised_smooth_l1": (losses.normalised_smooth_l1, (B, 7)),
    "log_power_error": (losses.log_power_error, (B, 7)),
    "norm_and_direction": (nd, (B, 7)),
}
#: Losses that are 0 where student is teacher, and their form for which the gradient is 0 too.
MATCHING = ("feature_sse", "hierarchical_context", "factor_l1", "factor_attention_l1")


def test_feature_sse_is_the_squared_distance():
    student, teacher = draw(B, 2, 3, 3), draw(B, 2, 3, 3, seed=1)
    distances = [
        np.linalg.norm((s - t).numpy()) ** 2 for s, t in zip(student, teacher, strict=True)
    ]
    close(losses.feature_sse(student, teacher), np.mean(distances))


@pytest.mark.parametrize(("size", "levels"), [(8, (8, 4, 2, 1)), (4, (4, 2, 1)), (1, (1,))])
def test_hierarchical_context_weighs_pooled_sizes(size, levels):
    student, teacher = draw(B, 2, size, size), draw(B, 2, size, size, seed=1)
    total = 0.0
    for k, level in enumerate(levels):
        cell = size // level
        means = [
            f.numpy().reshape(B, 2, level, cell, level, cell).mean(axis=(3, 5))
            for f in (student, teacher)
        ]
        total += ((means[0] - means[1]) ** 2).mean() / 2**k
    expected = total / sum(2.0**-k for k in range(len(levels)))
    close(losses.hierarchical_context(student, teacher), expected)


def test_factors_are_compared_in_direction():
    student, teacher = draw(B, 2, 3, 3), draw(B, 2, 3, 3, seed=1)
    flat = attention = 0.0
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        flat += np.abs(s / np.linalg.norm(s) - t / np.linalg.norm(t)).sum()
        q, r = ((f**2).mean(axis=0) for f in (s, t))
        attention += np.abs(q / np.linalg.norm(q) - r / np.linalg.norm(r)).sum()
    close(losses.factor_l1(student, teacher), flat / student.numel())
    close(losses.factor_attention_l1(student, teacher), attention / (B * 9))


def test_normalised_smooth_l1_is_quadratic_near_and_linear_far():
    student, teacher = draw(B, 5) * 2, draw(B, 5, seed=1)
    rows = teacher.numpy()
    normal = (rows - rows.mean(axis=1, keepdims=True)) / np.sqrt(
        rows.var(axis=1, keepdims=True) + 1e-5
    )
    gaps = np.abs(student.numpy() - normal)
    assert gaps.min() < 1 < gaps.max()
    huber = np.where(gaps < 1, gaps**2 / 2, gaps - 0.5)
    close(losses.normalised_smooth_l1(student, teacher), huber.mean())
    shifted = losses.normalised_smooth_l1(student, 3 + teacher)
    torch.testing.assert_close(shifted, losses.normalised_smooth_l1(student, teacher))


@pytest.mark.parametrize("power", [1.0, 4.0])
def test_log_power_error(power):
    student, teacher = draw(B, 5), draw(B, 5, seed=1)
    sides = [
        (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-4)
        for x in (student.numpy(), teacher.numpy())
    ]
    expected = math.log((np.abs(sides[0] - sides[1]) ** power).sum() + 1e-6)
    close(losses.log_power_error(student, teacher, power), expected)


def test_a_large_power_is_the_greatest_error():
    student, teacher = draw(B, 5), draw(B, 5, seed=1)
    sides = [(x - x.mean(dim=0)) / (x.var(dim=0, correction=0) + 1e-4).sqrt()
             for x in (student, teacher)]  # fmt: skip
    greatest = (sides[0] - sides[1]).abs().max()
    close(losses.log_power_error(student, teacher, 400.0) / 400, greatest.log(), rel=1e-2)


def test_log_power_error_does_not_see_scale_or_place_of_a_dimension():
    student, teacher = draw(B, 5), draw(B, 5, seed=1)
    scale, shift = draw(5, seed=2).exp(), draw(5, seed=3)
    value = losses.log_power_error(student * scale * 50 + shift, teacher)
    torch.testing.assert_close(
        value, losses.log_power_error(50 * student, teacher), rtol=1e-4, atol=0
    )


def test_norm_and_direction():
    student, teacher = draw(B, 7), draw(B, 7, seed=1)
    total = 0.0
    for s, t, y in zip(student.numpy(), teacher.numpy(), LABELS, strict=True):
        centre = CENTRES[y].numpy()
        longer = max(np.linalg.norm(s), np.linalg.norm(t))
        total += 1 - s @ centre / np.linalg.norm(centre) / longer
    close(nd(student, teacher), total / B)


def test_norm_and_direction_is_least_where_the_student_is_long_and_points_to_the_centre():
    teacher = draw(B, 7)
    student = 100 * CENTRES[LABELS]
    close(1 + nd(student, teacher), 1.0)
    scaled = losses.norm_and_direction(student, teacher, 5 * CENTRES, LABELS)
    close(1 + scaled, 1.0)
    assert nd(student / 1e4, teacher) > 0.5


def test_calibrated_mse():
    errors, attention = draw(B, 2, 3).square(), draw(B, 2, 3, seed=1).softmax(dim=2)
    total = sum(
        (errors[b, i, j] * attention[b, i, j]).item()
        for b in range(B) for i in range(2) for j in range(3)
    )  # fmt: skip
    close(losses.calibrated_mse(errors, attention), total / (B * 2))


@pytest.mark.parametrize("name", MATCHING)
def test_zero_with_zero_gradient_where_student_is_teacher(name):
    loss, shape = ALL[name]
    student = draw(*shape).requires_grad_()
    value = loss(student, student.detach().clone())
    (gradient,) = torch.autograd.grad(value, student)
    assert value.item() == 0
    assert gradient.abs().max().item() < 1e-12


def test_normalised_targets_are_reached():
    teacher = draw(B, 7)
    normal = torch.nn.functional.layer_norm(teacher, (7,))
    assert losses.normalised_smooth_l1(normal, teacher).item() == 0
    assert losses.log_power_error(teacher, teacher).item() == pytest.approx(math.log(1e-6))


@pytest.mark.parametrize("name", ALL)
def test_the_teacher_gets_no_gradient(name):
    loss, shape = ALL[name]
    student, teacher = (draw(*shape, seed=s).requires_grad_() for s in (0, 1))
    loss(student, teacher).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("name", sorted(ALL.keys() - {"norm_and_direction"}))
def test_the_order_of_the_batch_does_not_matter(name):
    loss, shape = ALL[name]
    student, teacher = draw(*shape), draw(*shape, seed=1)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(loss(student[order], teacher[order]), loss(student, teacher))


@pytest.mark.parametrize("name", ALL)
def test_gradcheck(name):
    loss, shape = ALL[name]
    shape = (shape[0], *(min(n, 4) for n in shape[1:])) if len(shape) == 4 else shape
    teacher = draw(*shape, seed=1)
    student = draw(*shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), (student,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ALL)
def test_degenerate_features_keep_gradients_finite(name, dtype):
    loss, shape = ALL[name]
    zero, plain, other = torch.zeros(shape), draw(*shape), draw(*shape, seed=1)
    for student, teacher in ((zero, other), (plain, zero), (zero, zero), (plain, plain)):
        leaf = student.to(dtype).requires_grad_()
        value = loss(leaf, teacher.to(dtype))
        (gradient,) = torch.autograd.grad(value, leaf)
        assert value.isfinite()
        assert gradient.isfinite().all()
        assert gradient.abs().max() < 1e6


def test_one_example_keeps_the_batchs_normalisation_finite():
    student = draw(1, 5).requires_grad_()
    value = losses.log_power_error(student, draw(1, 5, seed=1))
    (gradient,) = torch.autograd.grad(value, student)
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_sizes_that_do_not_match_are_refused():
    for call, message in (
        (lambda: losses.feature_sse(draw(B, 2, 3, 3), draw(B, 4, 3, 3)), "C differs"),
        (lambda: losses.hierarchical_context(draw(B, 2, 3, 3), draw(B, 2, 6, 6)), "H differs"),
        (lambda: losses.factor_l1(draw(B, 2, 3, 3), draw(B, 4, 3, 3)), "C differs"),
        (lambda: losses.factor_attention_l1(draw(B, 2, 3, 3), draw(B, 2, 6, 6)), "H differs"),
        (lambda: losses.normalised_smooth_l1(draw(B, 2), draw(B, 3)), "D differs"),
        (lambda: losses.log_power_error(draw(B, 2), draw(B, 3)), "D differs"),
        (lambda: losses.norm_and_direction(draw(B, 7), draw(B, 7), CENTRES, LABELS[:3]), "labels"),
        (lambda: losses.calibrated_mse(draw(B, 2, 2), draw(B, 2, 3)), "T differs"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
