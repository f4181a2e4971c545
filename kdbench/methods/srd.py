"""A simple recipe: projector, batch norm and a soft maximum."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, shape, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class SRD(Method):
    """The student learns the teacher's embedding through a linear projector, both normalised
    over the batch, with the largest errors weighing most.

    Formula:
        L = CE(y, softmax(z_s)) + soft_weight * T**2 * KL(p_t || p_s) + beta * R
        R = log of the sum over batch and width of |n(h_s P) - n(h_t)|**power
        p = softmax(z / T); CE and KL are means over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        h_s, h_t: vectors at `layer`, batch x width
        P: the projector, a linear map to the teacher's width, trained with the student
        n: batch normalisation without weights
        power: the larger, the more R is like the logarithm of the largest error
        T: `temperature`; soft_weight: weight of the soft term
        beta: `beta`, the weight of the representation term

    Differs from the paper:
        - the projector has no bias, which n would take away again
        - no published default for CIFAR: beta 2, power 4 and T 1 are the authors' for
          resnet34 to resnet18 on ImageNet
    """

    title: ClassVar[str] = "Simple recipe distillation"
    paper: ClassVar[Paper] = Paper(
        key="miles2024understanding",
        authors="Miles, Roy and Mikolajczyk, Krystian",
        title="Understanding the Role of the Projector in Knowledge Distillation",
        venue="AAAI",
        year=2024,
        arxiv="2303.11098",
    )
    unlabelled: ClassVar[bool] = True

    temperature: float = hparam(
        1.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    soft_weight: float = hparam(
        1.0, Range(0.1, 10.0, log=True), low=0, help="weight of the soft term"
    )
    beta: float = hparam(
        2.0, Range(0.02, 20.0, log=True), low=0, help="weight of the representation term"
    )
    power: float = hparam(4.0, low=1, high=16, help="how much the largest errors weigh")
    layer: str = hparam("embedding", help="the vectors that are compared")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.layer,)

    def helpers(self, shapes):
        student, teacher = (prod(shape(shapes, r, self.layer)) for r in ("student", "teacher"))
        return nn.ModuleDict({"projector": nn.Linear(student, teacher, bias=False)})

    def loss_weights(self):
        soft = self.soft_weight * self.temperature**2
        return {"task": 1.0, "soft": soft, "representation": self.beta}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        projected = helpers["projector"](student.features[self.layer].flatten(1))
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            soft=losses.kl(student.logits, teacher.logits, self.temperature),
            representation=losses.log_power_error(
                projected, teacher.features[self.layer].flatten(1), self.power
            ),
        )
