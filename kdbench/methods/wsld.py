"""Weighted soft labels."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class WSLD(Method):
    """The student learns from the labels and from the teacher's softened probabilities, less
    from examples whose label it already fits better than the teacher does.

    Formula:
        L = CE(y, softmax(z_s)) - soft_weight * T**2 * mean of w * sum over c of p_t[c] log p_s[c]
        w = 1 - exp(-CE(y, softmax(z_s)) / (CE(y, softmax(z_t)) + 1e-7)), a constant
        p = softmax(z / T);  CE and the mean run over the batch, in w over one example

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        w: the example's weight, in [0, 1)
        T: `temperature`, without unit
        soft_weight: alpha in the authors' code

    Differs from the paper: nothing known.

    Variants: T 2 with soft_weight 2.5 is the authors' code for ImageNet; T 4 with 2.25 (the
    default) is that of cls_KD for CIFAR-100.
    """

    title: ClassVar[str] = "Weighted soft labels"
    paper: ClassVar[Paper] = Paper(
        key="zhou2021rethinking",
        authors="Zhou, Helong and Song, Liangchen and Chen, Jiajie and Zhou, Ye and "
        "Wang, Guoli and Yuan, Junsong and Zhang, Qian",
        title="Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff "
        "Perspective",
        venue="ICLR",
        year=2021,
        arxiv="2102.00650",
    )

    temperature: float = hparam(
        4.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    soft_weight: float = hparam(
        2.25, Range(0.1, 10.0, log=True), low=0, help="weight of the soft term"
    )

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def loss_weights(self):
        return {"task": 1.0, "soft": self.soft_weight * self.temperature**2}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            soft=losses.weighted_soft_cross_entropy(
                student, teacher, batch.labels, self.temperature
            ),
        )
