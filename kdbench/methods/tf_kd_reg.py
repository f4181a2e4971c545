"""A teacher made by hand."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted


@dataclass(frozen=True)
class TfKDReg(Method):
    """The student learns from the labels and from a made teacher that is right with a fixed
    probability and gives all wrong classes the same; there is no trained teacher.

    Formula:
        L = (1 - alpha) * CE(y, p_s) + alpha * multiplier * KL(softmax(u / T) || p_s)
        p_s = softmax(z_s);  u = correct_probability at y, (1 - correct_probability) / (C - 1)
        at each other class;  CE and KL are means over the batch

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        C: the number of classes
        T: `temperature`; it softens probabilities, which lie in [0, 1], so at T 20 the made
           teacher is all but uniform
        alpha: weight of the soft term; multiplier: a further factor of it

    Differs from the paper:
        - the student is not softened and there is no T**2, as in the authors' code

    Variants: the authors' code divides its KL by C as well, so its multiplier 100 on CIFAR-100
    is 1 here (the default, with alpha 0.1 and T 20: its ResNet18); it has other values for
    other models.
    """

    title: ClassVar[str] = "Tf-KD (regularization)"
    paper: ClassVar[Paper] = Paper(
        key="yuan2020revisiting",
        authors="Yuan, Li and Tay, Francis E. H. and Li, Guilin and Wang, Tao and Feng, Jiashi",
        title="Revisiting Knowledge Distillation via Label Smoothing Regularization",
        venue="CVPR",
        year=2020,
        arxiv="1909.11723",
    )

    temperature: float = hparam(
        20.0, Range(1.0, 40.0, log=True), low=0.01, help="softens the made teacher"
    )
    alpha: float = hparam(0.1, Range(0.05, 0.95), low=0, high=1, help="weight of the soft term")
    multiplier: float = hparam(1.0, low=0, help="further factor of the soft term")
    correct_probability: float = hparam(
        0.99, low=0, high=1, help="of the label in the made teacher"
    )

    def loss_weights(self):
        return {"task": 1 - self.alpha, "soft": self.alpha * self.multiplier}

    def loss(self, out, batch, helpers, progress):
        student = out["student"].logits
        teacher = losses.virtual_teacher(
            batch.labels, student.shape[1], self.correct_probability, self.temperature, student
        )
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            soft=losses.kl_to_log_probs(student, teacher),
        )
