"""Correlations between channels."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import common, cross_entropy, shape, stages, weighted
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.projections import conv_bn


@dataclass(frozen=True)
class ICKD(Method):
    """The student learns which of the teacher's channels respond alike.

    Formula:
        L = CE(y, softmax(z_s)) + beta * mean over the batch of |G_s - G_t|_F**2 / C
        G = F F^T with each row divided by its L2 norm

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        F: a feature map, channels x (height width): the teacher's, and the student's after
           a 1x1 convolution to the teacher's channels and batch norm, trained with the
           student; heights and widths may differ
        G: correlations between channels, C x C, of each example
        C: the teacher's channels; beta: `beta`, the weight of the representation term

    Differs from the paper:
        - rows divided by their L2 norm and no division by height * width, as in the authors'
          code
        - where student and teacher have different numbers of stages, the last stage that
          both have

    Variants: beta 2.5 without kd is the authors' script for CIFAR-100 (resnet32x4 to
    resnet8x4).
    """

    title: ClassVar[str] = "Inter-channel correlation KD"
    paper: ClassVar[Paper] = Paper(
        key="liu2021exploring",
        authors="Liu, Li and Huang, Qingle and Lin, Sihao and Xie, Hongwei and Wang, Bing and "
        "Chang, Xiaojun and Liang, Xiaodan",
        title="Exploring Inter-Channel Correlation for Diversity-Preserved Knowledge Distillation",
        venue="ICCV",
        year=2021,
        arxiv="2202.03680",
    )
    unlabelled: ClassVar[bool] = True

    beta: float = hparam(
        2.5, Range(0.1, 100.0, log=True), low=0, help="weight of the representation term"
    )
    stages: str = hparam(
        "stage?", help="which layers, by name or pattern; the last of them is read"
    )

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.stages,)

    def helpers(self, shapes):
        last = stages(shapes, self.networks(), self.stages)[-1]
        channels = (shape(shapes, role, last)[0] for role in ("student", "teacher"))
        return nn.ModuleDict({"embed": conv_bn(*channels)})

    def loss_weights(self):
        return {"task": 1.0, "representation": self.beta}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        last = common((student.features, teacher.features), self.stages)[-1]
        embedded = helpers["embed"](student.features[last])
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            representation=losses.channel_correlation(embedded, teacher.features[last]),
        )
