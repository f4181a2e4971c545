"""The student of the previous epoch as teacher."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, scalar, weighted
from kdbench.methods.networks import Snapshot, Trained


@dataclass(frozen=True)
class PSKD(Method):
    """The student learns from the labels mixed with its own predictions of one epoch before.

    Formula:
        L = CE((1 - a_t) * y + a_t * p_prev, softmax(z_s))
          = (1 - a_t) * CE(y, softmax(z_s)) + a_t * CE(p_prev, softmax(z_s))
        a_t = alpha * t / N in epoch t of N, counted from 1, and a_1 = 0
        means over the batch

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        p_prev: softmax of the logits of the student as it was when epoch t - 1 ended
        alpha: `alpha` (alpha_T in the paper), the weight of the soft term in the last epoch

    The logged weights are those of the last epoch.

    Differs from the paper:
        - the previous epoch's network, in eval mode, sees the present batch; the authors'
          code stores the network's outputs in train mode while epoch t - 1 went on, on
          images augmented otherwise
    """

    title: ClassVar[str] = "Progressive self-KD"
    paper: ClassVar[Paper] = Paper(
        key="kim2021self",
        authors="Kim, Kyungyul and Ji, ByeongMoon and Yoon, Doyoung and Hwang, Sangheum",
        title="Self-Knowledge Distillation with Progressive Refinement of Targets",
        venue="ICCV",
        year=2021,
        arxiv="2006.12000",
    )

    alpha: float = hparam(
        0.8, Range(0.1, 0.95), low=0, high=1, help="weight of the soft term in the last epoch"
    )

    def networks(self):
        return {"student": Trained("student"), "previous": Snapshot("student")}

    def loss_weights(self):
        return {"task": 1 - self.alpha, "soft": self.alpha}

    def loss(self, out, batch, helpers, progress):
        student, previous = out["student"].logits, out["previous"].logits
        # In the first epoch there is no previous one: the snapshot is the untrained student.
        begun = (scalar(progress.epoch, student) > 0).to(student.dtype)
        ramp = begun * scalar(progress.epoch_end, student)
        full = {name: scalar(weight, student) for name, weight in self.loss_weights().items()}
        now = {"task": full["task"] + full["soft"] * (1 - ramp), "soft": full["soft"] * ramp}
        return weighted(
            now,
            task=cross_entropy(student, batch),
            soft=losses.soft_cross_entropy(student, previous),
        )
