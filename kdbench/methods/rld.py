"""Refined logits."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.ramp import linear_ramp


@dataclass(frozen=True)
class RLD(Method):
    """The student learns from the labels, is to be as sure of the label as the teacher is of
    its own choice, and learns the teacher's ranking of the classes below the label.

    Formula:
        L = CE(y, softmax(z_s))
            + w * (target_weight * S**2 * SCD + non_target_weight * T**2 * MCD)
        SCD = KL([q_t[m], 1 - q_t[m]] || [q_s[y], 1 - q_s[y]]),  q = softmax(z / S)
        MCD = KL(r_t || r_s),  r = softmax of z / T over the classes c with z_t[c] < z_t[y]
        m = argmax of z_t;  w = min(t / (warmup * N), 1) in epoch t of N, counted from 1
        CE, SCD and MCD are means over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        S: `target_temperature`, alpha_T in the authors' code
        T: `temperature`, without unit
        target_weight, non_target_weight: alpha and beta in the paper
        warmup: the share of epochs over which w rises to 1

    Classes that the teacher wrongly prefers to the label are taught by neither term. MCD is 0
    where no class lies below the label.

    Differs from the paper:
        - the warm-up is a share of the run, 1/12, in place of the code's 20 of 240 epochs

    Variants: the defaults are those of the authors' configuration for CIFAR-100.
    """

    title: ClassVar[str] = "Refined logit distillation"
    paper: ClassVar[Paper] = Paper(
        key="sun2025knowledge",
        authors="Sun, Wujie and Chen, Defang and Lyu, Siwei and Chen, Genlang and Chen, Chun and "
        "Wang, Can",
        title="Knowledge Distillation with Refined Logits",
        venue="ICCV",
        year=2025,
        arxiv="2408.07703",
    )

    temperature: float = hparam(
        4.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    target_weight: float = hparam(
        1.0, Range(0.1, 10.0, log=True), low=0, help="weight of the term of sureness"
    )
    non_target_weight: float = hparam(
        8.0, Range(0.5, 20.0, log=True), low=0, help="weight of the other classes' term"
    )
    target_temperature: float = hparam(1.0, low=0.01, help="softens the sureness")
    warmup: float = hparam(1 / 12, low=0, high=1, help="share of epochs until full weight")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def loss_weights(self):
        return {
            "task": 1.0,
            "target": self.target_weight * self.target_temperature**2,
            "non_target": self.non_target_weight * self.temperature**2,
        }

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        target, non_target = losses.refined_kl(
            student, teacher, batch.labels, self.temperature, self.target_temperature
        )
        ramp = linear_ramp(progress.epoch_end, self.warmup, student)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            target=ramp * target,
            non_target=ramp * non_target,
        )
