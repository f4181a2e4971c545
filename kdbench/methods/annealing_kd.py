"""Annealed logits, then the labels."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, first_phase, scalar, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class AnnealingKD(Method):
    """The student first learns the teacher's logits, scaled down at first and less and less so,
    then from the labels alone.

    Formula:
        first `init_share` of the steps:  L = mean((z_s - k / K * z_t)**2)
        the rest:                         L = CE(y, softmax(z_s))
        k = 1, 2, .., K in K equal parts of the first phase
        the first mean runs over batch and classes, CE is a mean over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        K: `max_temperature`; the paper's temperature is K + 1 - k, its annealing factor k / K

    Differs from the paper:
        - the phases share the run's epochs and one optimiser, switched by the share of steps
          done; the authors' code has 200 epochs of the first (hence init_share 2/3) and 100 of
          the second, with a new optimiser and from the best weights of the first on test data
        - k also rises within an epoch, so that short runs have all parts
    """

    title: ClassVar[str] = "Annealing KD"
    paper: ClassVar[Paper] = Paper(
        key="jafari2021annealing",
        authors="Jafari, Aref and Rezagholizadeh, Mehdi and Sharma, Pranav and Ghodsi, Ali",
        title="Annealing Knowledge Distillation",
        venue="EACL",
        year=2021,
        arxiv="2104.07163",
    )
    unlabelled: ClassVar[bool] = True

    init_share: float = hparam(
        2 / 3, Range(0.2, 0.9), low=0.01, high=0.9, help="share of steps of the first phase"
    )
    max_temperature: int = hparam(10, low=1, help="parts of the first phase")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def loss_weights(self):
        return {"task": 1.0, "soft": 1.0}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        init = first_phase(progress.step, self.init_share, student)
        done = scalar(progress.step, student) / self.init_share
        part = (done * self.max_temperature).floor() + 1
        factor = (part / self.max_temperature).clamp(max=1)
        return weighted(
            self.loss_weights(),
            task=(1 - init) * cross_entropy(student, batch),
            soft=init * losses.logit_mse(student, factor * teacher),
        )
