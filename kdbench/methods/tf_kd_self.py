"""A finished student of the same kind as teacher."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Stage, Trained


@dataclass(frozen=True)
class TfKDSelf(Method):
    """The student learns from the labels and from the softened probabilities of a finished
    student of its own kind that has learnt from the labels alone.

    Formula:
        L = (1 - alpha) * CE(y, softmax(z_s)) + alpha * multiplier * T**2 * KL(p_t || p_s)
        p = softmax(z / T); CE and KL are means over the batch

    Symbols:
        z_s, z_t: logits of the student and of the earlier one, batch x classes
        y: labels, batch
        T: `temperature`, without unit
        alpha: weight of the soft term; multiplier: a further factor of it

    The study's teacher is not used. The earlier student has first weights of its own. `ban` is
    the same with other weights and further generations.

    Differs from the paper:
        - the paper has no multiplier; it is that of the authors' code

    Variants: the authors' code divides its KL by the class count as well, so its multiplier 50
    on CIFAR-100 is 0.5 here (the default, with alpha 0.95 and T 6: its ResNet18); it has other
    values for other models.
    """

    title: ClassVar[str] = "Tf-KD (self-training)"
    paper: ClassVar[Paper] = Paper(
        key="yuan2020revisiting",
        authors="Yuan, Li and Tay, Francis E. H. and Li, Guilin and Wang, Tao and Feng, Jiashi",
        title="Revisiting Knowledge Distillation via Label Smoothing Regularization",
        venue="CVPR",
        year=2020,
        arxiv="1909.11723",
    )
    unlabelled: ClassVar[bool] = True

    temperature: float = hparam(
        6.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    alpha: float = hparam(0.95, Range(0.05, 0.95), low=0, high=1, help="weight of the soft term")
    multiplier: float = hparam(0.5, low=0, help="further factor of the soft term")

    def networks(self):
        earlier = Stage(model="student", method="ce", own_seed=True)
        return {"student": Trained("student"), "teacher": Frozen(earlier)}

    def loss_weights(self):
        soft = self.alpha * self.multiplier * self.temperature**2
        return {"task": 1 - self.alpha, "soft": soft}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            soft=losses.kl(student, teacher, self.temperature),
        )
