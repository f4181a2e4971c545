"""Correlation congruence, as in its authors' code."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, shape, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class CC(Method):
    """The student learns embeddings whose errors do not agree between neighbours in the batch.

    Formula:
        L = CE(y, softmax(z_s)) + beta * mean over i of sum over d of D_i * D_(i+1)
        D_i = |r_s(h_s) - r_t(h_t)| of example i; the mean runs over neighbours in the batch

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        h_s, h_t: vectors at `layer`, batch x width
        r_s, r_t: linear maps to `width` dimensions, both trained with the student
        beta: `beta`, the weight of the representation term

    Differs from the paper:
        - the paper matches the batch's correlation matrices under a kernel, which is `cc-rbf`;
          this is the code that the authors sent to RepDistiller, whose table it made
        - the teacher's embedding is projected too, as there

    The value depends on the order of the batch, which is random.

    Variants: beta 0.02 and 128 dimensions are RepDistiller's.
    """

    title: ClassVar[str] = "Correlation congruence"
    paper: ClassVar[Paper] = Paper(
        key="peng2019correlation",
        authors="Peng, Baoyun and Jin, Xiao and Liu, Jiaheng and Li, Dongsheng and Wu, Yichao "
        "and Liu, Yu and Zhou, Shunfeng and Zhang, Zhaoning",
        title="Correlation Congruence for Knowledge Distillation",
        venue="ICCV",
        year=2019,
        arxiv="1904.01802",
    )
    unlabelled: ClassVar[bool] = True

    beta: float = hparam(
        0.02, Range(2e-4, 2.0, log=True), low=0, help="weight of the representation term"
    )
    width: int = hparam(128, low=1, help="dimensions of the projected embeddings")
    layer: str = hparam("embedding", help="the vectors that are compared")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.layer,)

    def helpers(self, shapes):
        sizes = {role: prod(shape(shapes, role, self.layer)) for role in self.networks()}
        return nn.ModuleDict({role: nn.Linear(size, self.width) for role, size in sizes.items()})

    def loss_weights(self):
        return {"task": 1.0, "representation": self.beta}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            representation=losses.correlation_congruence(
                helpers["student"](student.features[self.layer].flatten(1)),
                helpers["teacher"](teacher.features[self.layer].detach().flatten(1)),
            ),
        )
