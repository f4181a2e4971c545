"""The running mean of the student as teacher."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Average, Trained
from kdbench.methods.ramp import gaussian_ramp


@dataclass(frozen=True)
class MeanTeacher(Method):
    """The student learns from the labels and from the probabilities of a running mean of
    itself, which sees the examples in another view.

    Formula:
        L = CE(y, softmax(z_s)) + ramp * soft_weight * mean((softmax(z_s) - softmax(z_m))**2)
        ramp = exp(-5 * (1 - min(e / ramp_share, 1))**2)
        CE is a mean over the examples with a label, the other over batch and classes; z_m is
        a constant

    Symbols:
        z_s, z_m: logits of the student and of its running mean, batch x classes
        y: labels, batch
        e: share of the epochs that are done
        soft_weight: weight of the soft term; ramp_share: share of epochs until its full weight
        decay: of the running mean, by step

    Differs from the paper:
        - the running mean begins with the weights after the first step; the authors' decay grows
          from 1/2, as min(1 - 1 / (step + 1), decay)
        - the running mean answers in eval mode, the authors' in train mode
        - the student is on the leaderboard, the authors report the mean too
        - one head: the authors' CIFAR code gives the labels and the mean a head each
        - where a recipe has no random augmentation, both see the same images

    Variants: soft_weight 100, 5 of 180 epochs and decay 0.97 are the authors' for CIFAR-10
    with 1000 or 4000 labels (PyTorch).
    """

    title: ClassVar[str] = "Mean teacher"
    paper: ClassVar[Paper] = Paper(
        key="tarvainen2017mean",
        authors="Tarvainen, Antti and Valpola, Harri",
        title="Mean Teachers Are Better Role Models: Weight-Averaged Consistency Targets Improve "
        "Semi-Supervised Deep Learning Results",
        venue="NeurIPS",
        year=2017,
        arxiv="1703.01780",
    )
    unlabelled: ClassVar[bool] = True
    views: ClassVar[Mapping[str, int]] = {"mean": 1}

    soft_weight: float = hparam(
        100.0, Range(1.0, 1000.0, log=True), low=0, help="weight of the soft term"
    )
    decay: float = hparam(0.97, low=0, high=1, help="of the running mean, by step")
    ramp_share: float = hparam(5 / 180, low=0, high=1, help="share of epochs until the full weight")

    def networks(self):
        return {"student": Trained("student"), "mean": Average("student", self.decay)}

    def loss_weights(self):
        return {"task": 1.0, "soft": self.soft_weight}

    def loss(self, out, batch, helpers, progress):
        logits = out["student"].logits
        ramp = gaussian_ramp(progress.epoch, self.ramp_share, logits)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(logits, batch),
            soft=ramp * losses.probability_mse(logits, out["mean"].logits),
        )
