"""Self-distillation from the last mini-batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import weighted
from kdbench.methods.memory import Memory
from kdbench.methods.networks import Shared, Trained
from kdbench.methods.types import PREVIOUS


@dataclass(frozen=True)
class DLB(Method):
    """The student sees the batch before once more and learns from the labels of both batches
    and, for the earlier one, from what it answered a step ago; there is no teacher.

    Formula:
        L = CE(y and y', softmax(z and z')) + soft_weight * T**2 * KL(q || p')
        p' = softmax(z' / T), q = softmax(z_before / T); CE is a mean over the examples of both
        batches, KL over those of the batch before, q is a constant

    Symbols:
        z: the student's logits for the batch, batch x classes
        z': its logits for the examples of the batch before, in new views, batch x classes
        z_before: its logits for the same examples in the step before, batch x classes
        y, y': labels of both batches, batch
        T: `temperature`, without unit; soft_weight: alpha, the weight of the soft term

    The first batch of an epoch is shown the last examples of the epoch before. Examples that
    have not been seen yet, as those of the first batch of all, count in no term.

    Differs from the paper:
        - where the last batch of an epoch is smaller, only as many examples of the batch before
          are shown again
        - no file of the authors gives T and alpha: 3 and 1 are the paper's
    """

    title: ClassVar[str] = "Self-KD from the last mini-batch"
    paper: ClassVar[Paper] = Paper(
        key="shen2022self",
        authors="Shen, Yiqing and Xu, Liwu and Yang, Yuzhe and Li, Yaqian and Guo, Yandong",
        title="Self-Distillation from the Last Mini-Batch for Consistency Regularization",
        venue="CVPR",
        year=2022,
        arxiv="2203.16172",
    )
    examples: ClassVar[Mapping[str, str]] = {"again": PREVIOUS}

    temperature: float = hparam(
        3.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    soft_weight: float = hparam(
        1.0, Range(0.1, 10.0, log=True), low=0, help="weight of the soft term"
    )

    def networks(self):
        return {"student": Trained("student"), "again": Shared("student")}

    def helpers(self, shapes):
        return nn.ModuleDict({"answers": Memory(shapes.examples, shapes.classes)})

    def loss_weights(self):
        return {"task": 1.0, "soft": self.soft_weight * self.temperature**2}

    def loss(self, out, batch, helpers, progress):
        now, again, memory = out["student"].logits, out["again"].logits, helpers["answers"]
        previous = batch.previous
        before, seen = memory.read(previous.position), memory.seen(previous.position)
        memory.write(batch.position, now)
        return weighted(
            self.loss_weights(),
            task=losses.masked_cross_entropy(
                torch.cat([now, again]),
                torch.cat([batch.labels, previous.labels]),
                torch.cat([torch.ones_like(seen), seen]),
                batch.label_smoothing,
                batch.class_weights,
            ),
            soft=losses.masked_kl(again, before, seen, self.temperature),
        )
