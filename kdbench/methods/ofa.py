"""Enhanced soft targets, the logit part of OFA-KD."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class OFA(Method):
    """The student learns from the labels and from the teacher's probabilities, in which the
    label is made to count more and every other class less.

    Formula:
        L = CE(y, softmax(z_s)) - soft_weight * mean of sum over c of
            ((p_t[c] + [c = y])**exponent - [c = y]) * log p_s[c]
        p = softmax(z / T);  CE and the mean run over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        [c = y]: 1 at the label, else 0
        T: `temperature`; there is no T**2
        exponent: gamma in the paper, eps in the authors' code; at 1 the sum is the soft
           cross-entropy
        soft_weight: the weight of the second term

    Differs from the paper:
        - the logit part alone: the paper also brings the student's stages through exits of
          their own to the same loss, for pairs of convolutional and other networks

    Variants: exponent 1, T 1 and soft_weight 1 (the default) are the authors' for ResNet18 on
    CIFAR-100; they choose the exponent by the pair, up to 1.5. As in their code, it raises every
    class: the probability of the label plus 1, and the probabilities of the others.
    """

    title: ClassVar[str] = "One-for-all KD"
    paper: ClassVar[Paper] = Paper(
        key="hao2023ofa",
        authors="Hao, Zhiwei and Guo, Jianyuan and Han, Kai and Tang, Yehui and Hu, Han and "
        "Wang, Yunhe and Xu, Chang",
        title="One-for-All: Bridge the Gap Between Heterogeneous Architectures in Knowledge "
        "Distillation",
        venue="NeurIPS",
        year=2023,
        arxiv="2310.19444",
    )

    temperature: float = hparam(
        1.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    exponent: float = hparam(
        1.0, Range(1.0, 2.0), low=0.01, help="of the probabilities of label and others"
    )
    soft_weight: float = hparam(
        1.0, Range(0.1, 10.0, log=True), low=0, help="weight of the soft term"
    )

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def loss_weights(self):
        return {"task": 1.0, "soft": self.soft_weight}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            soft=losses.enhanced_cross_entropy(
                student, teacher, batch.labels, self.exponent, self.temperature
            ),
        )
