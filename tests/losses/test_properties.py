"""Invariances, minima and gradients that mathematics demands of the losses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdbench import losses

B, C = 6, 5
LABELS = torch.tensor([0, 4, 2, 2, 1, 3])

#: Loss by name, with the shape of its features: each compares a student with a teacher.
LOGITS = {
    "kl": lambda s, t, y: losses.kl(s, t, 4.0),
    "probability_mse": lambda s, t, y: losses.probability_mse(s, t, 4.0),
    "logit_mse": lambda s, t, y: losses.logit_mse(s, t),
    "soft_cross_entropy": lambda s, t, y: losses.soft_cross_entropy(s, t),
    "target_kl": lambda s, t, y: losses.decoupled_kl(s, t, y, 4.0)[0],
    "non_target_kl": lambda s, t, y: losses.decoupled_kl(s, t, y, 4.0)[1],
}
VECTORS = {
    "cosine": losses.cosine,
    "distance": losses.distance,
    "angle": losses.angle,
}
MAPS = {
    "feature_mse": losses.feature_mse,
    "attention_transfer": losses.attention_transfer,
    "similarity": losses.similarity,
    "activation_boundary": losses.activation_boundary,
    "flow_mse": lambda s, t: losses.flow_mse(s, s.flip(1), t, t.flip(1)),
}
ALL = {
    **{k: (lambda s, t, f=f: f(s, t, LABELS), (B, C)) for k, f in LOGITS.items()},
    **{k: (f, (B, 7)) for k, f in VECTORS.items()},
    **{k: (f, (B, 3, 4, 4)) for k, f in MAPS.items()},
}
#: Losses that are 0 where the student equals the teacher.
MATCHING = sorted(ALL.keys() - {"soft_cross_entropy", "activation_boundary"})


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", MATCHING)
def test_zero_with_zero_gradient_where_student_is_teacher(name):
    loss, shape = ALL[name]
    student = draw(*shape).requires_grad_()
    value = loss(student, student.detach().clone())
    (gradient,) = torch.autograd.grad(value, student)
    # 1 - cos is rounded, and PyTorch's 1e-12 under its root moves it from 0.
    assert abs(value.item()) < 1e-11
    assert gradient.abs().max().item() < 1e-11


def test_soft_cross_entropy_has_zero_gradient_at_the_teacher():
    student = draw(B, C).requires_grad_()
    value = losses.soft_cross_entropy(student, student.detach().clone())
    (gradient,) = torch.autograd.grad(value, student)
    assert gradient.abs().max().item() < 1e-12


@pytest.mark.parametrize("name", ALL)
def test_the_teacher_gets_no_gradient(name):
    loss, shape = ALL[name]
    student, teacher = (draw(*shape, seed=s).requires_grad_() for s in (0, 1))
    loss(student, teacher).backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("name", ALL)
def test_positive_where_they_differ(name):
    loss, shape = ALL[name]
    assert loss(draw(*shape), draw(*shape, seed=1)).item() > 0


@pytest.mark.parametrize("name", ALL)
def test_the_order_of_the_batch_does_not_matter(name):
    loss, shape = ALL[name]
    student, teacher = draw(*shape), draw(*shape, seed=1)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    if name in LOGITS:
        value = LOGITS[name](student[order], teacher[order], LABELS[order])
    else:
        value = loss(student[order], teacher[order])
    torch.testing.assert_close(value, loss(student, teacher), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ALL)
def test_gradcheck(name):
    loss, shape = ALL[name]
    teacher = draw(*shape, seed=1)
    student = draw(*shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), (student,))


@pytest.mark.parametrize("name", sorted(LOGITS.keys() - {"logit_mse"}))
@settings(max_examples=20, deadline=None)
@given(shift=st.floats(-50, 50), seed=st.integers(0, 1000))
def test_a_shift_of_all_logits_changes_nothing(name, shift, seed):
    student, teacher = draw(B, C, seed=seed), draw(B, C, seed=seed + 1)
    expected = LOGITS[name](student, teacher, LABELS)
    value = LOGITS[name](student + shift, teacher - 2 * shift, LABELS)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(
    "name", ["attention_transfer", "similarity", "cosine", "distance", "angle"]
)
@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.01, 100), seed=st.integers(0, 1000))
def test_the_scale_of_features_changes_nothing(name, scale, seed):
    loss, shape = ALL[name]
    student, teacher = draw(*shape, seed=seed), draw(*shape, seed=seed + 1)
    value = loss(scale * student, teacher / scale)
    torch.testing.assert_close(value, loss(student, teacher), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["distance", "angle"])
@settings(max_examples=20, deadline=None)
@given(shift=st.floats(-100, 100), seed=st.integers(0, 1000))
def test_relations_do_not_see_where_the_points_lie(name, shift, seed):
    student, teacher = draw(B, 7, seed=seed), draw(B, 7, seed=seed + 1)
    value = VECTORS[name](student + shift, teacher - shift)
    torch.testing.assert_close(value, VECTORS[name](student, teacher), rtol=1e-9, atol=1e-12)


def test_relations_do_not_see_rotations():
    student, teacher = draw(B, 7), draw(B, 7, seed=1)
    rotation, _ = torch.linalg.qr(draw(7, 7, seed=2))
    for name in VECTORS.keys() - {"cosine"}:
        value = VECTORS[name](student @ rotation, teacher)
        torch.testing.assert_close(value, VECTORS[name](student, teacher))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), temperature=st.floats(0.5, 20), scale=st.floats(0.1, 30))
def test_kl_splits_for_all_logits(seed, temperature, scale):
    """KD = TCKD + mean((1 - p_y) NCKD), one example at a time."""
    student, teacher = draw(1, C, seed=seed) * scale, draw(1, C, seed=seed + 1) * scale
    label = torch.tensor([seed % C])
    others = 1 - torch.softmax(teacher / temperature, dim=1)[0, label[0]]
    target, non_target = losses.decoupled_kl(student, teacher, label, temperature)
    whole = target + others * non_target
    torch.testing.assert_close(
        whole, losses.kl(student, teacher, temperature), rtol=1e-8, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("student_is", ["zero", "equal rows", "two equal rows"])
@pytest.mark.parametrize("teacher_is", ["random", "zero", "equal rows"])
@pytest.mark.parametrize("name", ALL)
def test_degenerate_features_keep_gradients_finite(name, student_is, teacher_is, dtype):
    loss, shape = ALL[name]

    def make(kind, seed):
        x = draw(*shape, seed=seed).to(dtype)
        if kind == "zero":
            return torch.zeros_like(x)
        if kind == "equal rows":
            return x[:1].expand_as(x).clone()
        if kind == "two equal rows":
            x[1] = x[0]
        return x

    student, teacher = make(student_is, 0).requires_grad_(), make(teacher_is, 1)
    value = loss(student, teacher)
    (gradient,) = torch.autograd.grad(value, student)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1e6


@pytest.mark.parametrize("name", LOGITS)
def test_extreme_logits_keep_gradients_finite(name):
    student = (draw(B, C) * 1e4).float().requires_grad_()
    value = LOGITS[name](student, (draw(B, C, seed=1) * 1e4).float(), LABELS)
    (gradient,) = torch.autograd.grad(value, student)
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_near_points_far_from_the_origin_keep_their_relations_in_float32():
    """Subtracting nearly equal numbers is where distances from a Gram matrix lose digits."""
    x, teacher = draw(B, 7), draw(B, 7, seed=1)
    far = (x + 100).float()
    for name in ("distance", "angle"):
        value = VECTORS[name](far, teacher.float())
        torch.testing.assert_close(value.double(), VECTORS[name](x, teacher), rtol=1e-3, atol=1e-5)


def test_peers_do_not_feel_the_targets_they_make():
    logits = [draw(B, C, seed=s).requires_grad_() for s in (0, 1)]
    assert not losses.min_logit(logits, LABELS).requires_grad
    assert not losses.log_mean_probs(logits).requires_grad
