"""Variational information distillation."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import common, cross_entropy, shape, stages, total, weighted
from kdbench.methods.networks import Frozen, Trained


class Gaussian(nn.Module):
    """Mean and variance of the teacher's map given the student's: three 1x1 convolutions
    without bias, and one variance a channel that begins at 5."""

    def __init__(self, source: int, target: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Conv2d(source, target, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(target, target, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(target, target, 1, bias=False),
        )
        self.eps = eps
        self.scale = nn.Parameter(torch.full((target,), math.log(math.expm1(5.0 - eps))))

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(maps), F.softplus(self.scale) + self.eps


@dataclass(frozen=True)
class VID(Method):
    """The student learns maps from which the teacher's can be told, as a normal distribution
    around a prediction.

    Formula:
        L = CE(y, softmax(z_s)) + beta * sum over stages of N
        N = mean(((f_t - mu(f_s))**2 / sigma**2 + log(sigma**2)) / 2)
        sigma**2 = log(1 + exp(a)) + 1e-5; the mean runs over all entries of the map

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        f_s, f_t: feature maps of a stage, batch x channels x height x width; the larger map
           is average-pooled to the smaller
        mu: three 1x1 convolutions to the teacher's channels with ReLU between them, trained
           with the student
        a, sigma**2: one trained number and variance a channel, sigma**2 is 5 at first
        beta: `beta`, the weight of the representation term

    Differs from the paper:
        - a mean over entries where the paper has the sum, as in the authors' code

    Variants: beta 1 on the sum of the stages is RepDistiller's; the KD Zoo divides by their
    number. In mdistiller sigma**2 stays 5, since its optimiser does not hold a.
    """

    title: ClassVar[str] = "Variational information (VID)"
    paper: ClassVar[Paper] = Paper(
        key="ahn2019variational",
        authors="Ahn, Sungsoo and Hu, Shell Xu and Damianou, Andreas and Lawrence, Neil D. and "
        "Dai, Zhenwen",
        title="Variational Information Distillation for Knowledge Transfer",
        venue="CVPR",
        year=2019,
        arxiv="1904.05835",
    )
    unlabelled: ClassVar[bool] = True

    beta: float = hparam(
        1.0, Range(0.01, 100.0, log=True), low=0, help="weight of the representation term"
    )
    stages: str = hparam("stage?", help="which layers, by name or pattern")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.stages,)

    def helpers(self, shapes):
        names = stages(shapes, self.networks(), self.stages)
        sizes = {n: (shape(shapes, "student", n), shape(shapes, "teacher", n)) for n in names}
        return nn.ModuleDict({n: Gaussian(s[0], t[0]) for n, (s, t) in sizes.items()})

    def loss_weights(self):
        return {"task": 1.0, "representation": self.beta}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        terms = []
        for name in common((student.features, teacher.features), self.stages):
            pair = student.features[name], teacher.features[name]
            f_s, f_t = (losses.pool(f, losses.smaller_size(*pair)) for f in pair)
            mean, variance = helpers[name](f_s)
            terms.append(losses.gaussian_nll(mean, f_t, variance))
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            representation=total(terms),
        )
