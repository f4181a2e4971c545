"""The teacher's answers as labels."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class PseudoLabel(Method):
    """The student learns from the labels, and from the class that a sure teacher gives.

    Formula:
        L = CE(y, softmax(z_s)) + soft_weight * mean(m * CE(c, softmax(z_s)))
        c = argmax z_t;  m = 1 where max softmax(z_t) >= threshold, else 0
        the first CE is a mean over the examples with a label, the other over the whole batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        threshold: the least probability of a class that counts; soft_weight: of its term

    Differs from the paper:
        - the classes are those of a trained teacher; the paper takes the network's own answers
          and raises their weight from 0 to 3 while it trains
        - the threshold is FixMatch's (Sohn et al. 2020); the paper has none

    Variants: soft_weight 1 and threshold 0.95 are FixMatch's.
    """

    title: ClassVar[str] = "Pseudo-label"
    paper: ClassVar[Paper] = Paper(
        key="lee2013pseudo",
        authors="Lee, Dong-Hyun",
        title="Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep "
        "Neural Networks",
        venue="ICML Workshop on Challenges in Representation Learning",
        year=2013,
    )
    unlabelled: ClassVar[bool] = True

    soft_weight: float = hparam(
        1.0, Range(0.1, 10.0, log=True), low=0, help="weight of the teacher's classes"
    )
    threshold: float = hparam(0.95, low=0, high=1, help="least probability of a class that counts")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def loss_weights(self):
        return {"task": 1.0, "soft": self.soft_weight}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            soft=losses.sure_cross_entropy(student, teacher, self.threshold),
        )
