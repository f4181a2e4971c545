"""Matching the teacher's transformed probabilities, weighted."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class WTTM(Method):
    """The student learns as in `ttm`, more from the examples of which the teacher is unsure.

    Formula:
        L = CE(y, p_s) + soft_weight * mean of u * KL(q || p_s)
        u = sum over k of p_t[k]**g;  q[c] = p_t[c]**g / u;  p = softmax(z)
        CE and the mean run over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        u: the example's weight, from 1 where the teacher is sure to C**(1 - g) where it
           gives all C classes the same
        g: `exponent`, gamma in the paper; q is the teacher at temperature 1 / g
        soft_weight: beta in the paper

    Differs from the paper:
        - the authors choose both hyperparameters by the pair (appendix A.4 of the paper); the
          defaults, exponent 0.2 and 4, are those of the one example in their code, for VGG13
          to VGG8 on CIFAR-100, where the term stands beside that of CRD
    """

    title: ClassVar[str] = "Weighted teacher matching"
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
        0.2, Range(0.05, 1.0, log=True), low=0, help="of the teacher's probabilities"
    )
    soft_weight: float = hparam(
        4.0, Range(0.5, 50.0, log=True), low=0, help="weight of the soft term"
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
            soft=losses.weighted_transformed_kl(student, teacher, self.exponent),
        )
