"""Feature norm and direction."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, shape, weighted
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.projections import adapter


class Centres(nn.Module):
    """One vector a class, almost 0 at first; it learns the mean of what it is shown."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(classes, width) * 1e-4)


@dataclass(frozen=True)
class ND(Method):
    """The student learns embeddings that point where the teacher's mean embedding of their
    class points, and that are no shorter than the teacher's.

    Formula:
        L = CE(y, softmax(z_s)) + soft_weight * T**2 * KL(p_t || p_s) + beta * N
            + mean over the batch of |c_y - h_t|**2 / 2
        N = mean over the batch of 1 - <h_s, c_y> / (|c_y| * max(|h_s|, |h_t|))
        p = softmax(z / T); CE and KL are means over the batch; c is a constant in N

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        h_s, h_t: vectors at `layer`, batch x width; where the widths differ, the student's
           pass a linear map to the teacher's width that is trained with the student
        c: the teacher's mean embedding of each class, classes x width
        T: `temperature`; soft_weight: weight of the soft term
        beta: `beta`, the weight of the norm and direction term N

    Differs from the paper:
        - the class means are learnt while the student trains, by the last term, which moves
          nothing else; the authors take them from a pass over the training set before.
          Until a class was seen first, its direction is random
        - the soft term has its full weight from the first step; in the authors' code for CIFAR-100
          its weight rises linearly from 0 over the first 20 of 240 epochs

    Variants: beta 2, soft_weight 1, T 4 are the authors' for resnet56 to resnet20 (KD++);
    soft_weight 3.5 for resnet32x4 to resnet8x4.
    """

    title: ClassVar[str] = "Feature norm and direction"
    paper: ClassVar[Paper] = Paper(
        key="wang2024improving",
        authors="Wang, Yuzhu and Cheng, Lechao and Duan, Manni and Wang, Yongheng and "
        "Feng, Zunlei and Kong, Shu",
        title="Improving Knowledge Distillation via Regularizing Feature Direction and Norm",
        venue="ECCV",
        year=2024,
        arxiv="2305.17007",
    )

    temperature: float = hparam(
        4.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    soft_weight: float = hparam(
        1.0, Range(0.1, 10.0, log=True), low=0, help="weight of the soft term"
    )
    beta: float = hparam(
        2.0, Range(0.05, 20.0, log=True), low=0, help="weight of the norm and direction term"
    )
    layer: str = hparam("embedding", help="the vectors that are compared")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.layer,)

    def helpers(self, shapes):
        student, teacher = (prod(shape(shapes, r, self.layer)) for r in ("student", "teacher"))
        return nn.ModuleDict(
            {
                "adapter": adapter((student,), (teacher,)),
                "class": Centres(shapes.classes, teacher),
            }
        )

    def loss_weights(self):
        soft = self.soft_weight * self.temperature**2
        return {"task": 1.0, "soft": soft, "representation": self.beta, "centres": 1.0}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        adapted = helpers["adapter"](student.features[self.layer].flatten(1))
        target = teacher.features[self.layer].detach().flatten(1)
        centres = helpers["class"].centres
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            soft=losses.kl(student.logits, teacher.logits, self.temperature),
            representation=losses.norm_and_direction(adapted, target, centres, batch.labels),
            centres=(centres[batch.labels] - target).square().sum(dim=1).mean() / 2,
        )
