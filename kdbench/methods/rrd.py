"""Relational representation distillation."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from torch import nn
from torch.nn import functional as F

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, shape, weighted
from kdbench.methods.memory import Queue, RandomProjection
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class RRD(Method):
    """The student learns how similar the teacher finds an example to those in a queue of its
    recent embeddings.

    Formula:
        L = CE(y, softmax(z_s)) + beta * R
        R = - sum over k of r_t(k) log r_s(k)
        r_s = softmax over k of <e_s, o_k> / student_temperature, r_t likewise with e_t and
        teacher_temperature;  e = P h / |P h|;  CE and R are means over the batch

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        h_s, h_t: vectors at `layer`, batch x width
        P_s: a linear map to `width` dimensions, trained with the student; P_t: one of the
           teacher's that stays random
        o_k: the queue, `queue` x width: the last e_t, those of the batch included
        beta: `beta`, the weight of the representation term

    Differs from the paper:
        - P_t is not trained: in the authors' code no gradient reaches it either
        - the queue begins with random unit vectors, the authors' with columns of length 1, and
          may have any length

    Variants: student_temperature 0.1 and teacher_temperature 0.02 are the defaults of the
    authors' training script for CIFAR, so the teacher's softmax is the sharper one. In the paper
    (version 5 on arXiv) it is the student's; so it is in the docstring of that code's loss (0.02
    for the student, 0.1 for the teacher) and in an earlier version of the script (0.04 and 0.1).
    Beta 1 is that of the code's README.
    """

    title: ClassVar[str] = "Relational representation (RRD)"
    paper: ClassVar[Paper] = Paper(
        key="giakoumoglou2024relational",
        authors="Giakoumoglou, Nikolaos and Stathaki, Tania",
        title="Relational Representation Distillation",
        venue="arXiv:2407.12073",
        year=2024,
        kind="misc",
        arxiv="2407.12073",
    )
    unlabelled: ClassVar[bool] = True

    beta: float = hparam(
        1.0, Range(0.02, 20.0, log=True), low=0, help="weight of the representation term"
    )
    student_temperature: float = hparam(0.1, low=1e-3, help="of the student's similarities")
    teacher_temperature: float = hparam(0.02, low=1e-3, help="of the teacher's similarities")
    queue: int = hparam(16384, low=1, help="embeddings that are kept")
    width: int = hparam(128, low=1, help="dimensions of the projected embeddings")
    layer: str = hparam("embedding", help="the vectors that are compared")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.layer,)

    def helpers(self, shapes):
        student, teacher = (prod(shape(shapes, r, self.layer)) for r in ("student", "teacher"))
        return nn.ModuleDict(
            {
                "student": nn.Linear(student, self.width),
                "teacher": RandomProjection(teacher, self.width),
                "queue": Queue(self.queue, self.width),
            }
        )

    def loss_weights(self):
        return {"task": 1.0, "representation": self.beta}

    def loss(self, out, batch, helpers, progress):
        student, teacher = (
            F.normalize(helpers[r](out[r].features[self.layer].flatten(1)), dim=1)
            for r in ("student", "teacher")
        )
        return weighted(
            self.loss_weights(),
            task=cross_entropy(out["student"].logits, batch),
            representation=losses.relation_cross_entropy(
                student,
                teacher,
                helpers["queue"].push(teacher),
                self.student_temperature,
                self.teacher_temperature,
            ),
        )
