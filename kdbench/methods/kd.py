"""Soft targets from a trained teacher."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, soft_weights, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class KD(Method):
    """The student learns from the labels and from the teacher's softened probabilities.

    Formula:
        L = (1 - alpha) * CE(y, softmax(z_s)) + alpha * T**2 * KL(p_t || p_s)
        p = softmax(z / T); CE and KL are means over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        T: `temperature`, without unit
        alpha: `alpha`, the weight of the soft term

    Differs from the paper:
        - the paper minimises the cross-entropy with p_t; KL has the same gradient and is
          0 where the student equals the teacher
        - the paper does not fix the two weights; here they sum to 1

    Variants: RepDistiller and mdistiller use alpha 0.9 and T 4 (the default here); the
    PyTorch tutorial T 2 and alpha 0.25; torchdistill's alpha weights the hard term. A KL
    with `reduction="mean"`, as some projects have it, is smaller by the class count.

    With weights plain the loss is CE + alpha * KL, without T**2, as many tutorials have it.
    """

    title: ClassVar[str] = "Knowledge distillation"
    paper: ClassVar[Paper] = Paper(
        key="hinton2015distilling",
        authors="Hinton, Geoffrey and Vinyals, Oriol and Dean, Jeff",
        title="Distilling the Knowledge in a Neural Network",
        venue="arXiv:1503.02531 (NIPS Deep Learning Workshop 2014)",
        year=2015,
        kind="misc",
        arxiv="1503.02531",
    )
    unlabelled: ClassVar[bool] = True

    temperature: float = hparam(
        4.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    alpha: float = hparam(0.9, Range(0.05, 0.95), low=0, help="weight of the soft term")
    weights: str = hparam("convex", help="convex, or plain: 1 and alpha, without T**2")

    def __post_init__(self):
        super().__post_init__()
        self.loss_weights()  # raises where alpha and weights do not fit

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def loss_weights(self):
        return soft_weights(self.weights, self.alpha, self.temperature)

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            soft=losses.kl(student, teacher, self.temperature),
        )
