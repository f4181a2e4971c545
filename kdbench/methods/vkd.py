"""Distillation through orthogonal projections."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, shape, weighted
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.projections import Orthogonal


@dataclass(frozen=True)
class VKD(Method):
    """The student learns the teacher's normalised embedding through a projection that keeps
    distances, so that the projection cannot learn in the student's place.

    Formula:
        L = CE(y, softmax(z_s)) + soft_weight * T**2 * KL(p_t || p_s) + beta * R
        R = mean over batch and width of huber(h_s P - n(h_t))
        p = softmax(z / T); CE and KL are means over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        h_s, h_t: vectors at `layer`, batch x width
        P: the projection, width of the student x width of the teacher, trained with the
           student; its rows, or columns if those are fewer, are orthonormal: a part of the
           exponential of a skew-symmetric matrix
        n: layer normalisation without weights
        T: `temperature`; soft_weight: weight of the soft term
        beta: `beta`, the weight of the representation term

    Differs from the paper:
        - the soft term acts on the student's only classifier; the authors' transformers have
          a second one for it
        - no published default for CIFAR: all weights and T are 1, as in the authors' code for
          ImageNet
    """

    title: ClassVar[str] = "VkD"
    paper: ClassVar[Paper] = Paper(
        key="miles2024vkd",
        authors="Miles, Roy and Elezi, Ismail and Deng, Jiankang",
        title="{VkD}: Improving Knowledge Distillation Using Orthogonal Projections",
        venue="CVPR",
        year=2024,
        arxiv="2403.06213",
    )
    unlabelled: ClassVar[bool] = True

    temperature: float = hparam(
        1.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    soft_weight: float = hparam(
        1.0, Range(0.1, 10.0, log=True), low=0, help="weight of the soft term"
    )
    beta: float = hparam(
        1.0, Range(0.05, 50.0, log=True), low=0, help="weight of the representation term"
    )
    layer: str = hparam("embedding", help="the vectors that are compared")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.layer,)

    def helpers(self, shapes):
        widths = (prod(shape(shapes, role, self.layer)) for role in ("student", "teacher"))
        return nn.ModuleDict({"projection": Orthogonal(*widths)})

    def loss_weights(self):
        soft = self.soft_weight * self.temperature**2
        return {"task": 1.0, "soft": soft, "representation": self.beta}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        projected = helpers["projection"](student.features[self.layer].flatten(1))
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            soft=losses.kl(student.logits, teacher.logits, self.temperature),
            representation=losses.normalised_smooth_l1(
                projected, teacher.features[self.layer].flatten(1)
            ),
        )
