"""Soft targets with a momentum of their own."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, soft_weights, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class DOT(Method):
    """The student learns as in `kd`, and follows the teacher with more momentum than the labels.

    Formula:
        L_task = (1 - alpha) * CE(y, softmax(z_s)),  L_soft = alpha * T**2 * KL(p_t || p_s)
        m_task <- (mu - delta) * m_task + gradient of L_task + decay * w
        m_soft <- (mu + delta) * m_soft + gradient of L_soft
        w <- w - lr * (m_task + m_soft)
        p = softmax(z / T); CE and KL are means over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        w: the student's parameters; m: running gradients, of the same shapes
        mu, lr, decay: momentum, learning rate and weight decay of the recipe, which has to be
            SGD with momentum
        T: `temperature`, without unit
        alpha: `alpha`, the weight of the soft term
        delta: `delta`, how far the two momenta are from mu

    Differs from the paper:
        - only with `kd`; the authors have tables with other methods too

    Variants: delta 0.075 (the default) is the authors' for CIFAR-100, 0.09 for ImageNet. At mu 0.9
    the former makes the steps of the soft term four times as long as those of `kd`.
    """

    title: ClassVar[str] = "Distillation-oriented trainer"
    paper: ClassVar[Paper] = Paper(
        key="zhao2023dot",
        authors="Zhao, Borui and Cui, Quan and Song, Renjie and Liang, Jiajun",
        title="DOT: A Distillation-Oriented Trainer",
        venue="ICCV",
        year=2023,
        arxiv="2307.08436",
    )
    unlabelled: ClassVar[bool] = True

    temperature: float = hparam(
        4.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    alpha: float = hparam(0.9, Range(0.05, 0.95), low=0, high=1, help="weight of the soft term")
    delta: float = hparam(
        0.075, Range(0.0, 0.09), low=0, high=0.5, help="distance of both momenta from the recipe's"
    )

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def momentum_shifts(self):
        return {"task": -self.delta, "soft": self.delta}

    def loss_weights(self):
        return soft_weights("convex", self.alpha, self.temperature)

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            soft=losses.kl(student, teacher, self.temperature),
        )
