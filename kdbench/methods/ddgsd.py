"""Data-distortion guided self-distillation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Shared, Trained


@dataclass(frozen=True)
class DDGSD(Method):
    """The student learns from the labels in two views of each example, and in each view from
    its own softened probabilities in the other; there is no teacher.

    Formula:
        L = task_weight * CE(y, both views) + soft_weight * T**2 * (KL(p_2 || p_1) + KL(p_1 || p_2))
            + beta * (mean(h_1) - mean(h_2))**2
        p = softmax(z / T), a constant where it is the target; CE is a mean over the examples
        of both views, KL over the batch, mean(h) over batch and width

    Symbols:
        z_1, z_2: the student's logits in both views, batch x classes
        y: labels, batch
        h_1, h_2: embeddings in both views, batch x width
        T: `temperature`, without unit
        task_weight, soft_weight, beta: weights of the terms

    Differs from the paper:
        - the representation term compares the two means over all entries, as in Self-KD-Lib,
          whose weights are the defaults; the paper compares mean vectors (MMD)
        - the views are two passes, so batch normalisation takes statistics of each view;
          Self-KD-Lib takes them of both together
        - where a recipe has no random augmentation, both views are the same images
    """

    title: ClassVar[str] = "Data-distortion self-KD"
    paper: ClassVar[Paper] = Paper(
        key="xu2019data",
        authors="Xu, Ting-Bing and Liu, Cheng-Lin",
        title="Data-Distortion Guided Self-Distillation for Deep Neural Networks",
        venue="AAAI",
        year=2019,
        url="https://doi.org/10.1609/aaai.v33i01.33015565",
    )
    views: ClassVar[Mapping[str, int]] = {"other": 1}

    temperature: float = hparam(
        4.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    task_weight: float = hparam(0.5, low=0, help="weight of the cross-entropy")
    soft_weight: float = hparam(
        1.0, Range(0.1, 10.0, log=True), low=0, help="weight of the soft term"
    )
    beta: float = hparam(
        5e-4, Range(5e-5, 5e-2, log=True), low=0, help="weight of the representation term"
    )

    def networks(self):
        return {"student": Trained("student"), "other": Shared("student")}

    def layers(self):
        return ("embedding",)

    def loss_weights(self):
        return {
            "task": self.task_weight,
            "soft": self.soft_weight * self.temperature**2,
            "representation": self.beta,
        }

    def loss(self, out, batch, helpers, progress):
        first, second = out["student"], out["other"]
        logits = first.logits, second.logits
        pair = (o.features["embedding"] for o in (first, second))
        return weighted(
            self.loss_weights(),
            task=cross_entropy(torch.cat(logits), batch),
            soft=losses.kl(*logits, self.temperature) + losses.kl(*logits[::-1], self.temperature),
            representation=losses.mean_gap(*pair),
        )
