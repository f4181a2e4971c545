"""Information theoretic representation distillation."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, shape, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class ITRD(Method):
    """The student learns an embedding that correlates with the teacher's dimension by dimension
    and whose similarities within the batch tell as much as the teacher's do.

    Formula:
        L = CE(y, softmax(z_s)) + correlation_weight * R + mutual_weight * M
        R = log2 of the sum over d of |c_d - 1|**(2 * order)
        M = sum of (G_s / tr G_s)**2 - sum of (G_st / tr G_st)**2
        c_d: correlation over the batch of dimension d of P h_s and h_t;  G_st = G_s * G_t
        G: cosines of a batch's embeddings to one another, batch x batch

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        h_s, h_t: vectors at `layer`, batch x width
        P: a linear map to the teacher's width, trained with the student; G_s is made of h_s
           itself where the widths agree, and of P h_s where they do not
        order: of the Renyi entropy behind R, without unit
        correlation_weight, mutual_weight: weights of the terms

    Differs from the paper:
        - M has no logarithms, as in the authors' code

    Variants: the defaults are the authors' for wrn-40-2 to wrn-16-2 on CIFAR-100.
    """

    title: ClassVar[str] = "Information-theoretic KD"
    paper: ClassVar[Paper] = Paper(
        key="miles2022information",
        authors="Miles, Roy and Lopez-Rodriguez, Adrian and Mikolajczyk, Krystian",
        title="Information Theoretic Representation Distillation",
        venue="BMVC",
        year=2022,
        arxiv="2112.00459",
    )
    unlabelled: ClassVar[bool] = True

    correlation_weight: float = hparam(
        2.0, Range(0.02, 20.0, log=True), low=0, help="weight of the correlation term"
    )
    mutual_weight: float = hparam(
        1.0, Range(0.01, 10.0, log=True), low=0, help="weight of the mutual information term"
    )
    order: float = hparam(1.01, low=0.5, high=10, help="of the entropy of the correlation term")
    layer: str = hparam("embedding", help="the vectors that are compared")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.layer,)

    def helpers(self, shapes):
        student, teacher = (prod(shape(shapes, r, self.layer)) for r in ("student", "teacher"))
        return nn.ModuleDict({"projector": nn.Linear(student, teacher)})

    def loss_weights(self):
        return {
            "task": 1.0,
            "correlation": self.correlation_weight,
            "mutual": self.mutual_weight,
        }

    def loss(self, out, batch, helpers, progress):
        student, teacher = (out[r].features[self.layer].flatten(1) for r in ("student", "teacher"))
        projected = helpers["projector"](student)
        compared = student if student.shape == teacher.shape else projected
        return weighted(
            self.loss_weights(),
            task=cross_entropy(out["student"].logits, batch),
            correlation=losses.correlation_entropy(projected, teacher, self.order),
            mutual=losses.mutual_information(compared, teacher),
        )
