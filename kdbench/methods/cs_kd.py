"""Class-wise self-knowledge distillation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Shared, Trained
from kdbench.methods.types import SAME_CLASS


@dataclass(frozen=True)
class CSKD(Method):
    """The student learns from the labels and, for each example, from its own softened
    probabilities for another example of the same class; there is no teacher.

    Formula:
        L = CE(y, softmax(z)) + soft_weight * T**2 * KL(p' || p)
        p = softmax(z / T), p' = softmax(z' / T); CE and KL are means over the batch, p' is a
        constant

    Symbols:
        z: the student's logits, batch x classes
        z': the student's logits for one example of the same class beside each of the batch,
            drawn uniformly among those trained on, batch x classes
        y: labels, batch
        T: `temperature`, without unit; soft_weight: lambda, the weight of the soft term

    The second pass is in train mode too, as in the authors' code, so running statistics of
    batch normalisation see both.

    Differs from the paper: nothing known.
    """

    title: ClassVar[str] = "Class-wise self-KD"
    paper: ClassVar[Paper] = Paper(
        key="yun2020regularizing",
        authors="Yun, Sukmin and Park, Jongjin and Lee, Kimin and Shin, Jinwoo",
        title="Regularizing Class-Wise Predictions via Self-Knowledge Distillation",
        venue="CVPR",
        year=2020,
        arxiv="2003.13964",
    )
    examples: ClassVar[Mapping[str, str]] = {"partner": SAME_CLASS}

    temperature: float = hparam(
        4.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    soft_weight: float = hparam(
        1.0, Range(0.1, 10.0, log=True), low=0, help="weight of the soft term"
    )

    def networks(self):
        return {"student": Trained("student"), "partner": Shared("student", gradient=False)}

    def loss_weights(self):
        return {"task": 1.0, "soft": self.soft_weight * self.temperature**2}

    def loss(self, out, batch, helpers, progress):
        logits = out["student"].logits
        return weighted(
            self.loss_weights(),
            task=cross_entropy(logits, batch),
            soft=losses.kl(logits, out["partner"].logits, self.temperature),
        )
