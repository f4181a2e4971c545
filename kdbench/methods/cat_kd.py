"""Class attention transfer."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.classifier_maps import check_classifier_maps, class_activations
from kdbench.methods.common import common, cross_entropy, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class CATKD(Method):
    """The student learns where in the image the teacher finds each class: the teacher's class
    activation maps.

    Formula:
        L = CE(y, softmax(z_s)) + beta * C / 100 * mean((pool(A_s) - pool(A_t))**2)
        A_k = sum over c of W_kc f_c;  the mean runs over the batch, classes and cells

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch;  C: the number of classes
        f: the map of the last of the `stages`, batch x channels x height x width
        W: the network's own classifier, classes x channels; the student's is trained by this
           term too
        A: class activation maps, batch x classes x height x width
        pool: mean over the cells of a grid of `resolution` x `resolution`
        normalised: 1 divides each pooled map by its L2 norm, 0 does not
        beta: `beta`, the weight of the representation term

    Where a classifier reads the flattened map of an embedding, f is that map and W has values
    of its own for each position; A is then multiplied by their number, so that in any network
    its mean over positions is the logits less their bias.

    Differs from the paper:
        - C / 100 makes the mean over classes a sum, so that beta, which is the authors' for 100
          classes, means the same for others; with 10 classes their term diverges
        - the networks keep their linear classifier, with a bias; the authors replace it by a
          1x1 convolution without one before the mean over positions

    Variants: beta 15 and resolution 2 are the authors' for resnet32x4 to resnet8x4, without
    normalisation; other pairs have other values of beta.
    """

    title: ClassVar[str] = "Class attention transfer"
    paper: ClassVar[Paper] = Paper(
        key="guo2023class",
        authors="Guo, Ziyao and Yan, Haonan and Li, Hui and Lin, Xiaodong",
        title="Class Attention Transfer Based Knowledge Distillation",
        venue="CVPR",
        year=2023,
        arxiv="2304.12777",
    )
    unlabelled: ClassVar[bool] = True

    beta: float = hparam(
        15.0, Range(0.5, 500.0, log=True), low=0, help="weight of the representation term"
    )
    resolution: int = hparam(2, low=1, help="cells along each side of the pooled maps")
    normalised: int = hparam(0, low=0, high=1, help="whether each map has L2 norm 1")
    stages: str = hparam(
        "stage?", help="which layers, by name or pattern; the last of them is read"
    )

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.stages, "embedding")

    def helpers(self, shapes):
        check_classifier_maps(shapes, self.networks(), self.stages)
        return super().helpers(shapes)

    def loss_weights(self):
        return {"task": 1.0, "representation": self.beta}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        last = common((student.features, teacher.features), self.stages)[-1]
        ours, theirs = (class_activations(network, last) for network in (student, teacher))
        error = losses.class_map_mse(ours, theirs, self.resolution, bool(self.normalised))
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            representation=error * student.logits.shape[1] / 100,
        )
