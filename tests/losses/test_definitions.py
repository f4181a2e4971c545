"""Each loss in float64 against its definition, written another way."""

# jaxtyping writes shapes as strings, which ruff would read as types.
# ruff: noqa: F722

import math
from itertools import product

import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import Float, Int, jaxtyped
from scipy.special import log_softmax, softmax
from torch.distributions import Bernoulli, Categorical, kl_divergence
from torch.nn import functional as F

from kdbench import losses
from kdbench.losses.relations import cosines, relative_distances

B, C = 6, 5


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def logits():
    return draw(B, C, seed=1) * 3, draw(B, C, seed=2) * 3


@pytest.fixture
def labels():
    return torch.tensor([0, 4, 2, 2, 1, 3])


def close(value: torch.Tensor, expected: float) -> None:
    assert value.dim() == 0
    assert value.item() == pytest.approx(float(expected), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kl_is_that_of_the_distributions(logits, temperature):
    student, teacher = (Categorical(logits=z / temperature) for z in logits)
    close(losses.kl(*logits, temperature), kl_divergence(teacher, student).mean())


def test_kl_reduction_is_not_divided_by_classes(logits):
    student, teacher = logits
    one_by_one = [losses.kl(student[i : i + 1], teacher[i : i + 1]) for i in range(B)]
    close(losses.kl(student, teacher), sum(one_by_one) / B)


def test_kl_and_soft_cross_entropy_have_one_gradient(logits):
    student, teacher = logits
    student = student.requires_grad_()
    (a,) = torch.autograd.grad(losses.kl(student, teacher), student)
    (b,) = torch.autograd.grad(losses.soft_cross_entropy(student, teacher), student)
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-15)
    entropy = Categorical(logits=teacher).entropy().mean()
    close(losses.soft_cross_entropy(student, teacher) - losses.kl(student, teacher), entropy)


def test_kl_at_high_temperature_is_half_the_centred_logit_error(logits):
    student, teacher = (z - z.mean(dim=1, keepdim=True) for z in logits)
    limit = (student - teacher).square().mean() / 2
    value = 1e8 * losses.kl(*logits, 1e4)
    assert value.item() == pytest.approx(limit.item(), rel=1e-3)


def test_probability_mse(logits):
    ours, theirs = (softmax(z.numpy() / 2.5, axis=1) for z in logits)
    close(losses.probability_mse(*logits, 2.5), ((ours - theirs) ** 2).sum() / (B * C))


def test_logit_mse(logits):
    student, teacher = (z.numpy() for z in logits)
    expected = sum((student[b, c] - teacher[b, c]) ** 2 for b, c in np.ndindex(B, C)) / (B * C)
    close(losses.logit_mse(*logits), expected)


def test_uniform_cross_entropy(logits):
    close(losses.uniform_cross_entropy(logits[0]), -log_softmax(logits[0].numpy(), axis=1).mean())


def test_target_and_non_target_kl(logits, labels):
    temperature, binary, rest = 3.0, [], []
    for s, t, y in zip(*logits, labels, strict=True):
        p = [softmax(z.numpy() / temperature) for z in (s, t)]
        ours, theirs = (Bernoulli(torch.tensor(q[y])) for q in p)
        binary.append(kl_divergence(theirs, ours))
        others = [Categorical(torch.tensor(np.delete(q, y))) for q in p]
        rest.append(kl_divergence(others[1], others[0]))
    target, non_target = losses.decoupled_kl(*logits, labels, temperature)
    close(target, sum(binary) / B)
    close(non_target, sum(rest) / B)


def test_kl_splits_into_target_and_non_target(logits, labels):
    student, teacher = logits
    p = F.softmax(teacher / 4, dim=1)
    weighted = torch.stack(
        [
            (1 - p[i, y])
            * losses.decoupled_kl(student[i : i + 1], teacher[i : i + 1], y[None], 4)[1]
            for i, y in enumerate(labels)
        ]
    )
    whole = losses.decoupled_kl(student, teacher, labels, 4)[0] + weighted.mean()
    close(losses.kl(student, teacher, 4), whole)


def test_attention_transfer():
    student, teacher = draw(B, 3, 4, 4), draw(B, 7, 4, 4, seed=1)
    total = 0.0
    for i in range(B):
        maps = [(f[i].numpy() ** 2).mean(axis=0).ravel() for f in (student, teacher)]
        ours, theirs = (m / np.linalg.norm(m) for m in maps)
        total += ((ours - theirs) ** 2).sum()
    close(losses.attention_transfer(student, teacher), total / (B * 16))


