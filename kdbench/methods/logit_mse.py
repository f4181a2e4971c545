"""Squared error between logits."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class LogitMSE(Method):
    """The student learns to give the teacher's logits, by regression.

    Formula:
        L = (1 - alpha) * CE(y, softmax(z_s)) + alpha * mean((z_s - z_t)**2)
        the mean runs over batch and classes

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        alpha: `alpha`, the weight of the regression; 1 (the default) uses no labels

    Differs from the paper:
        - the mean over classes where the paper has half the sum
        - the logits are not centred; the teacher's mean logit is learnt too

    Variants: Kim et al. (IJCAI 2021) use alpha 1 as the paper does; the KD Zoo adds 0.1
    times this term to the whole cross-entropy. `mse` compares probabilities instead.
    """

    title: ClassVar[str] = "Logit regression"
    paper: ClassVar[Paper] = Paper(
        key="ba2014deep",
        authors="Ba, Lei Jimmy and Caruana, Rich",
        title="Do Deep Nets Really Need to be Deep?",
        venue="NIPS",
        year=2014,
        arxiv="1312.6184",
    )
    unlabelled: ClassVar[bool] = True

    alpha: float = hparam(1.0, Range(0.05, 1.0), low=0, high=1, help="weight of the regression")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def loss_weights(self):
        return {"task": 1 - self.alpha, "soft": self.alpha}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            soft=losses.logit_mse(student, teacher),
        )
