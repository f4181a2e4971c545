"""Losses from information theory and queues, in float64, against their definitions written
another way, and what mathematics demands of them."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from kdbench import losses

B, D, K = 6, 5, 9


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(value: torch.Tensor, expected: float, rel: float = 1e-10) -> None:
    assert value.dim() == 0
    assert value.item() == pytest.approx(float(expected), rel=rel, abs=1e-14)


OTHERS = draw(K, D, seed=5)


def relations(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return losses.relation_cross_entropy(student, teacher, OTHERS.to(student.dtype), 0.5, 0.2)


ALL = {
    "correlation_entropy": losses.correlation_entropy,
    "mutual_information": losses.mutual_information,
    "direction_gap": losses.direction_gap,
    "relation_cross_entropy": relations,
}


@pytest.mark.parametrize("order", [1.01, 1.5, 2.0])
def test_correlation_entropy(order):
    student, teacher = draw(B, D), draw(B, D, seed=1)
    total = 0.0
    for d in range(D):
        c = np.corrcoef(student[:, d], teacher[:, d])[0, 1] * (B - 1) / B
        total += abs(c - 1) ** (2 * order)
    close(losses.correlation_entropy(student, teacher, order), math.log2(total))


def test_correlation_entropy_does_not_see_scale_or_place_of_a_dimension():
    student, teacher = draw(B, D), draw(B, D, seed=1)
    moved = student * draw(D, seed=2).exp() + draw(D, seed=3)
    value = losses.correlation_entropy(moved, teacher)
    close(value, losses.correlation_entropy(student, teacher), 1e-9)
    least = losses.correlation_entropy(teacher, teacher)
    close(least, math.log2(D * (1 / B) ** 3), 1e-9)
    assert value > least


def test_mutual_information():
    student, teacher = draw(B, D), draw(B, 7, seed=1)
    own, joint = np.zeros((B, B)), np.zeros((B, B))
    for i in range(B):
        for j in range(B):
            own[i, j] = torch.cosine_similarity(student[i], student[j], dim=0)
            joint[i, j] = own[i, j] * torch.cosine_similarity(teacher[i], teacher[j], dim=0)
    expected = ((own / np.trace(own)) ** 2).sum() - ((joint / np.trace(joint)) ** 2).sum()
    close(losses.mutual_information(student, teacher), expected)
    close(losses.mutual_information(3 * student, teacher / 2), expected)


def test_a_teacher_that_tells_nothing_shares_all():
    """All its embeddings are alike, so that the products are the student's similarities."""
    value = losses.mutual_information(draw(B, D), torch.ones(B, 7, dtype=torch.float64))
    assert abs(value.item()) < 1e-15


def test_direction_gap():
    student, teacher = draw(B, D), draw(B, D, seed=1)
    each = [
        1 - s @ t / np.linalg.norm(s) / np.linalg.norm(t)
        for s, t in zip(student.numpy(), teacher.numpy(), strict=True)
    ]
    close(losses.direction_gap(student, teacher), np.mean(each))
    assert abs(losses.direction_gap(4 * teacher, teacher).item()) < 1e-15
    close(losses.direction_gap(-teacher, teacher), 2.0)


def test_relation_cross_entropy():
    student, teacher = draw(B, D), draw(B, D, seed=1)
    each = []
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        ours, theirs = (np.array([x @ o for o in OTHERS.numpy()]) for x in (s, t))
        each.append(-softmax(theirs / 0.2) @ log_softmax(ours / 0.5))
    close(relations(student, teacher), np.mean(each))
    order = torch.tensor([3, 8, 0, 1, 7, 2, 4, 6, 5])
    turned = losses.relation_cross_entropy(student, teacher, OTHERS[order], 0.5, 0.2)
    close(turned, np.mean(each))


def test_at_equal_temperatures_the_teacher_is_the_best_student():
    teacher = draw(B, D).requires_grad_()
    value = losses.relation_cross_entropy(teacher, teacher.detach(), OTHERS, 0.3, 0.3)
    (gradient,) = torch.autograd.grad(value, teacher)
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("name", ALL)
def test_no_gradient_reaches_the_teacher_and_the_order_of_the_batch_does_not_matter(name):
    student, teacher = (draw(B, D, seed=s).requires_grad_() for s in (0, 1))
    value = ALL[name](student, teacher)
    value.backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(ALL[name](student[order], teacher[order]), value)


@pytest.mark.parametrize("name", ALL)
def test_gradcheck(name):
    teacher, student = draw(B, D, seed=1), draw(B, D).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: ALL[name](s, teacher), (student,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ALL)
def test_degenerate_embeddings_keep_gradients_finite(name, dtype):
    zero, plain = torch.zeros(B, D), draw(B, D)
    for student, teacher in ((zero, plain), (plain, zero), (zero, zero), (plain, plain)):
        leaf = student.to(dtype).requires_grad_()
        value = ALL[name](leaf, teacher.to(dtype))
        (gradient,) = torch.autograd.grad(value, leaf)
        assert value.isfinite()
        assert gradient.isfinite().all()
    leaf = plain[:1].to(dtype).requires_grad_()
    assert ALL[name](leaf, plain[:1].to(dtype)).isfinite()


def test_sizes_that_do_not_match_are_refused():
    for call, message in (
        (lambda: losses.correlation_entropy(draw(B, 2), draw(B, 3)), "D differs"),
        (lambda: losses.mutual_information(draw(B, 2), draw(4, 3)), "B differs"),
        (lambda: losses.direction_gap(draw(B, 2), draw(B, 3)), "D differs"),
        (lambda: losses.relation_cross_entropy(draw(B, 2), draw(B, 2), OTHERS), "D differs"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_noise_contrastive():
    scores = draw(B, 4).exp()
    each = []
    for row in scores.tolist():
        own, *others = (p / (p + 3 / 50) for p in row)
        each.append(-math.log(own) - sum(math.log(1 - p) for p in others))
    close(losses.noise_contrastive(scores, 50), np.mean(each), 1e-5)


def test_the_own_pair_should_be_likely_and_the_others_not():
    scores = draw(B, 4).exp().requires_grad_()
    (gradient,) = torch.autograd.grad(losses.noise_contrastive(scores, 50), scores)
    assert (gradient[:, 0] < 0).all()
    assert (gradient[:, 1:] > 0).all()


def test_pair_scores():
    vectors, memory = draw(B, D), draw(K, D, seed=1).requires_grad_()
    index = torch.tensor([[b, 2, 8] for b in range(B)])
    scores = losses.pair_scores(vectors.requires_grad_(), memory, index, 0.5)
    for b in range(B):
        for place, i in enumerate(index[b].tolist()):
            close(scores[b, place], math.exp((vectors[b] @ memory[i]).item() / 0.5))
    scores.sum().backward()
    assert memory.grad is None
    assert vectors.grad.any()


def test_other_examples_are_known_and_of_another_class():
    labels, target = torch.tensor([2, -1, 0, 1, 0, -1, 2]), torch.tensor([0, 2])
    share = torch.linspace(0, 0.999, 301).expand(2, 301)
    chosen = losses.other_class_examples(labels, target, share)
    assert [sorted(set(row)) for row in chosen.tolist()] == [[0, 3, 6], [2, 3, 4]]
    _, counts = chosen[0].unique(return_counts=True)
    assert counts.min() >= 100
    nothing = losses.other_class_examples(torch.full((5,), -1), target, share)
    assert set(nothing.flatten().tolist()) == {4}
