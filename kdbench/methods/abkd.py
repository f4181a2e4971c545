"""The alpha-beta divergence."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class ABKD(Method):
    """The student learns from the labels and from the teacher's softened probabilities by a
    divergence between the forward and the reverse Kullback-Leibler divergence.

    Formula:
        L = CE(y, softmax(z_s)) + soft_weight * D
        D = -1 / (a * b) * mean of sum over c of
            p_t**a * p_s**b - a / (a + b) * p_t**(a + b) - b / (a + b) * p_s**(a + b)
        p = softmax(z / T);  CE and the mean run over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        a: `teacher_power`, alpha in the paper; the smaller, the more the classes with large
           errors count
        b: `student_power`, beta in the paper; the larger, the more the classes count of which
           the student is sure
        T: `temperature`; there is no T**2
        soft_weight: the weight of D

    a = 1 with b to 0 is the forward KL, a to 0 with b = 1 the reverse one.

    Differs from the paper:
        - the limits a = 0, b = 0 and a + b = 0 are not built

    Variants: the authors choose a, b and soft_weight by the pair; 0.8, 0.3 and 32 (the
    default) are their example for ResNet56 to ResNet20 on CIFAR-100.
    """

    title: ClassVar[str] = "ABKD"
    paper: ClassVar[Paper] = Paper(
        key="wang2025abkd",
        authors="Wang, Guanghui and Yang, Zhiyong and Wang, Zitai and Wang, Shi and "
        "Xu, Qianqian and Huang, Qingming",
        title="ABKD: Pursuing a Proper Allocation of the Probability Mass in Knowledge "
        "Distillation via alpha-beta-Divergence",
        venue="ICML",
        year=2025,
        arxiv="2505.04560",
    )
    unlabelled: ClassVar[bool] = True

    temperature: float = hparam(
        4.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    teacher_power: float = hparam(
        0.8, Range(0.1, 1.2), low=0.01, help="power of the teacher's probabilities"
    )
    student_power: float = hparam(
        0.3, Range(0.1, 1.2), low=0.01, help="power of the student's probabilities"
    )
    soft_weight: float = hparam(
        32.0, Range(1.0, 100.0, log=True), low=0, help="weight of the soft term"
    )

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def loss_weights(self):
        return {"task": 1.0, "soft": self.soft_weight}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        powers = self.teacher_power, self.student_power
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            soft=losses.alpha_beta_divergence(student, teacher, *powers, self.temperature),
        )
