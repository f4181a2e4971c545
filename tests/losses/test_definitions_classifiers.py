"""Losses that read classifiers and batch normalisations, in float64, against their definitions
written another way, and what mathematics demands of them."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.special import log_softmax, softmax
from scipy.stats import norm
from torch.nn import functional as F

from kdbench import losses

B, C, K = 6, 3, 4
LABELS = torch.tensor([0, 3, 1, 1, 2, 0])


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(value: torch.Tensor, expected: float, rel: float = 1e-10) -> None:
    assert value.dim() == 0
    assert value.item() == pytest.approx(float(expected), rel=rel, abs=1e-14)


COSTS = losses.class_costs(draw(K, 5, seed=9), 2.0)
MARGIN = -draw(C, seed=8).abs()


#: A loss of student and teacher, and the shape of both.
ALL = {
    "class_map_mse": (losses.class_map_mse, (B, K, 4, 4)),
    "class_map_mse, normalised": (lambda s, t: losses.class_map_mse(s, t, 2, True), (B, K, 4, 4)),
    "region_kl": (lambda s, t: losses.region_kl(s, t, LABELS, 2.0), (B, K, 5)),
    "region_decoupled_kl": (
        lambda s, t: sum(losses.region_decoupled_kl(s, t, LABELS, 2.0)),
        (B, K, 5),
    ),
    "wasserstein_of_others": (
        lambda s, t: losses.wasserstein_of_others(s, t, LABELS, COSTS.to(s.dtype), 2.0),
        (B, K),
    ),
    "partial_l2": (lambda s, t: losses.partial_l2(s, t, MARGIN.to(s.dtype)), (B, C, 4, 4)),
}


@pytest.mark.parametrize("flattened", [False, True])
def test_class_maps_average_to_the_logits(flattened):
    maps, bias = draw(B, C, 2, 2), draw(K, seed=2)
    weight = draw(K, C * 4 if flattened else C, seed=1)
    read = maps.flatten(1) if flattened else maps.mean(dim=(2, 3))
    activations = losses.class_maps(maps, weight)
    assert activations.shape == (B, K, 2, 2)
    torch.testing.assert_close(activations.mean(dim=(2, 3)) + bias, F.linear(read, weight, bias))
    position = sum(weight[1, c * 4 + 3 if flattened else c] * maps[2, c, 1, 1] for c in range(C))
    close(activations[2, 1, 1, 1], position * (4 if flattened else 1))


@pytest.mark.parametrize("normalised", [False, True])
def test_class_map_mse(normalised):
    student, teacher = draw(B, K, 4, 4), draw(B, K, 8, 8, seed=1)
    cells = []
    for maps in (student.numpy(), teacher.numpy()):
        side = maps.shape[2] // 2
        pooled = maps.reshape(B, K, 2, side, 2, side).mean(axis=(3, 5)).reshape(B, K, 4)
        length = np.linalg.norm(pooled, axis=2, keepdims=True)
        cells.append(pooled / length if normalised else pooled)
    expected = ((cells[0] - cells[1]) ** 2).mean()
    close(losses.class_map_mse(student, teacher, 2, normalised), expected)


def test_region_logits_are_the_classifiers_of_regions():
    maps, weight, bias = draw(B, C, 4, 4), draw(K, C, seed=1), draw(K, seed=2)
    regions = losses.region_logits(losses.class_maps(maps, weight), bias, (1, 2))
    assert regions.shape == (B, K, 5)
    torch.testing.assert_close(regions[..., 0], F.linear(maps.mean(dim=(2, 3)), weight, bias))
    right_below = maps[:, :, 2:, :2].mean(dim=(2, 3))
    torch.testing.assert_close(regions[..., 3], F.linear(right_below, weight, bias))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_region_kl_weighs_regions_that_disagree(temperature):
    student, teacher = draw(B, K, 5), 2 * draw(B, K, 5, seed=1)
    total, doubled = 0.0, 0
    for b in range(B):
        whole = teacher[b, :, 0].argmax() == LABELS[b]
        for r in range(5):
            s, t = (z[b, :, r].numpy() / temperature for z in (student, teacher))
            unlike = bool((teacher[b, :, r].argmax() == LABELS[b]) != whole)
            doubled += unlike
            total += (1 + unlike) * (softmax(t) @ (log_softmax(t) - log_softmax(s)))
    assert 0 < doubled < B * 4
    close(losses.region_kl(student, teacher, LABELS, temperature), total / (B * 5))


def test_one_region_is_plain_kl():
    student, teacher = draw(B, K, 1), draw(B, K, 1, seed=1)
    expected = losses.kl(student[..., 0], teacher[..., 0], 2.0)
    close(losses.region_kl(student, teacher, LABELS, 2.0), expected)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_region_decoupled_kl_is_dkd_of_every_region(temperature):
    student, teacher = draw(B, K, 5), 2 * draw(B, K, 5, seed=1)
    total = np.zeros(2)
    for b in range(B):
        label, whole = LABELS[b : b + 1], teacher[b, :, 0].argmax() == LABELS[b]
        for r in range(5):
            pair = student[b : b + 1, :, r], teacher[b : b + 1, :, r]
            terms = [term.item() for term in losses.decoupled_kl(*pair, label, temperature)]
            unlike = bool((teacher[b, :, r].argmax() == LABELS[b]) != whole)
            total += (1 + unlike) * np.array(terms)
    for term, value in zip(
        losses.region_decoupled_kl(student, teacher, LABELS, temperature), total, strict=True
    ):
        close(term, value / (B * 5))


def test_class_costs():
    weight = draw(K, 5)
    costs = losses.class_costs(weight, 2.0)
    for i in range(K):
        for j in range(K):
            cosine = F.cosine_similarity(weight[i], weight[j], dim=0).item()
            close(costs[i, j], 1 - math.exp(-2 * (1 - cosine)))


def test_wasserstein_is_the_least_cost_of_moving_the_distribution():
    """With little regularisation and many iterations Sinkhorn's flow is the best one."""
    student, teacher, costs = 2 * draw(B, K), 2 * draw(B, K, seed=1), COSTS / 10
    total = 0.0
    for b in range(B):
        others = [c for c in range(K) if c != LABELS[b]]
        n = len(others)
        p, q = (softmax(z[b, others].numpy() / 2) for z in (student, teacher))
        cost = costs[others][:, others].numpy()
        sums = np.vstack([np.kron(np.eye(n), np.ones(n)), np.kron(np.ones(n), np.eye(n))])
        total += linprog(cost.ravel(), A_eq=sums, b_eq=np.concatenate([p, q])).fun
    value = losses.wasserstein_of_others(student, teacher, LABELS, costs, 2.0, 0.01, 2000)
    close(value, total / B, rel=0.05)


