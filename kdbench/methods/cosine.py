"""Direction of the hidden representation."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Incompatible, Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, shape, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class Cosine(Method):
    """The student learns to turn its hidden representation into the teacher's direction.

    Formula:
        L = task_weight * CE(y, softmax(z_s)) + beta * (1 - cos(h_s, g(h_t)))
        both terms are means over the batch

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        h_s, h_t: the vectors before the classifiers (layer `embedding`), batch x width
        g: average pooling of the wider vector to the width of the other
        task_weight, beta: the weights of the two terms

    Differs from the paper: nothing known (the tutorial's second method, with its weights
    0.75 and 0.25).

    Variants: pooling averages neighbouring entries; in the tutorial's pair the embedding
    is the flattened last feature map, so it averages neighbouring pixels.
    """

    title: ClassVar[str] = "Cosine loss"
    paper: ClassVar[Paper] = Paper(
        key="chariton2023knowledge",
        authors="Chariton, Alexandros",
        title="Knowledge Distillation Tutorial",
        venue="PyTorch Tutorials",
        year=2023,
        kind="misc",
        url="https://docs.pytorch.org/tutorials/beginner/knowledge_distillation_tutorial.html",
    )
    unlabelled: ClassVar[bool] = True

    beta: float = hparam(
        0.25, Range(0.01, 10.0, log=True), low=0, help="weight of the representation term"
    )
    task_weight: float = hparam(0.75, low=0, help="weight of the cross-entropy")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return ("embedding",)

    def helpers(self, shapes):
        for role in ("student", "teacher"):
            if len(size := shape(shapes, role, "embedding")) != 1:
                raise Incompatible(f"needs vectors; the {role}'s embedding has shape {size}")
        return super().helpers(shapes)

    def loss_weights(self):
        return {"task": self.task_weight, "representation": self.beta}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            representation=losses.cosine(
                student.features["embedding"], teacher.features["embedding"]
            ),
        )
