"""Be your own teacher: deep supervision by the deepest exit."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import common, cross_entropy, shape, stages, total, weighted
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
            (1 - alpha) * CE(y, p_k) + alpha * KL(q || q_k) + beta * |v_k - v|_2
        CE and KL are means over the batch, the norm is over all of the batch; q and v are
        constants here

    Symbols:
        p, q: softmax of the student's logits, at temperature 1 and T, batch x classes
        p_k, q_k: the same of exit k, batch x classes
        v: the map of the last stage, averaged over its pixels, batch x channels
        v_k: the same of stage k after its bottleneck, which brings the map to that shape
        y: labels, batch
        T: `temperature`; alpha: weight of the soft term; beta: weight of the feature term

    An exit is a bottleneck (a convolution that brings the map to F's shape, ReLU), global
    average pooling and a linear layer. Exits are trained and thrown away: the student on
    the leaderboard is the deepest one.

    Differs from the paper:
        - the bottlenecks are one convolution without batch norm; the paper's have several, and
          the authors' code has a linear layer behind each
        - pooled vectors and their norm, as in the authors' code for the journal version (Zhang,
          Bao and Ma, TPAMI 2021), whose alpha 0.3, beta 0.03, T 3 and lack of T**2 are the
          defaults here; the paper has whole maps and squared distances
        - that code has no feature term for the last early stage

    Variants: the unofficial pytorch-be-your-own-teacher has alpha 0.1, T 3 with T**2, and
    squared distances of whole maps with 1e-6; Self-KD-Lib a KL with weight 1 and their mean
    square with 0.05.
    """

    title: ClassVar[str] = "Be your own teacher"
    paper: ClassVar[Paper] = Paper(
        key="zhang2019be",
        authors="Zhang, Linfeng and Song, Jiebo and Gao, Anni and Chen, Jingwei and "
        "Bao, Chenglong and Ma, Kaisheng",
        title="Be Your Own Teacher: Improve the Performance of Convolutional Neural Networks "
        "via Self Distillation",
        venue="ICCV",
        year=2019,
        arxiv="1905.08094",
    )

    version: ClassVar[int] = 2

    temperature: float = hparam(
        3.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    alpha: float = hparam(0.3, Range(0.05, 0.95), low=0, high=1, help="weight of the soft term")
    beta: float = hparam(
        0.03, Range(0.001, 1.0, log=True), low=0, help="weight of the representation term"
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
            "soft": self.alpha,
            "representation": self.beta,
        }

    def loss(self, out, batch, helpers, progress):
        student = out["student"]
        *early, last = common((student.features,), "stage?")
        pooled = {
            n: helpers[f"{n}_bottleneck"](student.features[n]).mean(dim=(2, 3)) for n in early
        }
        exits = {n: helpers[f"{n}_classifier"](v) for n, v in pooled.items()}
        deepest = student.features[last].mean(dim=(2, 3))
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            exit__task=total(cross_entropy(z, batch) for z in exits.values()),
            soft=total(losses.kl(z, student.logits, self.temperature) for z in exits.values()),
            representation=total(losses.feature_norm(v, deepest) for v in pooled.values()),
        )
