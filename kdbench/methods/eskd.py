"""Soft targets from a teacher whose training was stopped early."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, first_phase, weighted
from kdbench.methods.networks import Frozen, Stage, Trained


@dataclass(frozen=True)
class ESKD(Method):
    """The student learns by `kd` from a teacher that was trained for a part of the epochs, and
    may itself end with the labels alone.

    Formula:
        first `distillation` of the steps:
            L = (1 - alpha) * CE(y, softmax(z_s)) + alpha * T**2 * KL(p_t || p_s)
        the rest:
            L = CE(y, softmax(z_s))
        p = softmax(z / T); CE and KL are means over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        T: `temperature`, without unit
        alpha: `alpha`, the weight of the soft term
        teacher_epochs: how long the teacher is trained, as a share of the study's epochs; its
            whole learning rate schedule fits in them

    The teacher is a run of its own, on the study's teacher model with the study's method for it.

    Differs from the paper:
        - the paper calls ESKD what `distillation` below 1 does, and combines it with early
          stopped teachers; which epoch its students stop at was not found, so at the default
          the soft term stays to the end
        - the paper's T and alpha were not found either; the defaults are those of `kd`

    Variants: teacher_epochs 0.25 is the paper's 50 of 200 epochs on CIFAR-10; it also has 35.
    """

    title: ClassVar[str] = "Early-stopped KD"
    paper: ClassVar[Paper] = Paper(
        key="cho2019efficacy",
        authors="Cho, Jang Hyun and Hariharan, Bharath",
        title="On the Efficacy of Knowledge Distillation",
        venue="ICCV",
        year=2019,
        arxiv="1910.01348",
    )
    unlabelled: ClassVar[bool] = True

    temperature: float = hparam(
        4.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    alpha: float = hparam(0.9, Range(0.05, 0.95), low=0, high=1, help="weight of the soft term")
    teacher_epochs: float = hparam(
        0.25, low=0.001, high=1, help="epochs of the teacher, as a share of the study's"
    )
    distillation: float = hparam(
        1.0, low=0, high=1, help="share of the student's steps with the soft term"
    )

    def networks(self):
        teacher = Stage(model="teacher", epochs=self.teacher_epochs)
        return {"student": Trained("student"), "teacher": Frozen(teacher)}

    def loss_weights(self):
        return {"task": 1 - self.alpha, "soft": self.alpha * self.temperature**2}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        task = cross_entropy(student, batch)
        distil = first_phase(progress.step, self.distillation, student)
        soft = losses.kl(student, teacher, self.temperature)
        # Where the soft term ends, the labels take its weight.
        return weighted(
            self.loss_weights(),
            task=task,
            soft=distil * soft + (1 - distil) * task / self.temperature**2,
        )
