"""Deep mutual learning."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, total, weighted
from kdbench.methods.networks import Trained


@dataclass(frozen=True)
class DML(Method):
    """The student learns from the labels and from peers that train beside it and learn
    from it in turn; there is no teacher.

    Formula:
        L = sum over networks i of  CE(y, p_i) + soft_weight * S_i
        S_i = 1 / (K - 1) * sum over j != i of KL(p_j || p_i),  p = softmax(z)
        CE and KL are means over the batch; p_j is a constant in S_i

    Symbols:
        z_i: logits of network i, batch x classes; `student` is network 1
        y: labels, batch
        K: `peers`, the number of networks, the student counted, all of the student's model
        soft_weight: lambda, the weight of each network's mutual term

    The terms `task` and `soft` are the student's own; `peer.task` and `peer.soft` are the
    sums over the other networks. They touch other weights, so each network is trained by
    its own terms.

    Differs from the paper:
        - all networks move at once on outputs from before the step, as in the KD Zoo; the
          paper updates them in turn
        - the peers have the student's architecture; the paper also mixes architectures
    """

    title: ClassVar[str] = "Deep mutual learning"
    paper: ClassVar[Paper] = Paper(
        key="zhang2018deep",
        authors="Zhang, Ying and Xiang, Tao and Hospedales, Timothy M. and Lu, Huchuan",
        title="Deep Mutual Learning",
        venue="CVPR",
        year=2018,
        arxiv="1706.00384",
    )

    soft_weight: float = hparam(
        1.0, Range(0.1, 10.0, log=True), low=0, help="weight of the mutual term"
    )
    peers: int = hparam(2, low=2, high=8, help="networks that train together")

    def networks(self):
        others = {f"peer{i}": Trained("student") for i in range(1, self.peers)}
        return {"student": Trained("student"), **others}

    def loss_weights(self):
        return {
            "task": 1.0,
            "soft": self.soft_weight,
            "peer.task": 1.0,
            "peer.soft": self.soft_weight,
        }

    def loss(self, out, batch, helpers, progress):
        logits = [out[role].logits for role in self.networks()]
        task = [cross_entropy(z, batch) for z in logits]
        soft = [
            total(losses.kl(z, other) for j, other in enumerate(logits) if j != i)
            / (self.peers - 1)
            for i, z in enumerate(logits)
        ]
        return weighted(
            self.loss_weights(),
            task=task[0],
            soft=soft[0],
            peer__task=total(task[1:]),
            peer__soft=total(soft[1:]),
        )
