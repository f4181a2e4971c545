"""Similarities between examples."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import common, cross_entropy, stages, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class SP(Method):
    """The student learns which examples of a batch the teacher finds alike.

    Formula:
        L = CE(y, softmax(z_s)) + beta * |G_s - G_t|_F**2 / B**2
        G = A A^T with each row divided by its L2 norm

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        A: the last feature map, flattened, batch x (channels height width); the sizes of
           student and teacher may differ
        G: similarities, batch x batch, without unit
        B: batch size; beta: `beta`, the weight of the representation term

    Differs from the paper:
        - where student and teacher have different numbers of stages, the last stage that
          both have

    Variants: rows by the L2 norm, as in the paper and RepDistiller (beta 3000);
    torchdistill divides by the L1 norm, which makes the term many times smaller; the KD
    Zoo averages three stages.
    """

    title: ClassVar[str] = "Similarity-preserving KD"
    paper: ClassVar[Paper] = Paper(
        key="tung2019similarity",
        authors="Tung, Frederick and Mori, Greg",
        title="Similarity-Preserving Knowledge Distillation",
        venue="ICCV",
        year=2019,
        arxiv="1907.09682",
    )
    unlabelled: ClassVar[bool] = True

    beta: float = hparam(
        3000.0, Range(30.0, 30000.0, log=True), low=0, help="weight of the representation term"
    )
    stages: str = hparam(
        "stage?", help="which layers, by name or pattern; the last of them is read"
    )

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.stages,)

    def helpers(self, shapes):
        stages(shapes, self.networks(), self.stages)
        return super().helpers(shapes)

    def loss_weights(self):
        return {"task": 1.0, "representation": self.beta}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        last = common((student.features, teacher.features), self.stages)[-1]
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            representation=losses.similarity(student.features[last], teacher.features[last]),
        )
