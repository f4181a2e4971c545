"""Review of early stages by late ones."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import common, cross_entropy, shape, stages, total, weighted
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.ramp import linear_ramp
from kdbench.methods.review import Review, as_maps


@dataclass(frozen=True)
class ReviewKD(Method):
    """The student learns each of the teacher's stages from its own stage and all later ones,
    fused from the last level to the first.

    Formula:
        L = CE(y, softmax(z_s)) + w * beta * sum over levels of H(a_l, t_l)
        H = sum over sizes k of 2**-k * mean((pool_k(a) - pool_k(t))**2), over the sum of 2**-k
        sizes: the map's own, then 4x4, 2x2 and 1x1 as far as they are smaller
        w = share of epochs done when this one ends / warmup, at most 1

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        levels: the stages and, as the deepest, the embedding as a map of one position
        t_l: the teacher's map before the activation (`stage?_pre`), or its embedding
        a_l: the prediction of t_l: the student's map is reduced by a 1x1 convolution with
           batch norm, mixed with the next deeper level (enlarged to its size) by two trained
           attention maps, and expanded by a 3x3 convolution with batch norm
        warmup: the share of epochs until full weight w
        beta: `beta`, the weight of the representation term

    Differs from the paper:
        - the teacher is in eval mode; in the authors' code for CIFAR it is in train mode
        - levels that only one of the networks has are left out
        - the first epoch counts in the warm-up, as in mdistiller; in the authors' code its
          weight is 0

    Variants: beta 5 is the authors' for resnet32x4 to resnet8x4 and for wide residual
    networks (0.6 for resnet56 to resnet20, 1 for resnet110 to resnet32, 8 for resnet32x4 to
    ShuffleNetV2), warmup 20 of 240 epochs theirs. At most 512 channels are shared by levels.
    """

    title: ClassVar[str] = "Knowledge review"
    paper: ClassVar[Paper] = Paper(
        key="chen2021distilling",
        authors="Chen, Pengguang and Liu, Shu and Zhao, Hengshuang and Jia, Jiaya",
        title="Distilling Knowledge via Knowledge Review",
        venue="CVPR",
        year=2021,
        arxiv="2104.09044",
    )
    unlabelled: ClassVar[bool] = True

    beta: float = hparam(
        5.0, Range(0.1, 20.0, log=True), low=0, help="weight of the representation term"
    )
    warmup: float = hparam(1 / 12, low=0.001, high=1, help="share of epochs until full weight")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return ("stage?", "stage?_pre", "embedding")

    def helpers(self, shapes):
        names = stages(shapes, self.networks(), "stage?")
        sources = [shape(shapes, "student", n) for n in (*names, "embedding")]
        targets = [shape(shapes, "teacher", n) for n in (*pre(names), "embedding")]
        return nn.ModuleDict({"review": Review(sources, targets)})

    def loss_weights(self):
        return {"task": 1.0, "representation": self.beta}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        names = common((student.features, teacher.features), "stage?")
        reviewed = helpers["review"]([student.features[n] for n in (*names, "embedding")])
        targets = [as_maps(teacher.features[n]) for n in (*pre(names), "embedding")]
        ramp = linear_ramp(progress.epoch_end, self.warmup, student.logits)
        context = total(map(losses.hierarchical_context, reviewed, targets))
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            representation=ramp * context,
        )


def pre(names: list[str]) -> list[str]:
    """The layers before the activations of stages."""
    return [f"{name}_pre" for name in names]
