"""Losses between gradients with respect to images, in float64, against their definitions written
another way."""

import numpy as np
import pytest
import torch
from torch import nn

from kdbench import losses
from kdbench.methods import METHODS
from kdbench.methods.image_gradients import with_image_gradient
from kdbench.models.output import Output
from kdbench.testing import fakes

B, C, SIZE = 5, 4, (2, 3, 3)
LABELS = torch.tensor([0, 3, 1, 1, 2])


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(value: torch.Tensor, expected: float) -> None:
    assert value.dim() == 0
    assert value.item() == pytest.approx(expected, rel=1e-10, abs=1e-14)


class Net(nn.Module):
    """Convolution, batch normalisation, activation, pooling, classifier."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(
            nn.Conv2d(2, 6, 2, padding=1), nn.BatchNorm2d(6), nn.Softplus(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(24, C),
        ).double()  # fmt: skip

    def forward(self, images: torch.Tensor) -> Output:
        return Output(self.body(images), {"body": self.body[0](images)})


def test_directions_are_compared_pixel_by_pixel():
    student, teacher = draw(B, *SIZE), 3 * draw(B, *SIZE, seed=1)
    total = 0.0
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        s, t = s / np.sqrt((s * s).sum()), t / np.sqrt((t * t).sum())
        total += ((s - t) ** 2).sum()
    close(losses.gradient_direction_mse(student, teacher), total / student.numel())
    # The same by the angle between them.
    cosines = torch.cosine_similarity(student.flatten(1), teacher.flatten(1))
    close(losses.gradient_direction_mse(student, teacher), (2 - 2 * cosines).sum().item() / 90)


def test_distances_are_halved_and_averaged():
    student, teacher = draw(B, *SIZE), draw(B, *SIZE, seed=1)
    each = [np.linalg.norm(d.ravel()) for d in (student - teacher).numpy()]
    close(losses.gradient_distance(student, teacher), np.mean(each) / 2)


@pytest.mark.parametrize("loss", [losses.gradient_direction_mse, losses.gradient_distance])
def test_invariances(loss):
    student, teacher = draw(B, *SIZE).requires_grad_(), draw(B, *SIZE, seed=1).requires_grad_()
    order = torch.tensor([3, 1, 4, 0, 2])
    value = loss(student, teacher)
    close(loss(student[order], teacher[order]), value.item())
    scaled = loss(5 * student, 5 * teacher).item() / value.item()
    assert scaled == pytest.approx(1 if loss is losses.gradient_direction_mse else 5)
    value.backward()
    assert teacher.grad is None
    equal = loss(student, student)
    (gradient,) = torch.autograd.grad(equal, student)
    assert equal == 0
    assert not gradient.any()


@pytest.mark.parametrize("loss", [losses.gradient_direction_mse, losses.gradient_distance])
def test_a_gradient_of_zero_gives_numbers(loss):
    student = torch.zeros(B, *SIZE, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(student, draw(B, *SIZE)), student)
    assert gradient.isfinite().all()


def test_what_is_differentiated():
    logits = draw(B, C)
    picked = [logits[b, LABELS[b]].item() for b in range(B)]
    assert losses.label_logits(logits, LABELS).tolist() == picked
    expected = [
        -np.log(np.exp(z[y]) / np.exp(z).sum()) for z, y in zip(logits.numpy(), LABELS, strict=True)
    ]
    assert losses.cross_entropies(logits, LABELS).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("score", [losses.label_logits, losses.cross_entropies])
@pytest.mark.parametrize("trained", [True, False])
def test_the_image_gradient_is_that_of_finite_differences(score, trained):
    network, images, step = Net(0), draw(B, *SIZE), 1e-6
    out = with_image_gradient(network, images, LABELS, score, trained)
    moved = draw(B, *SIZE, seed=2)
    up, down = (score(network(images + s * moved).logits, LABELS).sum() for s in (step, -step))
    slope = (out.image_gradient * moved).sum().item()
    assert slope == pytest.approx(((up - down) / (2 * step)).item(), rel=1e-6)


def test_a_loss_of_the_image_gradient_moves_what_is_trained_and_nothing_else():
    student, teacher, images = Net(0), Net(1), draw(B, *SIZE)
    teacher.eval()
    s = with_image_gradient(student, images, LABELS, losses.label_logits, True)
    with torch.no_grad():  # makes no difference
        t = with_image_gradient(teacher, images, LABELS, losses.label_logits, False)
    assert not any(v.requires_grad for v in (t.logits, t.image_gradient, *t.features.values()))
    assert torch.equal(t.logits, teacher(images).logits)
    losses.gradient_direction_mse(s.image_gradient, t.image_gradient).backward()
    weight, step = student.body[0].weight, 1e-5
    assert all(p.grad is None for p in teacher.parameters())
    moved = draw(*weight.shape, seed=3)
    slopes = []
    for sign in (step, -step):
        with torch.no_grad():
            weight += sign * moved
        again = with_image_gradient(student, images, LABELS, losses.label_logits, True)
        slopes.append(losses.gradient_direction_mse(again.image_gradient, t.image_gradient).item())
        with torch.no_grad():
            weight -= sign * moved
    numeric = (slopes[0] - slopes[1]) / (2 * step)
    assert (weight.grad * moved).sum().item() == pytest.approx(numeric, rel=1e-5)


@pytest.mark.parametrize("form", ["label-logit", "cross-entropy"])
def test_the_term_is_weighted(form):
    method = METHODS["jacobian"](beta=3.0, form=form)
    out = fakes.outputs(method, fakes.shapes(method), dtype=torch.float64)
    terms = method.loss(out, fakes.batch(), nn.ModuleDict(), fakes.END)
    pair = out["student"].image_gradient, out["teacher"].image_gradient
    direction, distance = losses.gradient_direction_mse(*pair), losses.gradient_distance(*pair)
    close(terms["representation"], 3 * (direction if form == "label-logit" else distance).item())
    task = nn.functional.cross_entropy(out["student"].logits, fakes.batch().labels)
    close(terms["task"], task.item())


def test_another_form_is_refused():
    with pytest.raises(ValueError, match="form = l1 is none of label-logit, cross-entropy"):
        METHODS["jacobian"](form="l1")
