"""Online distillation from the peers' ensemble."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Trained


@dataclass(frozen=True)
class KDCL(Method):
    """The student learns, beside a peer, from a soft target that joins the best of both.

    Formula:
        L = sum over networks i of  CE(y, softmax(z_i)) + soft_weight * T**2 * KL(p_m || p_i)
        p_m = softmax(m / T),  m = min over i of (z_i - z_i[y]), class by class
        p_i = softmax(z_i / T); CE and KL are means over the batch; p_m is a constant

    Symbols:
        z_i: logits of network i on its own view of the images, batch x classes; two
           networks of the student's model, `student` and `peer1`
        y: labels, batch
        m: the joint logits; 0 at the label, elsewhere the less likely of the networks
        T: `temperature`; soft_weight: lambda, the weight of each network's soft term

    The terms `task` and `soft` are the student's own, `peer.task` and `peer.soft` the
    peer's.

    Differs from the paper:
        - two networks of one architecture; the paper also joins more and different ones
        - where a recipe has no random augmentation, both views are the same images
        - the defaults T 2 and soft_weight 1 could not be checked against code of the
          authors

    Variants: the paper has four targets (Naive, Linear, MinLogit, General); this is
    MinLogit, which needs neither held-out images nor an inner optimisation.
    """

    title: ClassVar[str] = "Collaborative learning (KDCL)"
    paper: ClassVar[Paper] = Paper(
        key="guo2020online",
        authors="Guo, Qiushan and Wang, Xinjiang and Wu, Yichao and Yu, Zhipeng and "
        "Liang, Ding and Hu, Xiaolin and Luo, Ping",
        title="Online Knowledge Distillation via Collaborative Learning",
        venue="CVPR",
        year=2020,
        url="https://openaccess.thecvf.com/content_CVPR_2020/papers/"
        "Guo_Online_Knowledge_Distillation_via_Collaborative_Learning_CVPR_2020_paper.pdf",
    )
    views: ClassVar[Mapping[str, int]] = {"peer1": 1}

    temperature: float = hparam(
        2.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    soft_weight: float = hparam(1.0, Range(0.1, 10.0, log=True), low=0, help="weight of soft term")

    def networks(self):
        return {"student": Trained("student"), "peer1": Trained("student")}

    def loss_weights(self):
        soft = self.soft_weight * self.temperature**2
        return {"task": 1.0, "soft": soft, "peer.task": 1.0, "peer.soft": soft}

    def loss(self, out, batch, helpers, progress):
        student, peer = out["student"].logits, out["peer1"].logits
        target = losses.min_logit((student, peer), batch.labels)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            soft=losses.kl(student, target, self.temperature),
            peer__task=cross_entropy(peer, batch),
            peer__soft=losses.kl(peer, target, self.temperature),
        )
