"""Normalised soft targets."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class NKD(Method):
    """The student learns from the labels, from how sure the teacher is of the label, and from
    how the teacher ranks the other classes.

    Formula:
        L = CE(y, p_s) - mean of p_t[y] * log p_s[y]
            - non_target_weight * T**2 * mean of sum over c != y of r_t[c] * log r_s[c]
        p = softmax(z);  r = softmax of z / T over the classes other than y
        means over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        T: `temperature`, for the classes other than y alone
        non_target_weight: gamma in the authors' code

    Against `dkd`: the target term is a cross-entropy at temperature 1 and not a KL of two
    classes, and the other classes' term is a cross-entropy, whose gradient is that of NCKD.

    Differs from the paper: nothing known.

    Variants: the authors' code has T 3 with non_target_weight 3.5 for ResNet34 to ResNet18 on
    CIFAR-100 (the default), and T 1 with 1.5 on ImageNet.
    """

    title: ClassVar[str] = "Normalized KD"
    paper: ClassVar[Paper] = Paper(
        key="yang2023knowledge",
        authors="Yang, Zhendong and Zeng, Ailing and Li, Zhe and Zhang, Tianke and "
        "Yuan, Chun and Li, Yu",
        title="From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach "
        "with Normalized Loss and Customized Soft Labels",
        venue="ICCV",
        year=2023,
        arxiv="2303.13005",
    )

    temperature: float = hparam(
        3.0, Range(1.0, 20.0, log=True), low=0.01, help="softens the other classes' ranking"
    )
    non_target_weight: float = hparam(
        3.5, Range(0.5, 20.0, log=True), low=0, help="weight of the other classes' term"
    )

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def loss_weights(self):
        non_target = self.non_target_weight * self.temperature**2
        return {"task": 1.0, "target": 1.0, "non_target": non_target}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        target, non_target = losses.normalised_cross_entropy(
            student, teacher, batch.labels, self.temperature
        )
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            target=target,
            non_target=non_target,
        )
