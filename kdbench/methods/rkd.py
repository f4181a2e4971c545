"""Relations between examples."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, shape, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class RKD(Method):
    """The student learns the distances and angles between examples in the teacher's
    embedding.

    Formula:
        L = CE(y, softmax(z_s)) + distance_weight * mean(huber(d_s - d_t))
            + angle_weight * mean(huber(a_s - a_t))
        d_ij = |x_i - x_j| / mu,  a_ijk = cos of the angle at x_i between x_j and x_k
        the means run over all B**2 pairs and all B**3 triplets of the batch

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        x: the vectors before the classifier (layer `embedding`), batch x width; the widths
           of student and teacher may differ
        mu: the mean distance between different examples of the batch
        huber: quadratic up to 1, linear beyond
        distance_weight, angle_weight: the weights of the two relation terms

    Differs from the paper:
        - the means count pairs and triplets of an example with itself, whose terms are 0

    Variants: 25 and 50 (the default) are the paper's for classification, RepDistiller's,
    mdistiller's and the KD Zoo's; torchdistill has 1 and 2, KD_Lib 0.5 and 0.5.
    """

    title: ClassVar[str] = "Relational KD"
    paper: ClassVar[Paper] = Paper(
        key="park2019relational",
        authors="Park, Wonpyo and Kim, Dongju and Lu, Yan and Cho, Minsu",
        title="Relational Knowledge Distillation",
        venue="CVPR",
        year=2019,
        arxiv="1904.05068",
    )
    unlabelled: ClassVar[bool] = True

    distance_weight: float = hparam(
        25.0, Range(1.0, 100.0, log=True), low=0, help="weight of the distance term"
    )
    angle_weight: float = hparam(
        50.0, Range(1.0, 200.0, log=True), low=0, help="weight of the angle term"
    )

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return ("embedding",)

    def helpers(self, shapes):
        for role in ("student", "teacher"):
            shape(shapes, role, "embedding")
        return super().helpers(shapes)

    def loss_weights(self):
        return {"task": 1.0, "distance": self.distance_weight, "angle": self.angle_weight}

    def loss(self, out, batch, helpers, progress):
        student, teacher = (out[role].features["embedding"] for role in ("student", "teacher"))
        return weighted(
            self.loss_weights(),
            task=cross_entropy(out["student"].logits, batch),
            distance=losses.distance(student, teacher),
            angle=losses.angle(student, teacher),
        )
