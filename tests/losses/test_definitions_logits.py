"""Losses on class distributions and logits: their definitions written out in numpy, and what
mathematics demands of them."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax, softmax
from torch.nn import functional as F

from kdbench import losses

B, C = 6, 5
LABELS = torch.tensor([0, 4, 2, 2, 1, 3])


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def logits():
    return draw(B, C, seed=1) * 3, draw(B, C, seed=2) * 3


def arrays(logits) -> list[np.ndarray]:
    return [z.numpy() for z in logits]


def close(value: torch.Tensor, expected: float, rel: float = 1e-12) -> None:
    assert value.dim() == 0
    assert value.item() == pytest.approx(float(expected), rel=rel, abs=1e-15)


def divergence(target: np.ndarray, own: np.ndarray) -> float:
    return sum(q * math.log(q / p) for q, p in zip(target, own, strict=True) if q > 0)


def spread(z: np.ndarray) -> float:
    return math.sqrt(((z - z.mean()) ** 2).sum() / (len(z) - 1))


# -- definitions


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_normalised_cross_entropy(logits, temperature):
    label, others = [], []
    for s, t, y in zip(*arrays(logits), LABELS.tolist(), strict=True):
        label.append(-softmax(t)[y] * math.log(softmax(s)[y]))
        p, q = (np.delete(softmax(z / temperature), y) for z in (s, t))
        others.append(-sum(q / q.sum() * np.log(p / p.sum())))
    target, non_target = losses.normalised_cross_entropy(*logits, LABELS, temperature)
    close(target, np.mean(label))
    close(non_target, np.mean(others))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_correlation_distance(logits, temperature):
    p, q = (softmax(z / temperature, axis=1) for z in arrays(logits))
    inter, intra = losses.correlation_distance(*logits, temperature)
    close(inter, 1 - np.mean([np.corrcoef(p[b], q[b])[0, 1] for b in range(B)]), 1e-6)
    close(intra, 1 - np.mean([np.corrcoef(p[:, c], q[:, c])[0, 1] for c in range(C)]), 1e-6)


def test_standardised_logits_have_mean_zero_and_deviation_one(logits):
    for z in logits:
        standard = losses.standardise(z).numpy()
        np.testing.assert_allclose(standard.mean(axis=1), 0, atol=1e-12)
        np.testing.assert_allclose(standard.std(axis=1, ddof=1), 1, rtol=1e-6)


@pytest.mark.parametrize("factor", [0.7, 2.0])
def test_normalised_kl(logits, factor):
    each = []
    for s, t in zip(*arrays(logits), strict=True):
        own, target = factor * spread(s), factor * spread(t)
        each.append(target**2 * divergence(softmax(t / target), softmax(s / own)))
    close(losses.normalised_kl(*logits, factor), np.mean(each), 1e-6)


@pytest.mark.parametrize("exponent", [0.1, 0.5, 1.0])
def test_transformed_kls(logits, exponent):
    plain, weighted = [], []
    for s, t in zip(*arrays(logits), strict=True):
        power = softmax(t) ** exponent
        plain.append(divergence(power / power.sum(), softmax(s)))
        weighted.append(power.sum() * plain[-1])
    close(losses.transformed_kl(*logits, exponent), np.mean(plain))
    close(losses.weighted_transformed_kl(*logits, exponent), np.mean(weighted))


def test_a_transformed_teacher_is_one_at_a_temperature(logits):
    student, teacher = logits
    target = F.log_softmax(teacher / 5, dim=1)
    close(losses.transformed_kl(*logits, 1 / 5), losses.kl_to_log_probs(student, target))
    close(losses.transformed_kl(*logits, 1.0), losses.kl(student, teacher))
    close(losses.weighted_transformed_kl(*logits, 1.0), losses.kl(student, teacher))


@pytest.mark.parametrize("temperature", [1.0, 100.0])
def test_logit_variance_is_that_of_all_pairs(logits, temperature):
    total = 0.0
    for s, t in zip(*arrays(logits), strict=True):
        w, d = softmax(t / temperature), t - s
        total += sum(w[j] * w[k] * (d[j] - d[k]) ** 2 for j, k in product(range(C), repeat=2))
    close(losses.logit_variance(*logits, temperature), total / 4 / B)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_weighted_soft_cross_entropy(logits, temperature):
    each = []
    for s, t, y in zip(*arrays(logits), LABELS.tolist(), strict=True):
        weight = 1 - math.exp(-log_softmax(s)[y] / (log_softmax(t)[y] - 1e-7))
        soft = softmax(t / temperature) @ log_softmax(s / temperature)
        each.append(-weight * soft)
    close(losses.weighted_soft_cross_entropy(*logits, LABELS, temperature), np.mean(each))


def test_weights_of_soft_labels_are_constants(logits):
    student, teacher = logits
    student = student.requires_grad_()
    losses.weighted_soft_cross_entropy(student, teacher, LABELS, 2.0).backward()
    with torch.no_grad():
        ours, theirs = (F.cross_entropy(z, LABELS, reduction="none") for z in logits)
        weight = 1 - torch.exp(-ours / (theirs + 1e-7))
        p, q = (F.softmax(z / 2, dim=1) for z in logits)
    torch.testing.assert_close(student.grad, weight[:, None] * (p - q) / (2 * B))


def refined(s: np.ndarray, t: np.ndarray, y: int, temperature: float) -> float:
    below = [c for c in range(len(t)) if t[c] < t[y]]
    if not below:
        return 0.0
    return divergence(softmax(t[below] / temperature), softmax(s[below] / temperature))


@pytest.mark.parametrize(("temperature", "target_temperature"), [(1.0, 1.0), (4.0, 2.0)])
def test_refined_kl(logits, temperature, target_temperature):
    scd, mcd = [], []
    for s, t, y in zip(*arrays(logits), LABELS.tolist(), strict=True):
        p, q = (softmax(z / target_temperature) for z in (s, t))
        scd.append(divergence([q.max(), 1 - q.max()], [p[y], 1 - p[y]]))
        mcd.append(refined(s, t, y, temperature))
    value = losses.refined_kl(*logits, LABELS, temperature, target_temperature)
    close(value[0], np.mean(scd))
    close(value[1], np.mean(mcd))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_class_below_the_label_teaches_nothing(dtype):
    teacher = torch.arange(C).expand(3, C).to(dtype)
    student = draw(3, C).to(dtype).requires_grad_()
    _, mcd = losses.refined_kl(student, teacher, torch.zeros(3, dtype=torch.int64), 4.0)
    (gradient,) = torch.autograd.grad(mcd, student)
    assert mcd == 0
    assert not gradient.any()


def test_where_the_teacher_is_right_the_refined_target_is_dkds(logits):
    student, teacher = logits
    labels = teacher.argmax(dim=1)
    refined_terms = losses.refined_kl(student, teacher, labels, 3.0, 3.0)
    for ours, theirs in zip(
        refined_terms, losses.decoupled_kl(student, teacher, labels, 3.0), strict=True
    ):
        close(ours, theirs)


@pytest.mark.parametrize(("a", "b"), [(0.8, 0.3), (0.3, 1.1)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_alpha_beta_divergence(logits, a, b, temperature):
    p, q = (softmax(z / temperature, axis=1) for z in arrays(logits))
    each = q**a * p**b - a / (a + b) * q ** (a + b) - b / (a + b) * p ** (a + b)
    value = losses.alpha_beta_divergence(*logits, a, b, temperature)
    close(value, -each.sum() / (a * b) / B, 1e-10)


def test_alpha_beta_divergence_lies_between_the_two_kls(logits):
    student, teacher = logits
    forward = losses.alpha_beta_divergence(student, teacher, 1.0, 1e-6)
    reverse = losses.alpha_beta_divergence(student, teacher, 1e-6, 1.0)
    assert forward.item() == pytest.approx(losses.kl(student, teacher).item(), rel=1e-4)
    assert reverse.item() == pytest.approx(losses.kl(teacher, student).item(), rel=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_binary_kl(logits, temperature):
    total = 0.0
    for s, t in zip(*(z.ravel() for z in arrays(logits)), strict=True):
        q = expit((s - t) / temperature)
        total += divergence([0.5, 0.5], [q, 1 - q])
    close(losses.binary_kl(*logits, temperature), total / B, 1e-10)
    gap = (logits[0] - logits[1]) / (2 * temperature)
    close(losses.binary_kl(*logits, temperature), gap.cosh().log().sum() / B, 1e-10)


def test_binary_kl_has_no_gradient_beyond_the_clamp():
    student = torch.tensor([[100.0, -100.0, 1.0]]).requires_grad_()
    value = losses.binary_kl(student, torch.zeros(1, 3))
    (gradient,) = torch.autograd.grad(value, student)
    assert value.isfinite()
    assert gradient[0, :2].tolist() == [0.0, 0.0]
    assert gradient[0, 2] > 0


@pytest.mark.parametrize("exponent", [1.0, 1.5])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_enhanced_cross_entropy(logits, exponent, temperature):
    total = 0.0
    for s, t, y in zip(*arrays(logits), LABELS.tolist(), strict=True):
        p, q = log_softmax(s / temperature), softmax(t / temperature)
        for c in range(C):
            target = (1 + q[c]) ** exponent - 1 if c == y else q[c] ** exponent
            total -= target * p[c]
    close(losses.enhanced_cross_entropy(*logits, LABELS, exponent, temperature), total / B)


def test_an_exponent_of_one_enhances_nothing(logits):
    student, teacher = logits
    value = losses.enhanced_cross_entropy(student, teacher, LABELS, 1.0, 1.0)
    close(value, losses.soft_cross_entropy(student, teacher))


@pytest.mark.parametrize(("correct", "temperature"), [(0.99, 20.0), (0.7, 1.0)])
def test_virtual_teacher(correct, temperature):
    target = losses.virtual_teacher(LABELS, C, correct, temperature, draw(1)).exp()
    for i, y in enumerate(LABELS.tolist()):
        u = [correct if c == y else (1 - correct) / (C - 1) for c in range(C)]
        np.testing.assert_allclose(target[i], softmax(np.array(u) / temperature), rtol=1e-12)
    assert torch.equal(target.argmax(dim=1), LABELS)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_gram_distance(logits, temperature):
    p, q = (softmax(z / temperature, axis=1) for z in arrays(logits))
    examples = sum((p[i] @ p[j] - q[i] @ q[j]) ** 2 for i, j in product(range(B), repeat=2))
    classes = sum(
        (p[:, i] @ p[:, j] - q[:, i] @ q[:, j]) ** 2 for i, j in product(range(C), repeat=2)
    )
    batch, class_ = losses.gram_distance(*logits, temperature)
    close(batch, examples / B, 1e-10)
    close(class_, classes / C, 1e-10)


def test_tempered_kl(logits):
    temperature = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    value = losses.tempered_kl(*logits, temperature)
    close(value, 9 * losses.kl(*logits, 3.0))
    value.backward()
    step = 1e-6
    up, down = ((3 + d) ** 2 * losses.kl(*logits, 3 + d).item() for d in (step, -step))
    assert temperature.grad.item() == pytest.approx((up - down) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("factor", [-1.0, 0.0, 0.3])
def test_scale_gradient(factor):
    value = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    moved = losses.scale_gradient(value, factor)
    moved.square().backward()
    assert moved.item() == 1.7
    assert value.grad.item() == pytest.approx(factor * 3.4)


# -- what mathematics demands

#: Losses of student, teacher and labels.
ALL = {
    "normalised target": lambda s, t, y: losses.normalised_cross_entropy(s, t, y, 3.0)[0],
    "normalised non-target": lambda s, t, y: losses.normalised_cross_entropy(s, t, y, 3.0)[1],
    "correlation over classes": lambda s, t, y: losses.correlation_distance(s, t, 4.0)[0],
    "correlation over examples": lambda s, t, y: losses.correlation_distance(s, t, 4.0)[1],
    "standardised kl": lambda s, t, y: losses.kl(losses.standardise(s), losses.standardise(t), 2.0),
    "normalised_kl": lambda s, t, y: losses.normalised_kl(s, t, 2.0),
    "transformed_kl": lambda s, t, y: losses.transformed_kl(s, t, 0.5),
    "weighted_transformed_kl": lambda s, t, y: losses.weighted_transformed_kl(s, t, 0.5),
    "logit_variance": lambda s, t, y: losses.logit_variance(s, t, 4.0),
    "weighted_soft_cross_entropy": lambda s, t, y: losses.weighted_soft_cross_entropy(s, t, y, 4.0),
    "refined target": lambda s, t, y: losses.refined_kl(s, t, y, 4.0)[0],
    "refined non-target": lambda s, t, y: losses.refined_kl(s, t, y, 4.0)[1],
    "alpha_beta_divergence": lambda s, t, y: losses.alpha_beta_divergence(s, t, 0.8, 0.3, 4.0),
    "binary_kl": lambda s, t, y: losses.binary_kl(s, t, 2.0),
    "enhanced_cross_entropy": lambda s, t, y: losses.enhanced_cross_entropy(s, t, y, 1.5),
    "gram of examples": lambda s, t, y: losses.gram_distance(s, t, 4.0)[0],
    "gram of classes": lambda s, t, y: losses.gram_distance(s, t, 4.0)[1],
    "tempered_kl": lambda s, t, y: losses.tempered_kl(s, t, torch.tensor(4.0)),
}
#: Neither 0 nor at rest where the student equals the teacher: they sharpen it or teach the label.
SHARPEN = {"normalised target", "transformed_kl", "weighted_transformed_kl", "refined target"}
SHARPEN |= {"enhanced_cross_entropy"}
#: At rest there, at the entropy of the target.
ENTROPY = {"normalised non-target", "weighted_soft_cross_entropy"}
#: A shift of the logits is seen by what compares them class by class.
SHIFTED = {"binary_kl"}


@pytest.mark.parametrize("name", sorted(ALL.keys() - SHARPEN))
def test_at_rest_where_student_is_teacher(name):
    student = draw(B, C).requires_grad_()
    value = ALL[name](student, student.detach().clone(), LABELS)
    (gradient,) = torch.autograd.grad(value, student)
    # The constants that guard divisions in the authors' code move it from 0.
    assert gradient.abs().max().item() < 1e-6
    assert abs(value.item()) < 1e-5 or name in ENTROPY


@pytest.mark.parametrize("name", ALL)
def test_the_teacher_gets_no_gradient(name):
    student, teacher = (draw(B, C, seed=s).requires_grad_() for s in (0, 1))
    value = ALL[name](student, teacher, LABELS)
    value.backward()
    assert value.item() > 0
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("name", sorted(ALL.keys() - {"weighted_soft_cross_entropy"}))
def test_gradcheck(name):
    teacher, student = draw(B, C, seed=1), draw(B, C).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: ALL[name](s, teacher, LABELS), (student,))


@pytest.mark.parametrize("name", ALL)
def test_the_order_of_the_batch_does_not_matter(name):
    student, teacher = draw(B, C), draw(B, C, seed=1)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    value = ALL[name](student[order], teacher[order], LABELS[order])
    torch.testing.assert_close(value, ALL[name](student, teacher, LABELS), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ALL)
def test_the_order_of_the_classes_does_not_matter(name):
    student, teacher = draw(B, C), draw(B, C, seed=1)
    order = torch.tensor([2, 0, 4, 1, 3])
    labels = order.argsort()[LABELS]
    value = ALL[name](student[:, order], teacher[:, order], labels)
    torch.testing.assert_close(value, ALL[name](student, teacher, LABELS), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", sorted(ALL.keys() - SHIFTED))
@pytest.mark.parametrize("shift", [-40.0, 3.0])
def test_a_shift_of_all_logits_changes_nothing(name, shift):
    student, teacher = draw(B, C), draw(B, C, seed=1)
    value = ALL[name](student + shift, teacher - 2 * shift, LABELS)
    torch.testing.assert_close(value, ALL[name](student, teacher, LABELS), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("scale", [0.1, 7.0])
def test_standardised_logits_have_no_scale(scale):
    student, teacher = draw(B, C), draw(B, C, seed=1)
    loss, rel = ALL["standardised kl"], {"rtol": 1e-5, "atol": 0}
    torch.testing.assert_close(
        loss(scale * student, teacher / scale, LABELS), loss(student, teacher, LABELS), **rel
    )
    # The normalised KL keeps the teacher's scale alone.
    norm, whole = ALL["normalised_kl"], ALL["normalised_kl"](student, teacher, LABELS)
    torch.testing.assert_close(norm(scale * student, teacher, LABELS), whole, **rel)
    torch.testing.assert_close(norm(student, scale * teacher, LABELS), scale**2 * whole, **rel)


@pytest.mark.parametrize("name", ALL)
def test_extreme_logits_keep_gradients_finite(name):
    student = (draw(B, C) * 1e4).float().requires_grad_()
    value = ALL[name](student, (draw(B, C, seed=1) * 1e4).float(), LABELS)
    (gradient,) = torch.autograd.grad(value, student)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("teacher_is", ["random", "zero"])
def test_equal_logits_keep_gradients_finite(name, teacher_is):
    student = torch.zeros(B, C).requires_grad_()
    teacher = draw(B, C).float() if teacher_is == "random" else torch.zeros(B, C)
    value = ALL[name](student, teacher, LABELS)
    (gradient,) = torch.autograd.grad(value, student)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_sizes_that_do_not_fit_are_named(name):
    with pytest.raises(ValueError, match="C differs: 5 in student, 6 in teacher"):
        ALL[name](draw(B, 5), draw(B, 6), LABELS)


@pytest.mark.parametrize(
    "name", ["normalised target", "weighted_soft_cross_entropy", "refined target"]
)
def test_labels_that_do_not_fit_are_named(name):
    with pytest.raises(ValueError, match="labels have shape"):
        ALL[name](draw(B, C), draw(B, C), LABELS[:3])
