"""Losses between the answers of one network or of peers, in float64, against their definitions
written another way."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from kdbench import losses

B, C = 6, 4
LABELS = torch.tensor([0, 3, 1, 1, 2, 0])
MASK = torch.tensor([1.0, 0, 1, 1, 0, 1])


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(value: torch.Tensor, expected: float) -> None:
    assert value.dim() == 0
    assert value.item() == pytest.approx(float(expected), rel=1e-10, abs=1e-14)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_masked_losses_are_means_over_what_is_not_masked(temperature):
    student, teacher = 3 * draw(B, C), 3 * draw(B, C, seed=1)
    task, soft = [], []
    for b in range(B):
        if MASK[b]:
            s, t = student[b].numpy(), teacher[b].numpy()
            task.append(-log_softmax(s)[LABELS[b]])
            logs = log_softmax(t / temperature) - log_softmax(s / temperature)
            soft.append(softmax(t / temperature) @ logs)
    close(losses.masked_cross_entropy(student, LABELS, MASK), np.mean(task))
    close(losses.masked_kl(student, teacher, MASK, temperature), np.mean(soft))


@pytest.mark.parametrize("threshold", [0.0, 0.7, 1.0])
def test_sure_cross_entropy_is_that_of_the_teacher_s_class_where_it_is_sure(threshold):
    student, teacher = 3 * draw(B, C), 3 * draw(B, C, seed=1)
    expected, counted = [], 0
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        sure = softmax(t).max() >= threshold
        expected.append(-log_softmax(s)[t.argmax()] if sure else 0.0)
        counted += sure
    assert counted == {0.0: B, 0.7: counted, 1.0: 0}[threshold]
    assert threshold != 0.7 or 0 < counted < B
    close(losses.sure_cross_entropy(student, teacher, threshold), np.mean(expected))
    shifted = losses.sure_cross_entropy(student + 5, teacher - 3, threshold)
    close(shifted, np.mean(expected))


def test_a_mask_of_ones_is_no_mask():
    student, teacher, ones = draw(B, C), draw(B, C, seed=1), torch.ones(B)
    plain = torch.nn.functional.cross_entropy(student, LABELS)
    close(losses.masked_cross_entropy(student, LABELS, ones), plain)
    close(losses.masked_kl(student, teacher, ones, 2.0), losses.kl(student, teacher, 2.0))


def test_what_is_masked_gets_no_gradient_and_nothing_left_is_zero():
    student = draw(B, C).requires_grad_()
    value = losses.masked_kl(student, draw(B, C, seed=1), MASK)
    (gradient,) = torch.autograd.grad(value, student)
    assert ((gradient.abs().sum(dim=1) > 0) == (MASK > 0)).all()
    for value in (
        losses.masked_kl(student, draw(B, C, seed=1), torch.zeros(B)),
        losses.masked_cross_entropy(student, LABELS, torch.zeros(B)),
    ):
        (gradient,) = torch.autograd.grad(value, student)
        assert value == 0
        assert not gradient.any()


def test_mean_gap_is_the_squared_difference_of_two_means():
    first, second = draw(B, 5).requires_grad_(), draw(B, 5, seed=1).requires_grad_()
    value = losses.mean_gap(first, second)
    a, b = (math.fsum(x.detach().flatten().tolist()) / x.numel() for x in (first, second))
    close(value, (a - b) ** 2)
    value.backward()
    torch.testing.assert_close(first.grad, -second.grad)
    assert losses.mean_gap(first, first) == 0


def test_gated_logits_are_weighted_sums():
    branches, weights = [draw(B, C, seed=s) for s in range(3)], draw(B, 3, seed=9).softmax(dim=1)
    ensemble = losses.gated_logits(branches, weights)
    for b in range(B):
        expected = sum(weights[b, i] * branches[i][b] for i in range(3))
        torch.testing.assert_close(ensemble[b], expected)
    alone = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64).expand(B, 3)
    assert torch.equal(losses.gated_logits(branches, alone), branches[1])


def test_attended_logits_attend_to_peers():
    peers = [draw(B, C, seed=s) for s in range(3)]
    queries, keys = draw(3, B, 5, seed=7), draw(3, B, 5, seed=8)
    mixed = losses.attended_logits(peers, queries, keys)
    for a in range(3):
        for b in range(B):
            weights = softmax([(queries[a, b] @ keys[c, b]).item() for c in range(3)])
            expected = sum(w * peers[c][b] for c, w in enumerate(weights))
            torch.testing.assert_close(mixed[a][b], expected)
    order = [2, 0, 1]
    turned = losses.attended_logits([peers[i] for i in order], queries[order], keys[order])
    for place, a in enumerate(order):
        torch.testing.assert_close(turned[place], mixed[a])


def test_attention_without_keys_is_the_mean():
    peers = [draw(B, C, seed=s) for s in range(3)]
    for mixed in losses.attended_logits(peers, draw(3, B, 5), torch.zeros(3, B, 5).double()):
        torch.testing.assert_close(mixed, torch.stack(peers).mean(dim=0))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_mutual_kl_moves_both_sides(temperature):
    student, target = draw(B, C).requires_grad_(), draw(B, C, seed=1).requires_grad_()
    value = losses.mutual_kl(student, target, temperature, eps=0.0)
    close(value, losses.kl(student, target, temperature).item())
    value.backward()
    p, q = (softmax(z.detach().numpy() / temperature, axis=1) for z in (student, target))
    gap = np.log(q / p)
    expected = q * (gap - (q * gap).sum(axis=1, keepdims=True)) / temperature / B
    np.testing.assert_allclose(target.grad, expected, atol=1e-14)
    np.testing.assert_allclose(student.grad, (p - q) / temperature / B, atol=1e-14)
    same = losses.mutual_kl(student, student.detach(), temperature)
    assert abs(same.item()) < 2 * C * 1e-7


def test_mutual_kl_adds_eps_to_the_target():
    student, target = draw(B, C), draw(B, C, seed=1)
    each = []
    for s, t in zip(student.numpy(), target.numpy(), strict=True):
        q = softmax(t) + 0.01
        each.append(q @ (np.log(q) - log_softmax(s)))
    close(losses.mutual_kl(student, target, eps=0.01), np.mean(each))


def test_sizes_that_do_not_match_are_refused():
    for call, message in (
        (lambda: losses.gated_logits([draw(B, 2)] * 3, draw(B, 2)), "for 3 branches"),
        (lambda: losses.attended_logits([draw(B, 2)], draw(1, B, 2), draw(1, B, 3)), "D differs"),
        (lambda: losses.mutual_kl(draw(B, 2), draw(B, 3)), "C differs"),
        (lambda: losses.mean_gap(draw(B, 2), draw(B, 3)), "D differs"),
        (lambda: losses.masked_kl(draw(B, 2), draw(B, 3), MASK), "C differs"),
        (lambda: losses.masked_cross_entropy(draw(B, 2), LABELS[:2], MASK), "labels"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
