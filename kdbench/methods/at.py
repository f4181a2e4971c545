"""Attention transfer."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import common, cross_entropy, stages, total, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class AT(Method):
    """The student learns where in the image the teacher's activations are large.

    Formula:
        L = CE(y, softmax(z_s)) + beta * sum over stages of mean((q_s - q_t)**2)
        q = Q / |Q|_2,  Q = mean over channels of f**2, flattened
        the mean runs over batch and positions

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        f_s, f_t: feature maps of a stage, batch x channels x height x width; channels may
           differ, and the larger map is average-pooled to the smaller
        q: attention maps, batch x positions, of length 1
        beta: `beta`, the weight of the representation term

    Differs from the paper:
        - equation 2 has the norm of q_s - q_t; the mean of its square is what the authors'
          code and RepDistiller compute, and beta 1000 belongs to it

    Variants: the stages are summed, as in RepDistiller; the KD Zoo divides by their number.
    """

    title: ClassVar[str] = "Attention transfer"
    paper: ClassVar[Paper] = Paper(
        key="zagoruyko2017paying",
        authors="Zagoruyko, Sergey and Komodakis, Nikos",
        title="Paying More Attention to Attention: Improving the Performance of Convolutional "
        "Neural Networks via Attention Transfer",
        venue="ICLR",
        year=2017,
        arxiv="1612.03928",
    )
    unlabelled: ClassVar[bool] = True

    beta: float = hparam(
        1000.0, Range(10.0, 10000.0, log=True), low=0, help="weight of the representation term"
    )
    stages: str = hparam("stage?", help="which layers, by name or pattern")

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
        names = common((student.features, teacher.features), self.stages)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            representation=total(
                losses.attention_transfer(student.features[n], teacher.features[n]) for n in names
            ),
        )
