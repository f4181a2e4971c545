"""The loss of an expanded map, in float64, against its definition and what follows from it."""

import numpy as np
import pytest
import torch

from kdbench import losses

B, C, N = 5, 3, 4


def draw(channels: int, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(B, channels, 2, 3, generator=g, dtype=torch.float64)


EXPANDED, TEACHER = draw(N * C, 0), draw(C, 1)


def test_definition():
    s, t = EXPANDED.numpy(), TEACHER.numpy()
    expected = sum(np.mean((s[:, n * C : (n + 1) * C] - t) ** 2) for n in range(N))
    value = losses.n_to_one(EXPANDED, TEACHER)
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_one_segment_is_the_mean_square():
    one = EXPANDED[:, :C]
    torch.testing.assert_close(losses.n_to_one(one, TEACHER), losses.feature_mse(one, TEACHER))


def test_copies_of_the_teacher_are_without_loss_and_gradient():
    copies = TEACHER.repeat(1, N, 1, 1).requires_grad_()
    value = losses.n_to_one(copies, TEACHER)
    value.backward()
    assert value == 0
    assert not copies.grad.any()


def test_segments_and_images_may_change_places():
    value = losses.n_to_one(EXPANDED, TEACHER)
    segments = torch.cat(EXPANDED.split(C, dim=1)[::-1], dim=1)
    torch.testing.assert_close(losses.n_to_one(segments, TEACHER), value)
    order = torch.randperm(B, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(losses.n_to_one(EXPANDED[order], TEACHER[order]), value)


def test_channels_that_do_not_divide_are_an_error():
    with pytest.raises(RuntimeError):
        losses.n_to_one(EXPANDED[:, 1:], TEACHER)


def test_the_teacher_gets_no_gradient():
    teacher = TEACHER.clone().requires_grad_()
    assert not losses.n_to_one(EXPANDED, teacher).requires_grad
