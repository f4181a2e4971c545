"""Semantic calibration across layers."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.calibration import Calibration
from kdbench.methods.common import common, cross_entropy, shape, stages, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class SemCKD(Method):
    """The student learns each of its stages from those of the teacher's that suit it, by an
    attention that is trained too.

    Formula:
        L = CE(y, softmax(z_s)) + soft_weight * T**2 * KL(p_t || p_s) + beta * C
        C = mean over batch and the student's stages i of sum over the teacher's stages j of
            A_ij * mean((r_ij(s_i) - t_j)**2),  A_i = softmax over j of <q_i, k_j>
        p = softmax(z / T); CE and KL are means over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        s_i, t_j: stages' maps, batch x channels x height x width; of a pair the larger is
           average-pooled to the smaller
        r_ij: 1x1, 3x3 and 1x1 convolutions with batch norm, trained with the student
        q_i, k_j: unit vectors that perceptrons of `width` inputs make of each image's row in
           the similarity matrix of s_i and t_j, trained with the student
        T: `temperature`; soft_weight: weight of the soft term
        beta: `beta`, the weight of the representation term

    Differs from the paper:
        - the perceptrons' inputs are `width` in number whatever the batch: rows of smaller
          batches are padded with zeros, of larger ones averaged over neighbours; the authors
          leave out batches that are smaller
        - stages that both networks have, in number

    Variants: beta 400 with both other weights 1, T 4 and a batch of 64 are the authors'.
    """

    title: ClassVar[str] = "Semantic calibration KD"
    paper: ClassVar[Paper] = Paper(
        key="chen2021cross",
        authors="Chen, Defang and Mei, Jian-Ping and Zhang, Yuan and Wang, Can and Wang, Zhe and "
        "Feng, Yan and Chen, Chun",
        title="Cross-Layer Distillation with Semantic Calibration",
        venue="AAAI",
        year=2021,
        arxiv="2012.03236",
    )
    unlabelled: ClassVar[bool] = True

    temperature: float = hparam(
        4.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    soft_weight: float = hparam(
        1.0, Range(0.1, 10.0, log=True), low=0, help="weight of the soft term"
    )
    beta: float = hparam(
        400.0, Range(4.0, 4000.0, log=True), low=0, help="weight of the representation term"
    )
    width: int = hparam(64, low=8, help="batch size that the attention is made for")
    stages: str = hparam("stage?", help="which layers, by name or pattern")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.stages,)

    def helpers(self, shapes):
        names = stages(shapes, self.networks(), self.stages)
        sources, targets = (
            [shape(shapes, role, n)[0] for n in names] for role in ("student", "teacher")
        )
        return nn.ModuleDict({"calibration": Calibration(sources, targets, self.width)})

    def loss_weights(self):
        soft = self.soft_weight * self.temperature**2
        return {"task": 1.0, "soft": soft, "representation": self.beta}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        names = common((student.features, teacher.features), self.stages)
        pairs = helpers["calibration"](
            [student.features[n] for n in names], [teacher.features[n].detach() for n in names]
        )
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            soft=losses.kl(student.logits, teacher.logits, self.temperature),
            representation=losses.calibrated_mse(*pairs),
        )
