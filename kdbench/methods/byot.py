"""Be your own teacher: deep supervision by the deepest exit."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn import functional as F

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import common, shape, stages, total, weighted
from kdbench.methods.regressor import regressor


def bottleneck(source: tuple[int, ...], target: tuple[int, ...]) -> nn.Sequential:
    """From an early stage's map to the shape of the last one, non-negative as that is."""
    return nn.Sequential(regressor(source, target), nn.ReLU())


@dataclass(frozen=True)
class BYOT(Method):
    """The student's early stages learn, through exits of their own, from the labels and
    from its last stage; there is no teacher.

    Formula:
        L = CE(y, p) + sum over early stages k of
            (1 - alpha) * CE(y, p_k) + alpha * T**2 * KL(q || q_k) + beta * mean((F_k - F)**2)
        CE and KL are means over the batch; q and F are constants here

    Symbols:
        p, q: softmax of the student's logits, at temperature 1 and T, batch x classes
        p_k, q_k: the same of exit k, batch x classes
        F: the map of the last stage, batch x channels x height x width
        F_k: the map of stage k after its bottleneck, of F's shape
        y: labels, batch
        T: `temperature`; alpha: weight of the soft term; beta: weight of the feature term

    An exit is a bottleneck (a convolution that brings the map to F's shape, ReLU), global
    average pooling and a linear layer. Exits are trained and thrown away: the student on
    the leaderboard is the deepest one.

    Differs from the paper:
        - the bottlenecks are one convolution without batch norm; the paper's have several
        - the feature term is a mean over entries, so that beta means the same at any size

    Variants: T 3 and alpha 0.1 are those of the unofficial pytorch-be-your-own-teacher,
    where the feature term is a sum with beta 1e-6; beta 0.05 on the mean is Self-KD-Lib's,
    which however gives the KL weight 1.
    """

    paper: ClassVar[Paper] = Paper(
        key="zhang2019be",
        authors="Zhang, Linfeng and Song, Jiebo and Gao, Anni and Chen, Jingwei and "
        "Bao, Chenglong and Ma, Kaisheng",
        title="Be Your Own Teacher: Improve the Performance of Convolutional Neural Networks "
        "via Self Distillation",
        venue="ICCV",
        year=2019,
    )

    temperature: float = hparam(
        3.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    alpha: float = hparam(0.1, Range(0.05, 0.95), low=0, high=1, help="weight of the soft term")
    beta: float = hparam(
        0.05, Range(0.001, 1.0, log=True), low=0, help="weight of the representation term"
    )

    def layers(self):
        return ("stage?",)

    def helpers(self, shapes):
        *early, last = stages(shapes, self.networks(), "stage?", least=2)
        deep = shape(shapes, "student", last)
        parts: dict[str, nn.Module] = {}
        for name in early:
            parts[f"{name}_bottleneck"] = bottleneck(shape(shapes, "student", name), deep)
            parts[f"{name}_classifier"] = nn.Linear(deep[0], shapes.classes)
        return nn.ModuleDict(parts)

    def loss_weights(self):
        return {
            "task": 1.0,
            "exit.task": 1 - self.alpha,
            "soft": self.alpha * self.temperature**2,
            "representation": self.beta,
        }

    def loss(self, out, batch, helpers, progress):
        student = out["student"]
        *early, last = common((student.features,), "stage?")
        maps = {n: helpers[f"{n}_bottleneck"](student.features[n]) for n in early}
        exits = {n: helpers[f"{n}_classifier"](maps[n].mean(dim=(2, 3))) for n in early}
        return weighted(
            self.loss_weights(),
            task=F.cross_entropy(student.logits, batch.labels),
            exit__task=total(F.cross_entropy(z, batch.labels) for z in exits.values()),
            soft=total(losses.kl(z, student.logits, self.temperature) for z in exits.values()),
            representation=total(
                losses.feature_mse(f, student.features[last]) for f in maps.values()
            ),
        )
