"""Matching the teacher's transformed probabilities."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class TTM(Method):
    """The student learns from the labels and to give, without any temperature of its own, the
    teacher's probabilities raised to a power.

    Formula:
        L = CE(y, p_s) + soft_weight * KL(q || p_s)
        q[c] = p_t[c]**g / sum over k of p_t[k]**g;  p = softmax(z)
        CE and KL are means over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        g: `exponent`, gamma in the paper; q is the teacher at temperature 1 / g
        soft_weight: beta in the paper

    Against `kd`: the student's logits are not softened, which adds a Renyi entropy of the
    student to the objective; no T**2.

    Differs from the paper: nothing known.

    Variants: the authors choose both hyperparameters by the pair (appendix A.4 of the paper);
    exponent 0.1 with 45 (the default) is their example for VGG13 to VGG8 on CIFAR-100.
    """

    title: ClassVar[str] = "Transformed teacher matching"
    paper: ClassVar[Paper] = Paper(
        key="zheng2024knowledge",
        authors="Zheng, Kaixiang and Yang, En-Hui",
        title="Knowledge Distillation Based on Transformed Teacher Matching",
        venue="ICLR",
        year=2024,
        arxiv="2402.11148",
    )
    unlabelled: ClassVar[bool] = True

    exponent: float = hparam(
        0.1, Range(0.05, 1.0, log=True), low=0, help="of the teacher's probabilities"
    )
    soft_weight: float = hparam(
        45.0, Range(1.0, 100.0, log=True), low=0, help="weight of the soft term"
    )

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def loss_weights(self):
        return {"task": 1.0, "soft": self.soft_weight}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            soft=losses.transformed_kl(student, teacher, self.exponent),
        )
