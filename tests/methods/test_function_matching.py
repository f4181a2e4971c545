"""The definition of function matching in float64, written another way."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from support.terms import Run, same

from kdbench.testing import fakes


def expected(student, teacher, temperature):
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        log_s, log_t = (log_softmax(np.array(z) / temperature) for z in (s, t))
        total += temperature**2 * (np.exp(log_t) * (log_t - log_s)).sum()
    return total / len(student)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 10.0])
def test_the_term_is_the_divergence_from_the_teacher(temperature):
    run = Run("function-matching", temperature=temperature)
    same(run.terms["soft"], expected(*(z.detach() for z in run.logits), temperature))
    assert run.method.loss_weights() == {"task": 0.0, "soft": temperature**2}


def test_labels_do_not_matter():
    run = Run("function-matching")
    assert run.terms["task"].item() == 0
    student, teacher = run.logits
    (gradient,) = torch.autograd.grad(sum(run.terms.values()), student)
    same(gradient, (student.softmax(1) - teacher.softmax(1)).detach() / fakes.B)


def test_invariances():
    run = Run("function-matching", temperature=2.0)
    student, teacher = (z.detach() for z in run.logits)
    order, shift = torch.randperm(fakes.B), torch.randn(fakes.B, 1).double()

    def soft(s, t):
        out = {role: type(run.out[role])(z) for role, z in (("student", s), ("teacher", t))}
        return run.method.loss(out, run.batch, run.helpers, fakes.END)["soft"]

    same(soft(student[order], teacher[order]), run.terms["soft"].detach())
    same(soft(student + shift, teacher - shift), run.terms["soft"].detach())
    same(soft(teacher, teacher), 0.0)
