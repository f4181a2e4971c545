"""Scale decoupled distillation with the terms of decoupled knowledge distillation."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.classifier_maps import check_classifier_maps, regions
from kdbench.methods.common import common, cross_entropy, weighted
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.ramp import linear_ramp


@dataclass(frozen=True)
class SDDDKD(Method):
    """The student learns, for the whole image and for its regions, how sure the teacher is of
    the label and how it ranks the other classes.

    Formula:
        L = CE(y, softmax(z_s)) + v * T**2 * mean(w_r * (target_weight * TCKD_r
            + non_target_weight * NCKD_r))
        TCKD and NCKD as in `dkd`, of z_r = W mean of f over region r + b;  the mean runs over
        the batch and the regions, the whole image included
        v = min(t / (warmup * N), 1) in epoch t of N, counted from 1

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        f: the map of the last of the `stages`, batch x channels x height x width
        W, b: the network's own classifier; the student's is trained by these terms too
        r: the cells of grids of 1x1, 2x2, 4x4 .. cells; scales: how many grids
        w_r: 2 where the teacher is right about the whole image and wrong about the region, or
             the other way round; else 1
        T: `temperature`, without unit
        target_weight, non_target_weight: alpha and beta in the paper
        warmup: the share of epochs over which v rises to 1

    Where a classifier reads the flattened map of an embedding, f is that map and W has values
    of its own for each position.

    Differs from the paper:
        - the warm-up is a share of the run, 1/12, in place of the code's 20 of 240 epochs

    Variants: the weights, T and the warm-up are those of mdistiller's DKD, which the authors'
    code is made of. Their scripts have two grids for pairs of one family (resnet32x4 to resnet8x4,
    VGG13 to VGG8) and three (the default) for others.
    """

    title: ClassVar[str] = "Scale-decoupled DKD"
    paper: ClassVar[Paper] = Paper(
        key="wei2024scale",
        authors="Wei, Shicai and Luo, Chunbo and Luo, Yang",
        title="Scale Decoupled Distillation",
        venue="CVPR",
        year=2024,
        arxiv="2403.13512",
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
    scales: int = hparam(3, low=1, high=4, help="grids of 1x1, 2x2, 4x4 .. regions")
    stages: str = hparam(
        "stage?", help="which layers, by name or pattern; the last of them is read"
    )

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.stages, "embedding")

    def helpers(self, shapes):
        check_classifier_maps(shapes, self.networks(), self.stages)
        return super().helpers(shapes)

    def loss_weights(self):
        square = self.temperature**2
        return {
            "task": 1.0,
            "target": self.target_weight * square,
            "non_target": self.non_target_weight * square,
        }

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        last = common((student.features, teacher.features), self.stages)[-1]
        ours, theirs = (regions(network, last, self.scales) for network in (student, teacher))
        target, non_target = losses.region_decoupled_kl(
            ours, theirs, batch.labels, self.temperature
        )
        ramp = linear_ramp(progress.epoch_end, self.warmup, student.logits)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            target=ramp * target,
            non_target=ramp * non_target,
        )
