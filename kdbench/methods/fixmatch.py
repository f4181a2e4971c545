"""The student's own sure answers to weak views, as labels of strong views."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Shared, Trained
from kdbench.methods.types import STRONG


@dataclass(frozen=True)
class FixMatch(Method):
    """The student learns from the labels, and for a strong view of each image the class that it
    gives itself for the usual view, where it is sure.

    Formula:
        L = CE(y, softmax(z_s)) + soft_weight * mean(m * CE(c, softmax(z_v)))
        c = argmax z_s;  m = 1 where max softmax(z_s) >= threshold, else 0;  c, m are constants
        the first CE is a mean over the examples with a label, the other over the whole batch

    Symbols:
        z_s, z_v: logits of the student for the usual and for the strong view, batch x classes
        y: labels, batch
        threshold: the least probability of a class that counts; soft_weight: of its term

    Strong views are changed by two operations of RandAugment, with the paper's ranges, and
    by Cutout. There is no teacher.

    Differs from the paper:
        - a weak view is one of the study's augmentation: the image itself where that is none
        - both kinds of views are a pass each with batch statistics of its own; in the paper one
        - images without labels beside one with a label: the study's ratio; 7 in the paper
        - the student is scored; the paper's running mean of it where the recipe has `ema`
        - optimiser and schedule are the recipe's; the paper has SGD and 2**20 steps

    Variants: soft_weight 1 and threshold 0.95 (the defaults) are the paper's for CIFAR-10;
    0.7 is its threshold for ImageNet, with weight 10.
    """

    title: ClassVar[str] = "FixMatch"
    paper: ClassVar[Paper] = Paper(
        key="sohn2020fixmatch",
        authors="Sohn, Kihyuk and Berthelot, David and Li, Chun-Liang and Zhang, Zizhao and "
        "Carlini, Nicholas and Cubuk, Ekin D. and Kurakin, Alex and Zhang, Han and "
        "Raffel, Colin",
        title="FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence",
        venue="NeurIPS",
        year=2020,
        arxiv="2001.07685",
    )
    unlabelled: ClassVar[bool] = True
    examples: ClassVar[Mapping[str, str]] = {"strong": STRONG}

    soft_weight: float = hparam(
        1.0, Range(0.1, 10.0, log=True), low=0, help="weight of the classes it gives itself"
    )
    threshold: float = hparam(0.95, low=0, high=1, help="least probability of a class that counts")

    def networks(self):
        return {"student": Trained("student"), "strong": Shared("student")}

    def loss_weights(self):
        return {"task": 1.0, "soft": self.soft_weight}

    def loss(self, out, batch, helpers, progress):
        weak, strong = out["student"].logits, out["strong"].logits
        return weighted(
            self.loss_weights(),
            task=cross_entropy(weak, batch),
            soft=losses.sure_cross_entropy(strong, weak, self.threshold),
        )
