"""Contrastive representation distillation."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, shape, total, weighted
from kdbench.methods.memory import PairMemory
from kdbench.methods.networks import Frozen, Trained


class Embedding(nn.Module):
    """A linear map to vectors of length 1."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.linear = nn.Linear(source, target)

    def forward(self, vectors: Tensor) -> Tensor:
        return F.normalize(self.linear(vectors), dim=1)


@dataclass(frozen=True)
class CRD(Method):
    """The student learns to tell the teacher's embedding of an example from those of examples of
    other classes, and the teacher's to tell the student's.

    Formula:
        L = CE(y, softmax(z_s)) + beta * (N(e_s, M_t) + N(e_t, M_s))
        N(e, M) = -log h(p_0) - sum over k of log(1 - h(p_k)),  h(p) = p / (p + negatives / n)
        p_k = exp(<e, m_k> / temperature) / Z;  CE and N are means over the batch

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        e_s, e_t: vectors at `layer`, mapped to `width` dimensions by a linear map each, trained
            with the student, and divided by their L2 norm
        M_s, M_t: memories, a row for each of the n training images: after each step
            m <- momentum * m + (1 - momentum) * e, divided by its L2 norm; constants in N
        m_0: the example's own row; m_k: rows of `negatives` examples of other classes, drawn
            uniformly
        Z: a constant for each memory, n times the mean of exp(..) over the first batch
        T: `temperature`, of the similarities
        beta: `beta`, the weight of the representation term

    Differs from the paper:
        - other examples are drawn with replacement, and only among those that have been shown
          at least once; in the first steps those of the batch
        - n counts the images that are held out for validation too

    Variants: the defaults are RepDistiller's, the authors' code.
    """

    title: ClassVar[str] = "Contrastive representation (CRD)"
    paper: ClassVar[Paper] = Paper(
        key="tian2020contrastive",
        authors="Tian, Yonglong and Krishnan, Dilip and Isola, Phillip",
        title="Contrastive Representation Distillation",
        venue="ICLR",
        year=2020,
        arxiv="1910.10699",
    )

    beta: float = hparam(
        0.8, Range(0.02, 20.0, log=True), low=0, help="weight of the representation term"
    )
    temperature: float = hparam(0.07, Range(0.02, 1.0, log=True), low=0.01, help="of similarities")
    negatives: int = hparam(16384, low=1, help="examples of other classes")
    momentum: float = hparam(0.5, low=0, high=0.999, help="of the memories")
    width: int = hparam(128, low=1, help="dimensions of the projected embeddings")
    layer: str = hparam("embedding", help="the vectors that are compared")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.layer,)

    def helpers(self, shapes):
        sizes = {role: prod(shape(shapes, role, self.layer)) for role in self.networks()}
        embeddings = {role: Embedding(size, self.width) for role, size in sizes.items()}
        return nn.ModuleDict({**embeddings, "memory": PairMemory(shapes.examples, self.width)})

    def loss_weights(self):
        return {"task": 1.0, "representation": self.beta}

    def loss(self, out, batch, helpers, progress):
        vectors = (out[r].features[self.layer].flatten(1) for r in ("student", "teacher"))
        student, teacher = next(vectors), next(vectors).detach()
        student, teacher = helpers["student"](student), helpers["teacher"](teacher)
        memory = helpers["memory"]
        memory.note(batch.position, batch.labels)
        share = torch.rand(
            (len(student), self.negatives), generator=batch.generator, device=student.device
        )
        others = losses.other_class_examples(memory.labels, batch.labels, share)
        index = torch.cat([batch.position[:, None], others], dim=1)
        scores = memory.scores(student, teacher, index, self.temperature)
        memory.update(batch.position, student, teacher, self.momentum)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(out["student"].logits, batch),
            representation=total(losses.noise_contrastive(s, len(memory.labels)) for s in scores),
        )
