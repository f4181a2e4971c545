"""Scale decoupled distillation."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.classifier_maps import check_classifier_maps, regions
from kdbench.methods.common import common, cross_entropy, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class SDDKD(Method):
    """The student learns from the labels and from the teacher's softened probabilities for the
    whole image and for its regions.

    Formula:
        L = (1 - alpha) * CE(y, softmax(z_s)) + alpha * T**2 * mean(w_r * KL(p_t,r || p_s,r))
        p_r = softmax(z_r / T),  z_r = W mean of f over region r + b;  the mean runs over the
        batch and the regions, the whole image included

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        f: the map of the last of the `stages`, batch x channels x height x width
        W, b: the network's own classifier; the student's is trained by this term too
        r: the cells of grids of 1x1, 2x2, 4x4 .. cells; scales: how many grids
        w_r: 2 where the teacher is right about the whole image and wrong about the region, or
             the other way round; else 1
        T: `temperature`, without unit; alpha: weight of the soft term

    Where a classifier reads the flattened map of an embedding, f is that map and W has values
    of its own for each position.

    Differs from the paper: nothing known.

    Variants: alpha 0.9 and T 4 are those of mdistiller's KD, which the authors' code is made of.
    Their scripts have two grids for pairs of one family (resnet32x4 to resnet8x4, VGG13 to VGG8)
    and three (the default) for others. `sdd-dkd` combines the regions with the terms of `dkd`; the
    paper also has NKD's.
    """

    title: ClassVar[str] = "Scale-decoupled KD"
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
    alpha: float = hparam(0.9, Range(0.05, 0.95), low=0, high=1, help="weight of the soft term")
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
        return {"task": 1 - self.alpha, "soft": self.alpha * self.temperature**2}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        last = common((student.features, teacher.features), self.stages)[-1]
        ours, theirs = (regions(network, last, self.scales) for network in (student, teacher))
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            soft=losses.region_kl(ours, theirs, batch.labels, self.temperature),
        )
