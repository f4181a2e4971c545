"""Soft targets on the levels of example, batch and class."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, total, weighted
from kdbench.methods.networks import Frozen, Trained

#: All temperatures of the authors' code.
TEMPERATURES = (2.0, 3.0, 4.0, 5.0, 6.0)


@dataclass(frozen=True)
class MLKD(Method):
    """The student learns from the labels and, at several temperatures, from the teacher's
    probabilities, from the similarity of examples in them and from that of classes.

    Formula:
        L = (1 - alpha) * CE(y, softmax(z_s)) + alpha * sum over T in 2, 3, 4, 5, 6 of
            T**2 * KL(P_t || P_s) + |P_s P_s' - P_t P_t'|**2 / B + |P_s' P_s - P_t' P_t|**2 / C
        P = softmax(z / T), batch x classes;  P' is its transpose
        CE and KL are means over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        B, C: the numbers of examples and of classes; |.|**2 the sum of squared entries
        alpha: weight of the three terms, the T**2 of the first left out

    Differs from the paper:
        - one view of the images; the authors' code adds the cross-entropy and the first term of
          a second view that is augmented more strongly
        - no masks of unsure examples and rare classes: in the authors' code they multiply a
          number and not the examples, so that they do no more than halve each masked term

    Variants: alpha 0.9 (the default) is the weighting of the authors' code.
    """

    title: ClassVar[str] = "Multi-level logit distillation"
    paper: ClassVar[Paper] = Paper(
        key="jin2023multi",
        authors="Jin, Ying and Wang, Jiaqi and Lin, Dahua",
        title="Multi-Level Logit Distillation",
        venue="CVPR",
        year=2023,
        url="https://openaccess.thecvf.com/content/CVPR2023/html/"
        "Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html",
    )
    unlabelled: ClassVar[bool] = True

    alpha: float = hparam(0.9, Range(0.05, 0.95), low=0, high=1, help="weight of the soft terms")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def loss_weights(self):
        soft = dict.fromkeys(("instance", "batch", "class"), self.alpha)
        return {"task": 1 - self.alpha, **soft}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        grams = [losses.gram_distance(student, teacher, t) for t in TEMPERATURES]
        terms = {
            "task": cross_entropy(student, batch),
            "instance": total(t**2 * losses.kl(student, teacher, t) for t in TEMPERATURES),
            "batch": total(examples for examples, _ in grams),
            "class": total(classes for _, classes in grams),
        }
        return weighted(self.loss_weights(), **terms)
