"""Probabilistic knowledge transfer."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, shape, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class PKT(Method):
    """The student learns with what probability the teacher takes one example of a batch for
    the neighbour of another.

    Formula:
        L = CE(y, softmax(z_s)) + beta * mean(P_t log(P_t / P_s))
        P = (1 + cos(h_i, h_j)) / 2, each row divided by its sum
        the second mean runs over all pairs of examples

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        h: vectors at `layer`, batch x width; the widths of student and teacher may differ
        P: affinities, batch x batch; 1e-7 is added to both inside the logarithm
        beta: `beta`, the weight of the representation term

    Differs from the paper:
        - a mean over the pairs where the paper has the sum, as in the authors' code
        - the authors train on the affinities alone; the sum with the cross-entropy is that of
          RepDistiller's table

    Variants: beta 30000 is RepDistiller's and mdistiller's; the KD Zoo has 10000. As in the
    authors' code, the pairs of an example with itself count.
    """

    title: ClassVar[str] = "Probabilistic knowledge transfer"
    paper: ClassVar[Paper] = Paper(
        key="passalis2018learning",
        authors="Passalis, Nikolaos and Tefas, Anastasios",
        title="Learning Deep Representations with Probabilistic Knowledge Transfer",
        venue="ECCV",
        year=2018,
        arxiv="1803.10837",
    )
    unlabelled: ClassVar[bool] = True

    beta: float = hparam(
        30000.0, Range(300.0, 300000.0, log=True), low=0, help="weight of the representation term"
    )
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
        student, teacher = out["student"], out["teacher"]
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            representation=losses.affinity_kl(
                student.features[self.layer].flatten(1), teacher.features[self.layer].flatten(1)
            ),
        )
