"""Softmax regression representation learning."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn import functional as F

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.classifier_maps import ClassifierInput, classifier_source
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.projections import conv_bn


@dataclass(frozen=True)
class SRRL(Method):
    """The student learns features that, through a connector, are the teacher's and give the
    teacher's logits under the teacher's own classifier.

    Formula:
        L = CE(y, softmax(z_s)) + beta * mean((r - h_t)**2)
            + logit_weight * mean((W r + b - z_t)**2)
        r = mean over positions of relu(batch norm(K f_s)); the means run over the batch and the
        entries

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        f_s: the student's map of the last of the `stages`, batch x channels x height x width
        h_t: the teacher's embedding, batch x width
        K: a 1x1 convolution without bias to the teacher's width, trained with the student
        W, b: the teacher's classifier, a constant
        beta, logit_weight: weights of the terms

    Where the teacher's embedding is no mean over the last stage's positions, f_s is the
    student's embedding as a map of one position.

    Differs from the paper:
        - both terms are mean squares, as in the authors' code; the paper also tries others

    Variants: both weights are 1 in the authors' code for ImageNet, which has none for CIFAR.
    The CIFAR benchmark of SimKD adds the KL at T 4 with weight 1.
    """

    title: ClassVar[str] = "Softmax regression (SRRL)"
    paper: ClassVar[Paper] = Paper(
        key="yang2021knowledge",
        authors="Yang, Jing and Martinez, Brais and Bulat, Adrian and Tzimiropoulos, Georgios",
        title="Knowledge Distillation via Softmax Regression Representation Learning",
        venue="ICLR",
        year=2021,
        url="https://openreview.net/forum?id=ZzwDy_wiWv",
    )
    unlabelled: ClassVar[bool] = True

    beta: float = hparam(
        1.0, Range(0.05, 50.0, log=True), low=0, help="weight of the representation term"
    )
    logit_weight: float = hparam(
        1.0, Range(0.05, 50.0, log=True), low=0, help="weight of the logits' term"
    )
    stages: str = hparam(
        "stage?", help="which layers, by name or pattern; the last of them is read"
    )

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.stages, "embedding")

    def helpers(self, shapes):
        layer, channels, width = classifier_source(shapes, self.stages)
        projector = nn.Sequential(conv_bn(channels, width), nn.ReLU())
        return nn.ModuleDict({"connector": ClassifierInput(layer, projector)})

    def loss_weights(self):
        return {"task": 1.0, "representation": self.beta, "logits": self.logit_weight}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        vector = helpers["connector"](student.features).mean(dim=(2, 3))
        weight, bias = (teacher.parameters[f"classifier.{p}"].detach() for p in ("weight", "bias"))
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            representation=losses.feature_mse(vector, teacher.features["embedding"]),
            logits=losses.logit_mse(F.linear(vector, weight, bias), teacher.logits),
        )
