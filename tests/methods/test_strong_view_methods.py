"""The methods that look at strong views, against their formulas written out with numpy."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from support.terms import Run, same

from kdbench.methods import METHODS, STRONG
from kdbench.methods.networks import TEACHER, Frozen, Shared, Stage, Trained
from kdbench.testing import fakes


def rows(run, role):
    """The logits of a role, sharp enough that some answers are sure."""
    return run.out[role].logits.detach().numpy()


def cross_entropies(logits, labels):
    return np.array([-log_softmax(z)[y] for z, y in zip(logits, labels, strict=True)])


@pytest.mark.parametrize("threshold", [0.0, 0.4, 1.0])
def test_fixmatch_takes_its_sure_answers_as_labels_of_strong_views(threshold):
    run = Run("fixmatch", soft_weight=3.0, threshold=threshold)
    assert run.method.networks() == {"student": Trained(), "strong": Shared("student")}
    assert run.method.examples == {"strong": STRONG}
    weak, strong = rows(run, "student"), rows(run, "strong")
    sure = softmax(weak, axis=1).max(axis=1) >= threshold
    assert {0.0: sure.all(), 0.4: sure.any() and not sure.all(), 1.0: not sure.any()}[threshold]
    same(run.terms["task"], cross_entropies(weak, run.labels).mean())
    same(run.terms["soft"], 3 * (sure * cross_entropies(strong, weak.argmax(axis=1))).mean())
    run.terms["soft"].backward()
    assert run.out["student"].logits.grad is None  # what it answers to the weak view is a constant


@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_noisy_student_learns_the_teacher_s_answers(labels):
    run = Run("noisy-student", soft_weight=3.0, labels=labels)
    assert run.method.networks() == {"student": Trained(), "teacher": Frozen(TEACHER)}
    assert run.method.examples == {"student": STRONG}
    student, teacher = rows(run, "student"), rows(run, "teacher")
    same(run.terms["task"], cross_entropies(student, run.labels).mean())
    run.terms["soft"].backward()
    assert run.out["teacher"].logits.grad is None
    target = softmax(teacher, axis=1)
    if labels == "hard":
        target = np.eye(fakes.C)[teacher.argmax(axis=1)]
        same(run.terms["soft"], 3 * cross_entropies(student, teacher.argmax(axis=1)).mean())
    # The gradient of the cross-entropy against a target is softmax less the target.
    gradient = 3 * (softmax(student, axis=1) - target) / fakes.B
    same(run.out["student"].logits.grad, torch.from_numpy(gradient))


def test_a_later_generation_learns_from_the_one_before():
    networks = METHODS["noisy-student"](generations=3, labels="hard", soft_weight=2.0).networks()
    earlier = {"generations": 2, "labels": "hard"}
    stage = Stage("student", "noisy-student", earlier, own_seed=True)
    assert networks["teacher"] == Frozen(stage)
    with pytest.raises(ValueError, match="labels = both is none of soft, hard"):
        METHODS["noisy-student"](labels="both")


@pytest.mark.parametrize("key", ["fixmatch", "noisy-student"])
def test_the_order_of_examples_and_a_shift_of_logits_change_nothing(key):
    run = Run(key, **({"threshold": 0.4} if key == "fixmatch" else {}))
    order = torch.randperm(fakes.B, generator=torch.Generator().manual_seed(1))
    for change in (lambda z: z[order], lambda z: z[order] + 7):
        out = {
            role: type(output)(change(output.logits.detach())) for role, output in run.out.items()
        }
        batch = fakes.batch()
        batch = type(batch)(batch.images, batch.labels[order], batch.position, batch.generator)
        terms = run.method.loss(out, batch, run.helpers, fakes.END)
        for name, term in run.terms.items():
            same(terms[name], term)
