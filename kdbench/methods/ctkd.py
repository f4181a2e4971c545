"""Soft targets at a temperature that is learned against the student."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.ramp import linear_ramp


class LearnedTemperature(nn.Module):
    """start + width * sigmoid(raw), with the gradient of `raw` multiplied by a factor."""

    def __init__(self, start: float, width: float) -> None:
        super().__init__()
        self.start, self.width = start, width
        self.raw = nn.Parameter(torch.ones(()))

    def forward(self, factor: Tensor) -> Tensor:
        raw = losses.scale_gradient(self.raw, factor)
        return self.start + self.width * raw.sigmoid()


@dataclass(frozen=True)
class CTKD(Method):
    """The student learns from the labels and from the teacher's softened probabilities at a
    temperature that is trained to make the soft term large, the more the longer.

    Formula:
        L = (1 - alpha) * CE(y, softmax(z_s)) + alpha * T**2 * KL(p_t || p_s)
        p = softmax(z / T);  T = start + width / (1 + exp(-v));  CE and KL are batch means
        v gets the gradient of L times -reversal * (1 - cos(pi * w)) / 2
        w = min(t / (warmup * N), 1) in epoch t of N, counted from 1

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        v: a number that the optimiser moves beside the student, 1 at first; so T is 15.6
        start, width: t_start and t_end in the authors' code; T lies between start and
           start + width
        reversal: the factor of v's ascent at its end; warmup: the share of epochs it takes to
           get there from 0
        alpha: weight of the soft term, its T**2 left out

    Differs from the paper:
        - the global temperature alone; the one for each example, from a small network, is not
          built
        - the warm-up is a share of the run, 1/24, in place of the code's 10 of 240 epochs
    """

    title: ClassVar[str] = "Curriculum temperature KD"
    paper: ClassVar[Paper] = Paper(
        key="li2023curriculum",
        authors="Li, Zheng and Li, Xiang and Yang, Lingfeng and Zhao, Borui and Song, Renjie and "
        "Luo, Lei and Li, Jun and Yang, Jian",
        title="Curriculum Temperature for Knowledge Distillation",
        venue="AAAI",
        year=2023,
        arxiv="2211.16231",
    )
    unlabelled: ClassVar[bool] = True

    alpha: float = hparam(0.9, Range(0.05, 0.95), low=0, high=1, help="weight of the soft term")
    start: float = hparam(1.0, low=0.01, help="lowest temperature")
    width: float = hparam(20.0, low=0, help="highest temperature less the lowest")
    reversal: float = hparam(1.0, low=0, help="factor of the temperature's ascent at its end")
    warmup: float = hparam(1 / 24, low=0, high=1, help="share of epochs until full ascent")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def helpers(self, shapes):
        return nn.ModuleDict({"temperature": LearnedTemperature(self.start, self.width)})

    def loss_weights(self):
        return {"task": 1 - self.alpha, "soft": self.alpha}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        share = linear_ramp(progress.epoch_end, self.warmup, student)
        temperature = helpers["temperature"](-self.reversal * (1 - torch.cos(math.pi * share)) / 2)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            soft=losses.tempered_kl(student, teacher, temperature),
        )
