"""Masked generative distillation."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import common, cross_entropy, shape, stages, weighted
from kdbench.methods.networks import Frozen, Trained


def generation(channels: int) -> nn.Sequential:
    """Two 3x3 convolutions with a ReLU between them."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
    )


@dataclass(frozen=True)
class MGD(Method):
    """The student learns features from which the teacher's map can be generated although some
    of its channels are masked.

    Formula:
        L = CE(y, softmax(z_s)) + beta * mean over the batch of |g(m * a(f_s)) - f_t|**2

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        f_s, f_t: the last map, batch x channels x height x width; the larger is
           average-pooled to the smaller
        a: a 1x1 convolution to the teacher's channels, none where they agree
        m: 0 for a channel of an image with the chance `mask_share`, else 1
        g: two 3x3 convolutions with a ReLU between them; a and g are trained with the student
        beta: `beta`, the weight of the representation term

    Differs from the paper:
        - where student and teacher have different numbers of stages, the last stage that
          both have

    Variants: the defaults, beta 7e-5 on the sum over a map and mask_share 0.15, are the authors'
    for classification on ImageNet. Their configuration for ResNet34 to ResNet18 on CIFAR-100 has
    beta 0.0012 and the same mask_share.
    """

    title: ClassVar[str] = "Masked generative distillation"
    paper: ClassVar[Paper] = Paper(
        key="yang2022masked",
        authors="Yang, Zhendong and Li, Zhe and Shao, Mingqi and Shi, Dachuan and Yuan, Zehuan "
        "and Yuan, Chun",
        title="Masked Generative Distillation",
        venue="ECCV",
        year=2022,
        arxiv="2205.01529",
    )
    unlabelled: ClassVar[bool] = True

    beta: float = hparam(
        7e-5, Range(7e-7, 7e-3, log=True), low=0, help="weight of the representation term"
    )
    mask_share: float = hparam(
        0.15, Range(0.0, 0.8), low=0, high=0.99, help="chance that a channel is masked"
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
        student, teacher = (shape(shapes, role, last)[0] for role in ("student", "teacher"))
        align = nn.Identity() if student == teacher else nn.Conv2d(student, teacher, 1)
        return nn.ModuleDict({"align": align, "generation": generation(teacher)})

    def loss_weights(self):
        return {"task": 1.0, "representation": self.beta}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        last = common((student.features, teacher.features), self.stages)[-1]
        pair = student.features[last], teacher.features[last]
        f_s, f_t = (losses.pool(f, losses.smaller_size(*pair)) for f in pair)
        aligned = helpers["align"](f_s)
        chance = torch.rand(
            (*aligned.shape[:2], 1, 1), generator=batch.generator, device=batch.generator.device
        )
        kept = (chance >= self.mask_share).to(aligned)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            representation=losses.feature_sse(helpers["generation"](aligned * kept), f_t),
        )
