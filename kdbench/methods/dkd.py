"""Decoupled soft targets."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.ramp import linear_ramp


@dataclass(frozen=True)
class DKD(Method):
    """The student learns how sure the teacher is of the label and, apart from it, how the
    teacher ranks the other classes.

    Formula:
        L = CE(y, softmax(z_s)) + w * T**2 * (target_weight * TCKD + non_target_weight * NCKD)
        TCKD = KL(b_t || b_s),  b = [p_y, 1 - p_y]
        NCKD = KL(r_t || r_s),  r = softmax of z / T over the classes other than y
        p = softmax(z / T);  w = min(t / (warmup * N), 1) in epoch t of N, counted from 1
        CE, TCKD and NCKD are means over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        T: `temperature`, without unit
        target_weight, non_target_weight: alpha and beta in the paper
        warmup: the share of epochs over which w rises to 1

    The KL of `kd` is TCKD plus the mean of (1 - p_t[y]) times each example's NCKD.

    Differs from the paper:
        - the warm-up is a share of the run, 1/12, in place of the code's 20 of 240 epochs

    Variants: the authors choose non_target_weight by the pair: 2 for ResNet56 to ResNet20,
    6 for VGG and WRN pairs, 8 (the default) for the rest.
    """

    title: ClassVar[str] = "Decoupled KD"
    paper: ClassVar[Paper] = Paper(
        key="zhao2022decoupled",
        authors="Zhao, Borui and Cui, Quan and Song, Renjie and Qiu, Yiyu and Liang, Jiajun",
        title="Decoupled Knowledge Distillation",
        venue="CVPR",
        year=2022,
        arxiv="2203.08679",
    )

    temperature: float = hparam(
        4.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    target_weight: float = hparam(
        1.0, Range(0.1, 10.0, log=True), low=0, help="weight of the target-class term"
    )
    non_target_weight: float = hparam(
        8.0, Range(0.5, 20.0, log=True), low=0, help="weight of the other classes' term"
    )
    warmup: float = hparam(1 / 12, low=0, high=1, help="share of epochs until full weight")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def loss_weights(self):
        square = self.temperature**2
        return {
            "task": 1.0,
            "target": self.target_weight * square,
            "non_target": self.non_target_weight * square,
        }

    def loss(self, out, batch, helpers, progress):
        pair = out["student"].logits, out["teacher"].logits, batch.labels, self.temperature
        # First, as in published runs: gradients are summed in the order of the terms' making.
        task = cross_entropy(pair[0], batch)
        target, non_target = losses.decoupled_kl(*pair)
        ramp = linear_ramp(progress.epoch_end, self.warmup, pair[0])
        return weighted(
            self.loss_weights(),
            task=task,
            target=ramp * target,
            non_target=ramp * non_target,
        )