def test_wasserstein_does_not_see_shifts_and_the_labels_logit():
    student, teacher = draw(B, K), draw(B, K, seed=1)
    value = losses.wasserstein_of_others(student, teacher, LABELS, COSTS)
    moved = student + 3
    moved[torch.arange(B), LABELS] += 5
    close(losses.wasserstein_of_others(moved, teacher, LABELS, COSTS), value)


def test_margins_are_means_of_negative_parts():
    weight, bias = (
        torch.tensor([0.5, -1.5, 1.0, 1.0]).double(),
        torch.tensor([0.3, -2, 0, 5]).double(),
    )
    margins = losses.margins(weight, bias)
    for w, b, m in zip(weight.tolist()[:3], bias.tolist()[:3], margins, strict=False):
        share = norm(b, abs(w)).cdf(0)
        mean = norm(b, abs(w)).expect(lambda v: v, lb=-np.inf, ub=0) / share
        close(m, mean, 1e-6)
    close(margins[3], -3.0)
    assert losses.margins(torch.zeros(2), torch.tensor([1.0, -1.0])).isfinite().all()


def test_partial_l2_lets_the_student_be_lower_where_the_teacher_is_negative():
    student, teacher = draw(B, C, 4, 4), draw(B, C, 4, 4, seed=1)
    total = 0.0
    for (b, c, h, w), s in np.ndenumerate(student.numpy()):
        t = max(teacher[b, c, h, w].item(), MARGIN[c].item())
        if not (t <= 0 and s <= t):
            total += (s - t) ** 2
    close(losses.partial_l2(student, teacher, MARGIN), total / B)
    assert losses.partial_l2(-9 * student.abs() - 9, -teacher.abs(), MARGIN) == 0


@pytest.mark.parametrize(
    "name", ["class_map_mse", "class_map_mse, normalised", "region_kl", "region_decoupled_kl"]
)
def test_zero_where_student_is_teacher(name):
    loss, shape = ALL[name]
    student = draw(*shape).requires_grad_()
    value = loss(student, student.detach().clone())
    (gradient,) = torch.autograd.grad(value, student)
    assert abs(value.item()) < 1e-14
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("name", ALL)
def test_the_teacher_gets_no_gradient(name):
    loss, shape = ALL[name]
    student, teacher = (draw(*shape, seed=s).requires_grad_() for s in (0, 1))
    loss(student, teacher).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("name", ALL)
def test_gradcheck(name):
    loss, shape = ALL[name]
    student, teacher = draw(*shape).requires_grad_(), draw(*shape, seed=1)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), (student,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ALL)
def test_extreme_values_keep_gradients_finite(name, dtype):
    loss, shape = ALL[name]
    zero, large = torch.zeros(shape), 200 * draw(*shape)
    for student, teacher in ((zero, large), (large, zero), (zero, zero), (large, -large)):
        leaf = student.to(dtype).requires_grad_()
        value = loss(leaf, teacher.to(dtype))
        (gradient,) = torch.autograd.grad(value, leaf)
        assert value.isfinite()
        assert gradient.isfinite().all()


def test_sizes_that_do_not_match_are_refused():
    for call, message in (
        (lambda: losses.class_maps(draw(B, C, 2, 2), draw(K, 5)), "the classifier reads 5 values"),
        (lambda: losses.class_map_mse(draw(B, 2, 3, 3), draw(B, 4, 3, 3)), "K differs"),
        (lambda: losses.region_kl(draw(B, 2, 3), draw(B, 2, 4), LABELS), "R differs"),
        (lambda: losses.wasserstein_of_others(draw(B, 2), draw(B, 2), LABELS[:2], COSTS), "labels"),
        (lambda: losses.partial_l2(draw(B, C, 2, 2), draw(B, C, 2, 2), MARGIN[:2]), "C differs"),
        (lambda: losses.margins(MARGIN, MARGIN[:2]), "C differs"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
