"""Losses on features and relations, in float64, against their definitions written another way,
and what mathematics demands of them."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from kdbench import losses
from kdbench.losses.affinities import affinities, taylor_rbf
from kdbench.losses.gaussians import moments

B = 6


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(value: torch.Tensor, expected: float, rel: float = 1e-10) -> None:
    assert value.dim() == 0
    assert value.item() == pytest.approx(float(expected), rel=rel, abs=1e-14)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


#: A loss and the shape of its features: 0 with a gradient of 0 where student is teacher.
MATCHING = {
    "affinity_kl": (lambda s, t: losses.affinity_kl(s, t, eps=1e-12), (B, 7)),
    "correlation_congruence": (losses.correlation_congruence, (B, 7)),
    "rbf_mse": (losses.rbf_mse, (B, 7)),
    "selectivity": (losses.selectivity, (B, 3, 4, 4)),
    "channel_correlation": (losses.channel_correlation, (B, 3, 4, 4)),
    "wasserstein": (lambda s, t: sum(losses.wasserstein(s, t)), (B, 3, 4, 4)),
    "wasserstein, grid 3": (lambda s, t: sum(losses.wasserstein(s, t, 3)), (B, 3, 4, 4)),
}
ALL = {
    **MATCHING,
    "gaussian_nll": (lambda s, t: losses.gaussian_nll(s, t, torch.ones(3)), (B, 3, 4, 4)),
}
#: Losses that a positive factor of the features does not change.
OF_DIRECTIONS = ("affinity_kl", "rbf_mse", "selectivity", "channel_correlation")
#: Losses that compare neighbours in the batch, or give the teacher's side a gradient.
SPECIAL = ("correlation_congruence",)


def test_affinity_kl_is_the_kl_of_affinities():
    student, teacher = draw(B, 5), draw(B, 9, seed=1)
    total = 0.0
    for i in range(B):
        rows = []
        for x in (student.numpy(), teacher.numpy()):
            row = np.array([(1 + cosine(x[i], x[j])) / 2 for j in range(B)])
            rows.append(row / row.sum())
        total += sum(t * math.log(t / s) for s, t in zip(*rows, strict=True))
    close(losses.affinity_kl(student, teacher, eps=0.0), total / B**2)
    close(affinities(student).sum(dim=1).mean(), 1.0)


def test_correlation_congruence_multiplies_neighbouring_errors():
    student, teacher = draw(B, 4), draw(B, 4, seed=1)
    error = np.abs(student.numpy() - teacher.numpy())
    expected = np.mean([error[i] @ error[i + 1] for i in range(B - 1)])
    close(losses.correlation_congruence(student, teacher), expected)
    assert losses.correlation_congruence(student[:1], teacher[:1]).item() == 0


def test_rbf_mse_is_the_taylor_series_of_the_kernel():
    student, teacher, gamma = draw(B, 4), draw(B, 7, seed=1), 0.3
    total = 0.0
    for i, j in product(range(B), repeat=2):
        ours, theirs = (
            math.exp(-2 * gamma)
            * sum((2 * gamma * cosine(x[i], x[j])) ** p / math.factorial(p) for p in range(4))
            for x in (student.numpy(), teacher.numpy())
        )
        total += (ours - theirs) ** 2
    close(losses.rbf_mse(student, teacher, gamma, 3), total / B**2)


def test_a_long_series_is_the_gaussian_kernel():
    x, gamma = draw(B, 4), 0.4
    rows = x / x.norm(dim=1, keepdim=True)
    expected = torch.exp(-gamma * torch.cdist(rows, rows).square())
    torch.testing.assert_close(taylor_rbf(x, gamma, 15), expected)


def test_selectivity_is_the_discrepancy_of_channels():
    student, teacher = draw(B, 2, 3, 3), draw(B, 4, 6, 6, seed=1)
    pooled = torch.nn.functional.avg_pool2d(teacher, 2)
    total = 0.0
    for b in range(B):
        s, t = ([c.ravel() / np.linalg.norm(c) for c in f[b].numpy()] for f in (student, pooled))

        def kernel(one, other):
            return np.mean([(a @ c) ** 2 for a, c in product(one, other)])

        total += kernel(s, s) + kernel(t, t) - 2 * kernel(s, t)
    close(losses.selectivity(student, teacher), total / B)


def test_channel_correlation():
    student, teacher = draw(B, 3, 4, 4), draw(B, 3, 2, 2, seed=1)
    total = 0.0
    for b in range(B):
        rows = []
        for f in (student[b].flatten(1).numpy(), teacher[b].flatten(1).numpy()):
            rows.append(np.array([[f[i] @ f[j] for j in range(3)] for i in range(3)]))
            rows[-1] /= np.sqrt((rows[-1] ** 2).sum(axis=1, keepdims=True))
        total += np.linalg.norm(rows[0] - rows[1]) ** 2 / 3
    close(losses.channel_correlation(student, teacher), total / B)


def test_gaussian_nll_is_that_of_the_distribution():
    mean, teacher, variance = draw(B, 3, 2, 2), draw(B, 3, 2, 2, seed=1), draw(3, seed=2).exp()
    normal = torch.distributions.Normal(mean, variance.sqrt().view(1, 3, 1, 1))
    expected = -normal.log_prob(teacher).mean() - math.log(2 * math.pi) / 2
    close(losses.gaussian_nll(mean, teacher, variance), expected)


@pytest.mark.parametrize("grid", [1, 2, 3])
def test_wasserstein_is_that_of_normal_distributions(grid):
    student, teacher, eps = draw(B, 2, 4, 4), draw(B, 2, 7, 7, seed=1), 1e-3
    pool = torch.nn.functional.adaptive_avg_pool2d
    # Positions in each cell of a 4x4 and of a 7x7 map.
    counts = {1: (16, 49), 2: (4, 16), 3: (4, 9)}[grid]
    sides = []
    for maps, n in zip((student, teacher), counts, strict=True):
        mean = pool(maps, grid)
        variance = (pool(maps**2, grid) - mean**2) * n / (n - 1)
        sides.append((mean, (variance + eps).sqrt()))
    for k, term in enumerate(losses.wasserstein(student, teacher, grid, eps)):
        expected = (sides[0][k] - sides[1][k]).square().sum() / (B * grid**2)
        close(term, expected)


def test_one_position_has_no_deviation():
    mean, deviation = moments(draw(B, 2, 1, 1), 1, 1e-4)
    torch.testing.assert_close(deviation, torch.full_like(mean, 1e-2))


@pytest.mark.parametrize("name", MATCHING)
def test_zero_with_zero_gradient_where_student_is_teacher(name):
    loss, shape = ALL[name]
    student = draw(*shape).requires_grad_()
    value = loss(student, student.detach().clone())
    (gradient,) = torch.autograd.grad(value, student)
    assert abs(value.item()) < 1e-12
    assert gradient.abs().max().item() < 1e-9


@pytest.mark.parametrize("name", sorted(ALL.keys() - SPECIAL))
def test_the_teacher_gets_no_gradient(name):
    loss, shape = ALL[name]
    student, teacher = (draw(*shape, seed=s).requires_grad_() for s in (0, 1))
    loss(student, teacher).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("name", sorted(ALL.keys() - SPECIAL))
def test_the_order_of_the_batch_does_not_matter(name):
    loss, shape = ALL[name]
    student, teacher = draw(*shape), draw(*shape, seed=1)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(loss(student[order], teacher[order]), loss(student, teacher))


@pytest.mark.parametrize("name", ALL)
def test_gradcheck(name):
    loss, shape = ALL[name]
    teacher = draw(*shape, seed=1)
    student = draw(*shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), (student,))


@pytest.mark.parametrize("name", OF_DIRECTIONS)
def test_the_scale_of_features_changes_nothing(name):
    loss, shape = ALL[name]
    student, teacher = draw(*shape), draw(*shape, seed=1)
    for scale in (0.1, 30.0):
        value = loss(scale * student, teacher / scale)
        torch.testing.assert_close(value, loss(student, teacher), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("name", ["affinity_kl", "rbf_mse"])
def test_relations_do_not_see_rotations(name):
    loss, _ = ALL[name]
    student, teacher = draw(B, 7), draw(B, 7, seed=1)
    rotation, _ = torch.linalg.qr(draw(7, 7, seed=2))
    torch.testing.assert_close(loss(student @ rotation, teacher), loss(student, teacher))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ALL)
def test_degenerate_features_keep_gradients_finite(name, dtype):
    loss, shape = ALL[name]
    for student, teacher in (
        (torch.zeros(shape), draw(*shape, seed=1)),
        (draw(*shape), torch.zeros(shape)),
        (draw(1, *shape[1:]).expand(shape).clone(), draw(*shape, seed=1)),
        (
            draw(*shape).relu() * (draw(*shape[:2], *[1] * (len(shape) - 2), seed=2) > 0),
            draw(*shape),
        ),
    ):
        leaf = student.to(dtype).requires_grad_()
        value = loss(leaf, teacher.to(dtype))
        (gradient,) = torch.autograd.grad(value, leaf)
        assert value.isfinite()
        assert gradient.isfinite().all()
        assert gradient.abs().max() < 1e6


def test_sizes_that_do_not_match_are_refused():
    maps, other = draw(B, 3, 4, 4), draw(B, 5, 4, 4)
    for call, message in (
        (lambda: losses.affinity_kl(draw(B, 3), draw(4, 3)), "B differs"),
        (lambda: losses.correlation_congruence(draw(B, 3), draw(B, 4)), "D differs"),
        (lambda: losses.channel_correlation(maps, other), "C differs"),
        (lambda: losses.wasserstein(maps, other), "C differs"),
        (lambda: losses.gaussian_nll(maps, other, torch.ones(3)), "C differs"),
        (lambda: losses.selectivity(maps, draw(B, 3)), "expected"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