def test_attention_transfer_pools_the_larger_map():
    student, teacher = draw(B, 3, 4, 4), draw(B, 5, 8, 8, seed=1)
    pooled = F.avg_pool2d(teacher, 2)
    close(losses.attention_transfer(student, teacher), losses.attention_transfer(student, pooled))
    close(losses.attention_transfer(teacher, student), losses.attention_transfer(pooled, student))


def test_similarity():
    student, teacher = draw(B, 3, 2, 2), draw(B, 9, seed=1)
    rows = []
    for f in (student, teacher):
        gram = f.reshape(B, -1).numpy() @ f.reshape(B, -1).numpy().T
        rows.append(np.stack([row / np.linalg.norm(row) for row in gram]))
    close(losses.similarity(student, teacher), np.linalg.norm(rows[0] - rows[1]) ** 2 / B**2)


def test_activation_boundary():
    student, teacher, margin = draw(B, 2, 3, 3) * 2, draw(B, 2, 3, 3, seed=1), 0.7
    teacher[0, 0, 0, 0] = 0.0
    total = 0.0
    for index in np.ndindex(B, 2, 3, 3):
        s, t = student[index].item(), teacher[index].item()
        if t <= 0 and s > -margin:
            total += (s + margin) ** 2
        if t > 0 and s <= margin:
            total += (s - margin) ** 2
    close(losses.activation_boundary(student, teacher, margin), total / B)


def test_flow_matrix():
    early, late = draw(B, 2, 4, 4), draw(B, 3, 4, 4, seed=1)
    gram = losses.flow(early, late)
    for b, i, j in product(range(B), range(2), range(3)):
        close(gram[b, i, j], (early[b, i] * late[b, j]).sum() / 16)
    larger = draw(B, 2, 8, 8, seed=2)
    torch.testing.assert_close(
        losses.flow(larger, late), losses.flow(F.max_pool2d(larger, 2), late)
    )


def test_relative_distances_and_cosines():
    x = draw(B, 4)
    points = x.numpy()
    lengths = np.array([[np.linalg.norm(a - b) for b in points] for a in points])
    np.testing.assert_allclose(
        relative_distances(x), lengths / lengths[lengths > 0].mean(), rtol=1e-12, atol=1e-12
    )
    angles = cosines(x)
    for i, j, k in product(range(B), repeat=3):
        a, b = points[j] - points[i], points[k] - points[i]
        norm = np.linalg.norm(a) * np.linalg.norm(b)
        expected = a @ b / norm if norm > 0 else 0.0
        assert angles[i, j, k].item() == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_distance_is_quadratic_near_and_linear_far():
    student, teacher = draw(B, 4), draw(B, 7, seed=1)
    gaps = (relative_distances(student) - relative_distances(teacher)).abs().numpy()
    huber = np.where(gaps < 1, gaps**2 / 2, gaps - 0.5)
    close(losses.distance(student, teacher), huber.mean())
    gaps = (cosines(student) - cosines(teacher)).abs().numpy()
    assert gaps.max() > 1
    close(losses.angle(student, teacher), np.where(gaps < 1, gaps**2 / 2, gaps - 0.5).mean())


def test_cosine():
    student, teacher = draw(B, 4), draw(B, 4, seed=1)
    each = [
        1 - s @ t / (np.linalg.norm(s) * np.linalg.norm(t))
        for s, t in zip(student.numpy(), teacher.numpy(), strict=True)
    ]
    assert losses.cosine(student, teacher).item() == pytest.approx(np.mean(each), rel=1e-9)


@pytest.mark.parametrize(("wide", "narrow"), [(8, 4), (7, 3)])
def test_cosine_averages_the_wider_vector(wide, narrow):
    student, teacher = draw(B, narrow), draw(B, wide, seed=1)
    pooled = F.adaptive_avg_pool1d(teacher[:, None], narrow)[:, 0]
    close(losses.cosine(student, teacher), losses.cosine(student, pooled))
    close(losses.cosine(teacher, student), losses.cosine(pooled, student))


@pytest.mark.parametrize("size", [(4, 2), (3, 3), (8, 4), (1, 1)])
def test_pool_is_pytorchs(size):
    maps = draw(2, 3, 8, 4)
    torch.testing.assert_close(losses.pool(maps, size), F.adaptive_avg_pool2d(maps, size))
    torch.testing.assert_close(losses.pool(maps, size, "max"), F.adaptive_max_pool2d(maps, size))


