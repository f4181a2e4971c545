"""A teacher's assistant between teacher and student."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Stage, Trained


@dataclass(frozen=True)
class TAKD(Method):
    """The student learns by `kd` from an assistant of middle size that has learnt by `kd`
    from the teacher.

    Formula:
        L = (1 - alpha) * CE(y, softmax(z_s)) + alpha * T**2 * KL(p_a || p_s)
        p = softmax(z / T); CE and KL are means over the batch

    Symbols:
        z_s, z_a: logits of student and assistant, batch x classes
        y: labels, batch
        T: `temperature`, without unit
        alpha: `alpha`, the weight of the soft term

    The assistant is a run of `kd` with the default hyperparameters, on the model that the study
    names; in this method's networks it has the role `teacher`.

    Differs from the paper:
        - one assistant; the paper also chains several
        - the paper tunes T and alpha for each pair; the default here is that of `kd`
    """

    title: ClassVar[str] = "Teacher assistant KD"
    paper: ClassVar[Paper] = Paper(
        key="mirzadeh2020improved",
        authors="Mirzadeh, Seyed Iman and Farajtabar, Mehrdad and Li, Ang and Levine, Nir and "
        "Matsukawa, Akihiro and Ghasemzadeh, Hassan",
        title="Improved Knowledge Distillation via Teacher Assistant",
        venue="AAAI",
        year=2020,
        arxiv="1902.03393",
    )
    unlabelled: ClassVar[bool] = True

    temperature: float = hparam(
        4.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    alpha: float = hparam(0.9, Range(0.05, 0.95), low=0, high=1, help="weight of the soft term")

    def networks(self):
        assistant = Stage(model="assistant", method="kd")
        return {"student": Trained("student"), "teacher": Frozen(assistant)}

    def loss_weights(self):
        return {"task": 1 - self.alpha, "soft": self.alpha * self.temperature**2}

    def loss(self, out, batch, helpers, progress):
        student, assistant = out["student"].logits, out["teacher"].logits
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            soft=losses.kl(student, assistant, self.temperature),
        )
