"""Logits learnt by a second head."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, shape, weighted
from kdbench.methods.networks import Frozen, Trained

#: Width of the second head's hidden layer in the authors' code.
HIDDEN = 200


@dataclass(frozen=True)
class DHKD(Method):
    """The student learns from the labels with its own classifier and the teacher's logits with
    a second head on the same embedding, which is thrown away after training.

    Formula:
        L = CE(y, softmax(z_s)) + soft_weight * T**2 * B
        B = mean of sum over c of KL([1/2, 1/2] || [q, 1 - q]),  q = sigmoid((h - z_t) / T)
        h = W_2 relu(W_1 e + b_1) + b_2;  CE and the mean run over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        e: the student's `embedding`, batch x width
        h: the second head's logits, batch x classes; 200 hidden units
        T: `temperature`, without unit; q is clamped to [1e-8, 1 - 1e-8]
        soft_weight: alpha in the authors' code

    Differs from the paper:
        - the two terms' gradients are added; the authors' code can align those that conflict
          in the shared layers, and does so on CIFAR-100
        - the second head has neither the dropout (0.1) nor the batch norm of the authors' code

    Variants: T 2 with soft_weight 1 (the default) is the authors' example for CIFAR-100, T 2
    with 0.1 and a linear second head that for ImageNet.
    """

    title: ClassVar[str] = "Dual-head KD"
    paper: ClassVar[Paper] = Paper(
        key="yang2024dual",
        authors="Yang, Penghui and Zong, Chen-Chen and Huang, Sheng-Jun and Feng, Lei and An, Bo",
        title="Dual-Head Knowledge Distillation: Enhancing Logits Utilization with an "
        "Auxiliary Head",
        venue="arXiv:2411.08937",
        year=2024,
        kind="misc",
        arxiv="2411.08937",
    )
    unlabelled: ClassVar[bool] = True

    temperature: float = hparam(
        2.0, Range(1.0, 20.0, log=True), low=0.01, help="softens the difference of the logits"
    )
    soft_weight: float = hparam(
        1.0, Range(0.05, 5.0, log=True), low=0, help="weight of the second head's term"
    )

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return ("embedding",)

    def helpers(self, shapes):
        (width,) = shape(shapes, "student", "embedding")
        head = nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, shapes.classes))
        return nn.ModuleDict({"head": head})

    def loss_weights(self):
        return {"task": 1.0, "soft": self.soft_weight * self.temperature**2}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        second = helpers["head"](student.features["embedding"])
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            soft=losses.binary_kl(second, teacher.logits, self.temperature),
        )
