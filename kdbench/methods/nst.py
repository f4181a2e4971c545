"""Neuron selectivity transfer."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import common, cross_entropy, stages, total, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class NST(Method):
    """The student learns channels that respond where the teacher's channels do, as a
    distribution over channels.

    Formula:
        L = CE(y, softmax(z_s)) + beta * sum over stages of M
        M = mean k(t, t') + mean k(s, s') - 2 * mean k(s, t),  k(a, b) = <a, b>**2
        the means run over all pairs of channels and the batch

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        s, t: one channel of a stage's map in student and teacher, flattened and of length 1;
           the numbers of channels may differ, and the larger map is average-pooled to the
           smaller
        M: the squared maximum mean discrepancy of the two sets of channels
        beta: `beta`, the weight of the representation term

    Differs from the paper:
        - all stages, as in RepDistiller; the paper uses the last map

    Variants: the polynomial kernel of degree 2 is the paper's best. Beta 50 is
    RepDistiller's and mdistiller's; the KD Zoo has beta 10 on the last map.
    """

    title: ClassVar[str] = "Neuron selectivity transfer"
    paper: ClassVar[Paper] = Paper(
        key="huang2017like",
        authors="Huang, Zehao and Wang, Naiyan",
        title="Like What You Like: Knowledge Distill via Neuron Selectivity Transfer",
        venue="arXiv:1707.01219",
        year=2017,
        kind="misc",
        arxiv="1707.01219",
    )
    unlabelled: ClassVar[bool] = True

    beta: float = hparam(
        50.0, Range(1.0, 1000.0, log=True), low=0, help="weight of the representation term"
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
                losses.selectivity(student.features[n], teacher.features[n]) for n in names
            ),
        )
