"""Knowledge distillation by an on-the-fly native ensemble."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import common, cross_entropy, shape, stages, total, weighted
from kdbench.methods.networks import Trained
from kdbench.methods.projections import BatchNorm, conv_bn, conv_bn_relu
from kdbench.methods.ramp import gaussian_ramp


def branch(source: tuple[int, ...], target: tuple[int, ...], classes: int) -> nn.Sequential:
    """From the last shared map to logits: two convolutions, mean over positions, classifier."""
    last = conv_bn(target[0], target[0], kernel=3)
    pooled = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(conv_bn_relu(source, target), last, pooled, nn.Linear(target[0], classes))


def gate(channels: int, branches: int) -> nn.Sequential:
    """The branches' weights from the last shared map."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, branches),
        BatchNorm(branches),
        nn.ReLU(),
        nn.Softmax(dim=1),
    )


@dataclass(frozen=True)
class ONE(Method):
    """The student and branches that grow from its last but one stage learn from the labels and
    from a gated ensemble of all of them; there is no teacher.

    Formula:
        L = sum over branches i of CE(y, p_i) + CE(y, p_e)
            + ramp * soft_weight * T**2 * sum over branches i of KL(q_e || q_i)
        z_e = sum over i of g_i z_i,  g = softmax(relu(batch norm(linear(mean of f))))
        p = softmax(z), q = softmax(z / T);  ramp = exp(-5 * (1 - min(e / ramp_share, 1))**2)
        CE and KL are means over the batch; q_e is a constant

    Symbols:
        z_i: logits of branch i, batch x classes; branch 1 is the student
        z_e: logits of the ensemble; g: its weights, batch x branches
        f: the map of the last but one stage, batch x channels x height x width
        y: labels, batch
        T: `temperature`; soft_weight: weight of the soft term
        e: share of the epochs that are done; ramp_share: share until the full weight
        branches: how many, the student counted

    The branches and the gate are thrown away: the student on the leaderboard is branch 1.

    Differs from the paper:
        - 1e-7 is added to the ensemble's probabilities in the KL, as in the authors' code
        - an added branch is two convolutions with batch norm and ReLU, mean pooling and a
          classifier; the paper's are copies of the student's last stage

    Variants: 3 branches, T 3 and 80 of 300 epochs are the authors' for CIFAR.
    """

    title: ClassVar[str] = "On-the-fly native ensemble"
    paper: ClassVar[Paper] = Paper(
        key="lan2018knowledge",
        authors="Lan, Xu and Zhu, Xiatian and Gong, Shaogang",
        title="Knowledge Distillation by On-the-Fly Native Ensemble",
        venue="NeurIPS",
        year=2018,
        arxiv="1806.04606",
    )

    temperature: float = hparam(
        3.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    soft_weight: float = hparam(
        1.0, Range(0.1, 10.0, log=True), low=0, help="weight of the soft term"
    )
    branches: int = hparam(3, low=2, high=8, help="branches, the student counted")
    ramp_share: float = hparam(
        80 / 300, low=0, high=1, help="share of epochs until the full weight"
    )

    def layers(self):
        return ("stage?",)

    def helpers(self, shapes):
        *_, shared, last = stages(shapes, self.networks(), "stage?", least=2)
        source, target = (shape(shapes, "student", name) for name in (shared, last))
        parts = {name: branch(source, target, shapes.classes) for name in self.added()}
        return nn.ModuleDict({**parts, "gate": gate(source[0], self.branches)})

    def added(self) -> list[str]:
        """The branches beside the student, by name."""
        return [f"branch{i}" for i in range(2, self.branches + 1)]

    def networks(self):
        return {"student": Trained("student")}

    def loss_weights(self):
        soft = self.soft_weight * self.temperature**2
        return {"task": 1.0, "branch.task": 1.0, "ensemble.task": 1.0, "soft": soft}

    def loss(self, out, batch, helpers, progress):
        student = out["student"]
        *_, shared, _ = common((student.features,), "stage?")
        grown = [helpers[name](student.features[shared]) for name in self.added()]
        every = [student.logits, *grown]
        ensemble = losses.gated_logits(every, helpers["gate"](student.features[shared]))
        target = ensemble.detach()
        ramp = gaussian_ramp(progress.epoch, self.ramp_share, student.logits)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            branch__task=total(cross_entropy(z, batch) for z in grown),
            ensemble__task=cross_entropy(ensemble, batch),
            soft=ramp * total(losses.mutual_kl(z, target, self.temperature) for z in every),
        )
