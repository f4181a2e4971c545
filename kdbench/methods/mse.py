"""Squared error between softened probabilities."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, soft_weights, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class MSE(Method):
    """The student learns from the labels and from the squared distance to the teacher's
    softened probabilities.

    Formula:
        L = (1 - alpha) * CE(y, softmax(z_s)) + alpha * T**2 * mean((p_s - p_t)**2)
        p = softmax(z / T); the mean runs over batch and classes

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        T: `temperature`, without unit
        alpha: `alpha`, the weight of the soft term

    Differs from the paper: nothing known.

    Variants: this is KD_Lib's vanilla KD (alpha 0.5, T 20) with its factor T**2. The
    gradient falls as 1 / T**2 for large T, as KL's does, and the mean over classes makes
    it smaller by the class count than KL's. gnosis calls the same without T**2 a Brier
    loss. `logit-mse` compares logits instead.

    With weights plain the loss is CE + alpha * mean((p_s - p_t)**2), without T**2, as many
    tutorials have it.
    """

    title: ClassVar[str] = "Soft-target MSE"
    paper: ClassVar[Paper] = Paper(
        key="shah2020kdlib",
        authors="Shah, Het and Khare, Avishree and Shah, Neelay and Siddiqui, Khizir",
        title="KD-Lib: A PyTorch library for Knowledge Distillation, Pruning and Quantization",
        venue="arXiv:2011.14691",
        year=2020,
        kind="misc",
        arxiv="2011.14691",
    )
    unlabelled: ClassVar[bool] = True

    temperature: float = hparam(
        20.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    alpha: float = hparam(0.5, Range(0.05, 0.95), low=0, help="weight of the soft term")
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
            soft=losses.probability_mse(student, teacher, self.temperature),
        )
