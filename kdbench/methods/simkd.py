"""Knowledge distillation with the reused teacher classifier."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.classifier_maps import classifier_source
from kdbench.methods.common import cross_entropy, parameter_shape, shape, weighted
from kdbench.methods.heads import ReusedClassifier, bottleneck
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.review import as_maps


@dataclass(frozen=True)
class SimKD(Method):
    """The student learns, through a projector, the map that the teacher's classifier reads, and
    answers with that classifier.

    Formula:
        L = beta * mean((r - f_t)**2), the mean over all entries
        r = P(f_s)
        z = W v + b, v the mean of r over positions, is the answer of the student

    Symbols:
        f_s, f_t: the map of the last of the `stages`, batch x channels x height x width; the
           larger is average-pooled to the smaller
        P: the projector, trained with the student: 1x1, 3x3 and 1x1 convolutions, each with
           batch normalisation and ReLU, between them `factor` times fewer channels than in f_t
        W, b: the teacher's classifier, a constant
        beta: `beta`, the weight of the representation term

    The projector and the teacher's classifier are part of the student wherever it is used:
    validation, the test score, saved weights, parameters and multiply-accumulates. The
    student's own classifier is not trained. The labels have no part in the loss; their term is
    logged with weight 0.

    Where the teacher's classifier does not read the mean over the last stage's positions, f_s
    and f_t are the embeddings as maps of one position.

    Differs from the paper:
        - nothing known for networks that average the last stage; the accuracy logged for the
          first batch of a run is that of a classifier of zeros

    Variants: beta 1 and factor 2 are the authors' for all pairs.
    """

    title: ClassVar[str] = "SimKD"
    paper: ClassVar[Paper] = Paper(
        key="chen2022knowledge",
        authors="Chen, Defang and Mei, Jian-Ping and Zhang, Hailin and Wang, Can and Feng, Yan "
        "and Chen, Chun",
        title="Knowledge Distillation with the Reused Teacher Classifier",
        venue="CVPR",
        year=2022,
        arxiv="2203.14001",
    )
    unlabelled: ClassVar[bool] = True

    beta: float = hparam(
        1.0, Range(0.05, 20.0, log=True), low=0, help="weight of the representation term"
    )
    factor: int = hparam(2, low=1, high=64, help="by what the projector narrows the channels")
    stages: str = hparam(
        "stage?", help="which layers, by name or pattern; the last of them is read"
    )

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.stages, "embedding")

    def helpers(self, shapes):
        layer, channels, width = classifier_source(shapes, self.stages)
        sides = [shape(shapes, role, layer)[1:] or (1, 1) for role in ("student", "teacher")]
        size = min(s[0] for s in sides), min(s[1] for s in sides)
        projector = bottleneck(channels, width, self.factor)
        classifier = parameter_shape(shapes, "teacher", "classifier.weight")
        return nn.ModuleDict({"head": ReusedClassifier(layer, projector, size, classifier)})

    def head(self, helpers):
        return helpers["head"]

    def loss_weights(self):
        return {"task": 0.0, "representation": self.beta}

    def loss(self, out, batch, helpers, progress):
        student, teacher, head = out["student"], out["teacher"], helpers["head"]
        head.reuse(*(teacher.parameters[f"classifier.{p}"] for p in ("weight", "bias")))
        target = losses.pool(as_maps(teacher.features[head.layer]), head.size)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits.detach(), batch),
            representation=losses.feature_mse(student.features["projected"], target),
        )
