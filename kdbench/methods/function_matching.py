"""The teacher as a function, to be matched on mixed images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.types import MIXED


@dataclass(frozen=True)
class FunctionMatching(Method):
    """The student learns what the teacher answers to the very images that it sees itself, which
    are mixed of two, and nothing from the labels.

    Formula:
        L = T**2 * KL(p_t || p_s),  p = softmax(z(x) / T),  KL is a mean over the batch
        x[i] = a * v[i] + (1 - a) * v[i - 1],  a = max(u, 1 - u),  u uniform in [0, 1)

    Symbols:
        z_s, z_t: logits of student and teacher for the same images, batch x classes
        v: the batch's images in the recipe's augmentation; x: mixtures, for both networks
        u: drawn once for each batch
        T: `temperature`, without unit

    Differs from the paper:
        - crops and mirrored images are those of the study's augmentation; the paper's crops are
          of random size and aspect
        - epochs, optimiser, weight decay and the clipping of gradients are the recipe's; the
          paper's gain needs its long schedules (1,000 to 1,000,000 epochs on small data sets)
        - training accuracy counts the label of the image with the larger share

    Variants: T 1 (the default) is the authors' for ImageNet; for small data sets they choose
    among 1, 2, 5 and 10.
    """

    title: ClassVar[str] = "Function matching"
    paper: ClassVar[Paper] = Paper(
        key="beyer2022knowledge",
        authors="Beyer, Lucas and Zhai, Xiaohua and Royer, Amélie and Markeeva, Larisa and "
        "Anil, Rohan and Kolesnikov, Alexander",
        title="Knowledge Distillation: A Good Teacher Is Patient and Consistent",
        venue="CVPR",
        year=2022,
        arxiv="2106.05237",
    )
    unlabelled: ClassVar[bool] = True
    examples: ClassVar[Mapping[str, str]] = {"student": MIXED, "teacher": MIXED}

    temperature: float = hparam(
        1.0, Range(1.0, 10.0, log=True), low=0.01, help="softens both distributions"
    )

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def loss_weights(self):
        return {"task": 0.0, "soft": self.temperature**2}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            soft=losses.kl(student, teacher, self.temperature),
        )
