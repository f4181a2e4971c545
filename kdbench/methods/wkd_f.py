"""Wasserstein distance of features."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import common, cross_entropy, shape, stages, weighted
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.projections import conv_bn_relu
from kdbench.methods.ramp import cosine_fall


@dataclass(frozen=True)
class WKDF(Method):
    """The student learns the mean and the deviation of each of the teacher's channels over
    the image, by the Wasserstein distance of normal distributions.

    Formula:
        L = CE(y, softmax(z_s)) + beta * w * (ratio * |mu_s - mu_t|**2 + |sigma_s - sigma_t|**2)
        sigma = sqrt(variance + 1e-5); CE and the norms are means over batch and cells
        w = 1 until `decay` of the steps, then half a cosine from 1 to 0

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        mu, sigma: mean and deviation of each channel over the positions of a cell, for the
           teacher's last map and the student's after a projection (1x1 or strided
           convolution, batch norm, ReLU, trained with the student)
        grid: the map is cut into grid x grid cells
        ratio: weight of the means against the deviations
        beta: `beta`, the weight of the representation term; w: its decay

    Differs from the paper:
        - where student and teacher have different numbers of stages, the last stage that
          both have
        - the decay is counted in steps, the authors' in epochs

    Variants: beta 0.08, ratio 4, grid 1 and a decay from epoch 150 of 240 (0.625) are the
    authors' for resnet32x4 to resnet8x4.
    """

    title: ClassVar[str] = "Wasserstein KD (features)"
    paper: ClassVar[Paper] = Paper(
        key="lv2024wasserstein",
        authors="Lv, Jiaming and Yang, Haoyuan and Li, Peihua",
        title="Wasserstein Distance Rivals {Kullback-Leibler} Divergence for Knowledge "
        "Distillation",
        venue="NeurIPS",
        year=2024,
        arxiv="2412.08139",
    )
    unlabelled: ClassVar[bool] = True

    beta: float = hparam(
        0.08, Range(1e-3, 1.0, log=True), low=0, help="weight of the representation term"
    )
    ratio: float = hparam(4.0, Range(0.5, 16.0, log=True), low=0, help="weight of the means")
    grid: int = hparam(1, low=1, help="cells along each side of the map")
    decay: float = hparam(0.625, low=0, high=1, help="share of steps before the weight falls")
    stages: str = hparam(
        "stage?", help="which layers, by name or pattern; the last of them is read"
    )

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.stages,)

    def helpers(self, shapes):
        last = stages(shapes, self.networks(), self.stages)[-1]
        student, teacher = (shape(shapes, role, last) for role in ("student", "teacher"))
        return nn.ModuleDict({"projection": conv_bn_relu(student, teacher)})

    def loss_weights(self):
        return {"task": 1.0, "mean": self.beta * self.ratio, "deviation": self.beta}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        last = common((student.features, teacher.features), self.stages)[-1]
        projected = helpers["projection"](student.features[last])
        mean, deviation = losses.wasserstein(projected, teacher.features[last], self.grid)
        decay = cosine_fall(progress.step, self.decay, student.logits)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            mean=decay * mean,
            deviation=decay * deviation,
        )
