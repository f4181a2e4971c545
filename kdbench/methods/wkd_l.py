"""Wasserstein distance between distributions over classes."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, parameter_shape, weighted
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.ramp import cosine_fall


@dataclass(frozen=True)
class WKDL(Method):
    """The student learns the teacher's distribution over the wrong classes, where probability
    that lies at a like class costs less than at an unlike one.

    Formula:
        L = CE(y, p_s) + target_weight * N + soft_weight * v * W
        N = -p_t[y] log p_s[y],  p = softmax(z)
        W = sum over i, j of q_ij * c_ij, the flow q between softmax(z_s / T) and softmax(z_t / T),
            both over the classes other than y, from Sinkhorn's iterations
        c_ij = 1 - exp(-sharpness * (1 - cos(w_i, w_j)));  N and W are means over the batch
        v = 1 until `decay` of the steps, then half a cosine from 1 to 0

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        w: the rows of the teacher's classifier, classes x width, constants
        T: `temperature`, without unit; there is no T**2
        regularisation: of the entropy in Sinkhorn's iterations; iterations: how many
        target_weight, soft_weight: weights of the terms; v: the decay of the second

    Differs from the paper:
        - c comes from the teacher's classifier, one choice of the authors' code; the paper's
          main one compares the classes' features by CKA
        - the decay is counted in steps, the authors' in epochs

    Variants: soft_weight 600, T 8 and a decay from epoch 150 of 240 (0.625) are the authors' for
    resnet32x4 to resnet8x4 on CIFAR-100; they have 200 and T 6 for WRN40-2 to ShuffleNetV1, 30 and
    T 2 for ResNet34 to ResNet18 on ImageNet, and always regularisation 0.05, 10 iterations and
    sharpness 1.
    """

    title: ClassVar[str] = "Wasserstein KD (logits)"
    paper: ClassVar[Paper] = Paper(
        key="lv2024wasserstein",
        authors="Lv, Jiaming and Yang, Haoyuan and Li, Peihua",
        title="Wasserstein Distance Rivals {Kullback-Leibler} Divergence for Knowledge "
        "Distillation",
        venue="NeurIPS",
        year=2024,
        arxiv="2412.08139",
    )
    version: ClassVar[int] = 2

    temperature: float = hparam(
        8.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    target_weight: float = hparam(1.0, low=0, help="weight of the label's term")
    soft_weight: float = hparam(
        600.0, Range(5.0, 2000.0, log=True), low=0, help="weight of the distance"
    )
    sharpness: float = hparam(1.0, low=0.01, help="how fast the cost grows")
    regularisation: float = hparam(0.05, low=0.02, help="of the entropy of the flow")
    iterations: int = hparam(10, low=1, high=100, help="of Sinkhorn's algorithm")
    decay: float = hparam(0.625, low=0, high=1, help="share of steps before the weight falls")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def helpers(self, shapes):
        parameter_shape(shapes, "teacher", "classifier.weight")
        return nn.ModuleDict()

    def loss_weights(self):
        return {"task": 1.0, "target": self.target_weight, "soft": self.soft_weight}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        decay = cosine_fall(progress.step, self.decay, student)
        costs = losses.class_costs(out["teacher"].parameters["classifier.weight"], self.sharpness)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            target=losses.normalised_cross_entropy(student, teacher, batch.labels)[0],
            soft=decay
            * losses.wasserstein_of_others(
                student,
                teacher,
                batch.labels,
                costs,
                self.temperature,
                self.regularisation,
                self.iterations,
            ),
        )
