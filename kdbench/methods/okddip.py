"""Online knowledge distillation with diverse peers."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, shape, total, weighted
from kdbench.methods.networks import Trained
from kdbench.methods.ramp import gaussian_ramp


@dataclass(frozen=True)
class OKDDip(Method):
    """The student learns from the labels and from the mean of peers that train beside it, each
    of which learns from a mixture of the peers that it chooses by attention.

    Formula:
        L = CE(y, p) + sum over peers a of CE(y, p_a)
            + ramp * soft_weight * T**2 * (KL(q_m || q) + sum over a of KL(r_a || q_a))
        r_a = softmax(sum over b of w_ab z_b / T),  w_ab = softmax over b of <W_q h_a, W_k h_b>
        q_m = softmax(mean over a of z_a / T);  p = softmax(z), q = softmax(z / T)
        ramp = exp(-5 * (1 - min(e / ramp_share, 1))**2);  CE and KL are means over the batch

    Symbols:
        z, z_a: logits of the student (the group leader) and of peer a, batch x classes
        h_a: embedding of peer a, batch x width
        W_q, W_k: query and key, linear maps to an eighth of the width, trained with the peers
        y: labels, batch
        T: `temperature`; soft_weight: alpha, the weight of the soft terms
        e: share of the epochs that are done; ramp_share: share until the full weight
        peers: how many, all of the student's model; the student is none of them

    No target is a constant, as in the authors' code: a gradient reaches the peers through the
    mixtures and the mean, and W_q and W_k through the mixtures.

    Differs from the paper:
        - 1e-7 is added to the target's probabilities in each KL, as in the authors' code

    Variants: the networks are whole (the paper's network-based form); in its branch-based form
    they share the first stages. 3 peers, T 3 and 80 of 300 epochs are the authors' for CIFAR.
    """

    title: ClassVar[str] = "Diverse peers (OKDDip)"
    paper: ClassVar[Paper] = Paper(
        key="chen2020online",
        authors="Chen, Defang and Mei, Jian-Ping and Wang, Can and Feng, Yan and Chen, Chun",
        title="Online Knowledge Distillation with Diverse Peers",
        venue="AAAI",
        year=2020,
        arxiv="1912.00350",
    )

    temperature: float = hparam(
        3.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    soft_weight: float = hparam(
        1.0, Range(0.1, 10.0, log=True), low=0, help="weight of the soft terms"
    )
    peers: int = hparam(3, low=2, high=8, help="networks beside the student")
    ramp_share: float = hparam(
        80 / 300, low=0, high=1, help="share of epochs until the full weight"
    )

    def networks(self):
        others = {f"peer{i}": Trained("student") for i in range(1, self.peers + 1)}
        return {"student": Trained("student"), **others}

    def layers(self):
        return ("embedding",)

    def helpers(self, shapes):
        (width,) = shape(shapes, "peer1", "embedding")
        narrow = max(1, width // 8)
        return nn.ModuleDict({n: nn.Linear(width, narrow, bias=False) for n in ("query", "key")})

    def loss_weights(self):
        soft = self.soft_weight * self.temperature**2
        return {"task": 1.0, "soft": soft, "peer.task": 1.0, "peer.soft": soft}

    def loss(self, out, batch, helpers, progress):
        student = out["student"].logits
        peers = [out[f"peer{i}"] for i in range(1, self.peers + 1)]
        logits = [peer.logits for peer in peers]
        embeddings = torch.stack([peer.features["embedding"] for peer in peers])
        mixed = losses.attended_logits(
            logits, helpers["query"](embeddings), helpers["key"](embeddings)
        )
        mean = torch.stack(logits).mean(dim=0)
        ramp = gaussian_ramp(progress.epoch, self.ramp_share, student)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            soft=ramp * losses.mutual_kl(student, mean, self.temperature),
            peer__task=total(cross_entropy(z, batch) for z in logits),
            peer__soft=ramp
            * total(
                losses.mutual_kl(z, r, self.temperature) for z, r in zip(logits, mixed, strict=True)
            ),
        )
