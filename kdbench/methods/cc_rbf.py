"""Correlation congruence under a kernel, as in the paper."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, shape, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class CCRBF(Method):
    """The student learns how strongly the examples of a batch correlate for the teacher.

    Formula:
        L = CE(y, softmax(z_s)) + beta * mean((K_s - K_t)**2)
        K = exp(-2 gamma) * sum over p = 0 .. order of (2 gamma)**p / p! * cos(h_i, h_j)**p
        the second mean runs over all pairs of examples

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        h: vectors at `layer`, batch x width; the widths of student and teacher may differ
        K: correlations, batch x batch, the Taylor series of a Gaussian kernel
        gamma: the inverse width of the kernel; order: where its series ends
        beta: `beta`, the weight of the representation term

    Differs from the paper:
        - the labels and this term alone; the paper adds kd
        - no learned projection before the kernel, as in the KD Zoo

    Variants: beta 100, gamma 0.4 and order 2 are the KD Zoo's. RepDistiller's correlation is
    `cc`.
    """

    title: ClassVar[str] = "Correlation congruence (RBF)"
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
        100.0, Range(1.0, 10000.0, log=True), low=0, help="weight of the representation term"
    )
    gamma: float = hparam(0.4, low=0, help="inverse width of the Gaussian kernel")
    order: int = hparam(2, low=1, high=16, help="order at which the kernel's series ends")
    layer: str = hparam("embedding", help="the vectors that are compared")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.layer,)

    def helpers(self, shapes):
        for role in self.networks():
            shape(shapes, role, self.layer)
        return super().helpers(shapes)

    def loss_weights(self):
        return {"task": 1.0, "representation": self.beta}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].features, out["teacher"].features
        return weighted(
            self.loss_weights(),
            task=cross_entropy(out["student"].logits, batch),
            representation=losses.rbf_mse(
                student[self.layer].flatten(1),
                teacher[self.layer].flatten(1),
                self.gamma,
                self.order,
            ),
        )
