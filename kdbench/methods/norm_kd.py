"""Soft targets at each example's own temperature."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Trained


@dataclass(frozen=True)
class NormKD(Method):
    """The student learns from the labels and from the teacher's probabilities, each network's
    softened by the spread of its own logits in each example.

    Formula:
        L = (1 - alpha) * CE(y, softmax(z_s)) + alpha * mean of T_t**2 * KL(p_t || p_s)
        p = softmax(z / T_z);  T_z = temperature_factor * s(z)
        CE and the second mean run over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        s(z): the unbiased standard deviation of one example's logits; the gradient also runs
           through the student's
        T_t: the teacher's temperature in an example
        temperature_factor: T_norm in the authors' code, without unit
        alpha: weight of the soft term

    Against `ls-kd`: the square is that of the teacher's own temperature, so that the soft term
    keeps the scale of the teacher's logits.

    Differs from the paper:
        - 1e-7 is added to each T_z, so that equal logits divide by no zero
    """

    title: ClassVar[str] = "NormKD"
    paper: ClassVar[Paper] = Paper(
        key="chi2023normkd",
        authors="Chi, Zhihao and Zheng, Tu and Li, Hengjia and Yang, Zheng and Wu, Boxi and "
        "Lin, Binbin and Cai, Deng",
        title="NormKD: Normalized Logits for Knowledge Distillation",
        venue="arXiv:2308.00520",
        year=2023,
        kind="misc",
        arxiv="2308.00520",
    )
    unlabelled: ClassVar[bool] = True

    temperature_factor: float = hparam(
        2.0, Range(0.5, 5.0, log=True), low=0.01, help="temperature in units of the deviation"
    )
    alpha: float = hparam(0.9, Range(0.05, 0.95), low=0, high=1, help="weight of the soft term")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def loss_weights(self):
        return {"task": 1 - self.alpha, "soft": self.alpha}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"].logits, out["teacher"].logits
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            soft=losses.normalised_kl(student, teacher, self.temperature_factor),
        )
