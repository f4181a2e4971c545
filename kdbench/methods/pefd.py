"""Feature distillation through an ensemble of projectors."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, shape, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class PEFD(Method):
    """The student learns the direction of the teacher's embedding through the mean of several
    projectors that differ in their first weights.

    Formula:
        L = CE(y, softmax(z_s)) + beta * (1 - cos(m, h_t))
        m = mean over projectors k of relu(P_k h_s);  CE and cosine are means over the batch

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        h_s, h_t: vectors at `layer`, batch x width
        P_k: linear maps with bias to the teacher's width, trained with the student
        projectors: how many
        beta: `beta`, the weight of the representation term

    Differs from the paper: nothing known.

    Variants: beta 25 and 3 projectors are the authors' for resnet32x4 to resnet8x4.
    """

    title: ClassVar[str] = "Projector ensemble"
    paper: ClassVar[Paper] = Paper(
        key="chen2022improved",
        authors="Chen, Yudong and Wang, Sen and Liu, Jiajun and Xu, Xuwei and de Hoog, Frank and "
        "Huang, Zi",
        title="Improved Feature Distillation via Projector Ensemble",
        venue="NeurIPS",
        year=2022,
        arxiv="2210.15274",
    )
    unlabelled: ClassVar[bool] = True

    beta: float = hparam(
        25.0, Range(0.5, 250.0, log=True), low=0, help="weight of the representation term"
    )
    projectors: int = hparam(3, low=1, high=16, help="projectors whose mean is taken")
    layer: str = hparam("embedding", help="the vectors that are compared")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.layer,)

    def helpers(self, shapes):
        student, teacher = (prod(shape(shapes, r, self.layer)) for r in ("student", "teacher"))
        every = [nn.Linear(student, teacher) for _ in range(self.projectors)]
        return nn.ModuleDict({"projectors": nn.ModuleList(every)})

    def loss_weights(self):
        return {"task": 1.0, "representation": self.beta}

    def loss(self, out, batch, helpers, progress):
        student, teacher = (out[r].features[self.layer].flatten(1) for r in ("student", "teacher"))
        projected = torch.stack([p(student).relu() for p in helpers["projectors"]]).mean(dim=0)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(out["student"].logits, batch),
            representation=losses.direction_gap(projected, teacher),
        )
