"""Peer collaborative learning."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, shape, total, weighted
from kdbench.methods.networks import Average, Trained
from kdbench.methods.ramp import gaussian_ramp

#: The student and two networks beside it, as in the paper.
ROLES = ("student", "peer2", "peer3")


@dataclass(frozen=True)
class PCL(Method):
    """The student learns from the labels, from a classifier on the features of all peers, of
    which it is one, and from the running means of the others.

    Formula:
        L = sum over peers a of CE(y, softmax(z_a)) + CE(y, softmax(z_e))
            + ramp * soft_weight * T**2 * sum over a of KL(q_e || q_a)
            + ramp * soft_weight * T**2 / 2 * sum over a, b != a of KL(q_mb || q_a)
        z_e = V concat(h_1, h_2, h_3) + c;  q = softmax(z / T)
        ramp = exp(-5 * (1 - min(e / ramp_share, 1))**2);  CE and KL are means over the batch

    Symbols:
        z_a, z_mb: logits of peer a and of the running mean of peer b, batch x classes; the
           student is peer 1 of 3; each has a view of its own
        h_a: embedding of peer a, batch x width
        V, c: the classifier on all embeddings, trained with the peers; z_e are its logits
        y: labels, batch
        T: `temperature`; soft_weight: weight of the soft terms
        e: share of the epochs that are done; ramp_share: share until the full weight
        decay: of the running means, by step

    q_e and q_mb are constants in the soft terms.

    Differs from the paper:
        - the peers are whole networks; the paper's share their first stages
        - the running means begin with the weights after the first step; the paper's decay
          grows from 0 to 0.999
        - a running mean sees the view of its own peer
        - where a recipe has no random augmentation, all peers see the same images

    Variants: 3 peers, T 3, decay 0.999 and 80 of 300 epochs are the paper's for CIFAR.
    """

    title: ClassVar[str] = "Peer collaborative learning"
    paper: ClassVar[Paper] = Paper(
        key="wu2021peer",
        authors="Wu, Guile and Gong, Shaogang",
        title="Peer Collaborative Learning for Online Knowledge Distillation",
        venue="AAAI",
        year=2021,
        arxiv="2006.04147",
    )
    views: ClassVar[Mapping[str, int]] = {"peer2": 1, "mean2": 1, "peer3": 2, "mean3": 2}

    temperature: float = hparam(
        3.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    soft_weight: float = hparam(
        1.0, Range(0.1, 10.0, log=True), low=0, help="weight of the soft terms"
    )
    decay: float = hparam(0.999, low=0, high=1, help="of the running means, by step")
    ramp_share: float = hparam(
        80 / 300, low=0, high=1, help="share of epochs until the full weight"
    )

    def networks(self):
        means = {f"mean{i}": Average(role, self.decay) for i, role in enumerate(ROLES, start=1)}
        return {**{role: Trained("student") for role in ROLES}, **means}

    def layers(self):
        return ("embedding",)

    def helpers(self, shapes):
        width = sum(shape(shapes, role, "embedding")[0] for role in ROLES)
        return nn.ModuleDict({"classifier": nn.Linear(width, shapes.classes)})

    def loss_weights(self):
        soft = self.soft_weight * self.temperature**2
        return {
            "task": 1.0,
            "peer.task": 1.0,
            "ensemble.task": 1.0,
            "ensemble.soft": soft,
            "mean.soft": soft / 2,
        }

    def loss(self, out, batch, helpers, progress):
        peers = [out[role] for role in ROLES]
        means = [out[f"mean{i}"].logits for i in (1, 2, 3)]
        student, *others = logits = [peer.logits for peer in peers]
        embeddings = torch.cat([peer.features["embedding"] for peer in peers], dim=1)
        ensemble = helpers["classifier"](embeddings)
        ramp = gaussian_ramp(progress.epoch, self.ramp_share, student)
        pairs = [(z, m) for i, z in enumerate(logits) for j, m in enumerate(means) if i != j]
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            peer__task=total(cross_entropy(z, batch) for z in others),
            ensemble__task=cross_entropy(ensemble, batch),
            ensemble__soft=ramp * total(losses.kl(z, ensemble, self.temperature) for z in logits),
            mean__soft=ramp * total(losses.kl(z, m, self.temperature) for z, m in pairs),
        )