def test_log_mean_probs():
    members = [draw(B, C, seed=s) for s in range(3)]
    expected = np.mean([softmax(z.numpy() / 2, axis=1) for z in members], axis=0)
    np.testing.assert_allclose(losses.log_mean_probs(members, 2.0).exp(), expected, rtol=1e-12)


def test_mean_is_of_probabilities_and_not_of_logits():
    sure, unsure = torch.tensor([[8.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    mean = losses.log_mean_probs([sure, unsure]).exp()
    assert mean[0, 0].item() == pytest.approx((1 / (1 + math.exp(-8)) + 0.5) / 2, rel=1e-5)


def test_min_logit(logits, labels):
    target = losses.min_logit(logits, labels)
    for i, c in np.ndindex(B, C):
        y = labels[i]
        expected = min((z[i, c] - z[i, y]).item() for z in logits)
        assert target[i, c].item() == pytest.approx(expected)
    # The joint target is at least as sure of the label as either network.
    sure = F.softmax(target, dim=1).gather(1, labels[:, None])
    for z in logits:
        assert (sure >= F.softmax(z, dim=1).gather(1, labels[:, None]) - 1e-12).all()


def test_shapes_hold():
    """The shapes in the docstrings, checked by jaxtyping."""

    @jaxtyped(typechecker=beartype)
    def classes(
        z: Float[torch.Tensor, "b c"], t: Float[torch.Tensor, "b c"], y: Int[torch.Tensor, " b"]
    ) -> tuple[Float[torch.Tensor, ""], Float[torch.Tensor, "b c"], Float[torch.Tensor, "b c"]]:
        return losses.kl(z, t), losses.min_logit([z, t], y), losses.log_mean_probs([z, t])

    @jaxtyped(typechecker=beartype)
    def maps(
        early: Float[torch.Tensor, "b c1 h1 w1"], late: Float[torch.Tensor, "b c2 h2 w2"]
    ) -> tuple[Float[torch.Tensor, "b c1 c2"], Float[torch.Tensor, "b h1*w1"]]:
        return losses.flow(early, late), losses.attention(early)

    @jaxtyped(typechecker=beartype)
    def vectors(
        x: Float[torch.Tensor, "b d"],
    ) -> tuple[Float[torch.Tensor, "b b"], Float[torch.Tensor, "b b b"]]:
        return relative_distances(x), cosines(x)

    classes(draw(B, C), draw(B, C), torch.zeros(B, dtype=torch.int64))
    maps(draw(B, 2, 8, 8), draw(B, 3, 4, 4))
    vectors(draw(B, 7))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.kl(draw(4, 5), draw(4, 6)), "C differs: 5 in student, 6 in teacher"),
        (lambda: losses.kl(draw(4, 5), draw(3, 5)), "B differs: 4 in student, 3 in teacher"),
        (lambda: losses.logit_mse(draw(4, 1), draw(4, 6)), "C differs"),
        (lambda: losses.probability_mse(draw(4, 5), draw(5)), "teacher has shape"),
        (lambda: losses.soft_cross_entropy(draw(4, 5), draw(4, 6)), "C differs"),
        (lambda: losses.feature_mse(draw(4, 5), draw(4, 1)), "needs a regressor"),
        (lambda: losses.distance(draw(4, 5), draw(3, 5)), "B differs"),
        (lambda: losses.angle(draw(4, 5, 1, 1), draw(4, 5)), "student has shape"),
        (lambda: losses.cosine(draw(4, 5), draw(3, 5)), "B differs"),
        (lambda: losses.similarity(draw(4, 5), draw(3, 5)), "B differs"),
        (lambda: losses.attention_transfer(draw(4, 5), draw(4, 5, 2, 2)), "student has shape"),
        (
            lambda: losses.activation_boundary(draw(4, 5, 2, 2), draw(4, 6, 2, 2)),
            "C differs: 5 in student, 6 in teacher",
        ),
        (
            lambda: losses.flow_mse(
                draw(4, 2, 2, 2), draw(4, 3, 2, 2), draw(4, 2, 2, 2), draw(4, 5, 2, 2)
            ),
            "LATE-CHANNELS differs: 3 in student, 5 in teacher",
        ),
        (
            lambda: losses.decoupled_kl(draw(4, 5), draw(4, 5), torch.zeros(3, dtype=torch.int64)),
            "labels have shape",
        ),
        (lambda: losses.log_mean_probs([draw(4, 5), draw(4, 6)]), "C differs: 5 in member 1"),
    ],
)
def test_sizes_that_do_not_fit_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
