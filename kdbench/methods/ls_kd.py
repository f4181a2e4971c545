"""Soft targets from standardised logits."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class LSKD(Method):
    """The student learns from the labels and from the teacher's softened probabilities, both
    networks' logits having been brought to mean 0 and deviation 1 in each example.

    Formula:
        L = task_weight * CE(y, softmax(z_s)) + soft_weight * T**2 * KL(p_t || p_s)
        p = softmax(Z(z) / T);  Z(z) = (z - mean(z)) / (s(z) + 1e-7)
        CE and KL are means over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        s(z): the unbiased standard deviation of one example's logits
        T: `temperature`, in units of s(z)
        task_weight, soft_weight: the weights of the two terms

    The soft term does not change where the student's logits are scaled, so it leaves their
    range to the cross-entropy. It is `kd` on `losses.standardise`d logits.

    Differs from the paper: nothing known.

    Variants: T 2 with 0.1 and 9 (the default) are the authors' for most pairs on CIFAR-100;
    for some they have T 3.
    """

    title: ClassVar[str] = "Logit-standardized KD"
    paper: ClassVar[Paper] = Paper(
        key="sun2024logit",
        authors="Sun, Shangquan and Ren, Wenqi and Li, Jingzhi and Wang, Rui and Cao, Xiaochun",
        title="Logit Standardization in Knowledge Distillation",
        venue="CVPR",
        year=2024,
        arxiv="2403.01427",
    )
    unlabelled: ClassVar[bool] = True

    temperature: float = hparam(
        2.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    soft_weight: float = hparam(
        9.0, Range(0.5, 50.0, log=True), low=0, help="weight of the soft term"
    )
    task_weight: float = hparam(0.1, low=0, help="weight of the cross-entropy")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def loss_weights(self):
        return {"task": self.task_weight, "soft": self.soft_weight * self.temperature**2}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        pair = losses.standardise(student), losses.standardise(teacher)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            soft=losses.kl(*pair, self.temperature),
        )
