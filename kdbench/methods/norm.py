"""N-to-one representation matching."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.classifier_maps import classifier_source
from kdbench.methods.common import cross_entropy, parameter_shape, scalar, shape, weighted
from kdbench.methods.heads import FeatureTransform
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.review import as_maps

#: From which share of the epochs on the representation term is multiplied by how much.
SCHEDULE = ((0.0, 0.1), (1 / 24, 0.5), (1 / 12, 1.0), (3 / 4, 0.5), (7 / 8, 0.1))


def scheduled(epoch: float | Tensor, like: Tensor) -> Tensor:
    """The factor of `SCHEDULE` at a share of the epochs, as a 0-d tensor."""
    now, factor, before = scalar(epoch, like), scalar(0.0, like), 0.0
    for start, value in SCHEDULE:
        factor = factor + (value - before) * (now >= start).to(like.dtype)
        before = value
    return factor


@dataclass(frozen=True)
class NORM(Method):
    """The student learns, in a linear expansion of its last map to N times the teacher's
    channels, N copies of the teacher's map.

    Formula:
        L = task_weight * CE(y, softmax(z)) + beta * c * sum over n of mean((s_n - f_t)**2)
            + soft_weight * T**2 * KL(p_t || p)
        [s_1 .. s_N] = E(f_s)
        z = W v + b, v the mean of f_s + C(E(f_s)) over positions, is the answer of the student
        p = softmax(z / T); CE and KL are means over the batch

    Symbols:
        f_s, f_t: the map of the last of the `stages`, batch x channels x height x width; the
           larger is max-pooled to the smaller
        E, C: expansion and contraction, trained with the student: 1x1 convolutions, each with
           batch normalisation
        N: `segments`
        W, b: the student's own classifier
        y: labels, batch
        c: 0.1, 0.5, 1, 0.5, 0.1 from 0, 1/24, 1/12, 3/4, 7/8 of the epochs on
        beta: `beta`, the weight of the representation term
        task_weight, soft_weight: weights of the other terms; T: `temperature`

    Expansion and contraction are part of the student wherever it is used: validation, the test
    score, saved weights, parameters and multiply-accumulates.

    Where the classifier of the student or of the teacher does not read the mean over the last
    stage's positions, f_s and f_t are the embeddings as maps of one position.

    Differs from the paper:
        - both maps are linear after training and the paper merges them into the classifier, so
          that they cost nothing; here they are not merged, and the student's size has them
        - the authors' code also normalises the logits of student and teacher over the classes
          and multiplies them by 2.5; here they stay as they are
        - c is from the authors' code for 240 epochs on CIFAR-100

    Variants: task_weight 0.1, beta 1 and N 8 are the authors' for resnet32x4 to resnet8x4; they
    also try task_weight 0.0625 to 0.5. With a soft_weight it is their NORM+KD, at T 4.
    """

    title: ClassVar[str] = "N-to-one matching (NORM)"
    paper: ClassVar[Paper] = Paper(
        key="liu2023norm",
        authors="Liu, Xiaolong and Li, Lujun and Li, Chao and Yao, Anbang",
        title="{NORM}: Knowledge Distillation via N-to-One Representation Matching",
        venue="ICLR",
        year=2023,
        arxiv="2305.13803",
    )
    unlabelled: ClassVar[bool] = True

    beta: float = hparam(
        1.0, Range(0.05, 20.0, log=True), low=0, help="weight of the representation term"
    )
    task_weight: float = hparam(
        0.1, Range(0.02, 1.0, log=True), low=0, help="weight of the cross-entropy"
    )
    soft_weight: float = hparam(0.0, low=0, help="weight of the soft term, 0 for none")
    temperature: float = hparam(4.0, low=0.01, help="softens both distributions")
    segments: int = hparam(8, low=1, high=64, help="copies of the teacher's map, N")
    stages: str = hparam(
        "stage?", help="which layers, by name or pattern; the last of them is read"
    )

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.stages, "embedding")

    def helpers(self, shapes):
        layer, channels, _ = classifier_source(shapes, self.stages)
        if channels != parameter_shape(shapes, "student", "classifier.weight")[1]:
            layer = "embedding"
        student, teacher = (shape(shapes, role, layer)[0] for role in ("student", "teacher"))
        head = FeatureTransform(layer, student, self.segments * teacher)
        return nn.ModuleDict({"head": head})

    def head(self, helpers):
        return helpers["head"]

    def loss_weights(self):
        soft = self.soft_weight * self.temperature**2
        return {"task": self.task_weight, "representation": self.beta, "soft": soft}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        pair = student.features["expanded"], as_maps(teacher.features[helpers["head"].layer])
        expanded, target = (losses.pool(f, losses.smaller_size(*pair), "max") for f in pair)
        factor = scheduled(progress.epoch, student.logits)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            representation=factor * losses.n_to_one(expanded, target),
            soft=losses.kl(student.logits, teacher.logits, self.temperature),
        )
