"""Correlations with the predictions of a stronger teacher."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class DIST(Method):
    """The student learns from the labels and to correlate with the teacher: over the classes of
    each example, and over the examples of each class.

    Formula:
        L = CE(y, softmax(z_s)) + T**2 * (inter_weight * R + intra_weight * A)
        R = 1 - mean over examples of rho(row of P_s, row of P_t)
        A = 1 - mean over classes of rho(column of P_s, column of P_t)
        P = softmax(z / T), batch x classes;  rho: Pearson's correlation
        CE is a mean over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        T: `temperature`, tau in the authors' code
        inter_weight, intra_weight: beta and gamma in the paper

    Differs from the paper:
        - the factor T**2 is that of the authors' code
        - the weights 2 are the authors' for CIFAR-100; T 4 is that of TTM's code, which compares
          with DIST there, since the authors' own file could not be read

    Variants: on ImageNet T is 1. The correlation guards its denominator with 1e-8, as the
    authors' code does.
    """

    title: ClassVar[str] = "DIST"
    paper: ClassVar[Paper] = Paper(
        key="huang2022knowledge",
        authors="Huang, Tao and You, Shan and Wang, Fei and Qian, Chen and Xu, Chang",
        title="Knowledge Distillation from A Stronger Teacher",
        venue="NeurIPS",
        year=2022,
        arxiv="2205.10536",
    )
    unlabelled: ClassVar[bool] = True

    temperature: float = hparam(
        4.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    inter_weight: float = hparam(
        2.0, Range(0.2, 20.0, log=True), low=0, help="weight of the correlation over classes"
    )
    intra_weight: float = hparam(
        2.0, Range(0.2, 20.0, log=True), low=0, help="weight of the correlation over examples"
    )

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def loss_weights(self):
        square = self.temperature**2
        return {
            "task": 1.0,
            "inter": self.inter_weight * square,
            "intra": self.intra_weight * square,
        }

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        inter, intra = losses.correlation_distance(student, teacher, self.temperature)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            inter=inter,
            intra=intra,
        )
