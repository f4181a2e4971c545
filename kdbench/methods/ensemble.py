"""Several teachers, one student."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Stage, Trained


@dataclass(frozen=True)
class Ensemble(Method):
    """The student learns from the labels and from the mean of several teachers' softened
    probabilities.

    Formula:
        L = (1 - alpha) * CE(y, softmax(z_s)) + alpha * T**2 * KL(mean_i p_i || p_s)
        p = softmax(z / T); CE and KL are means over the batch

    Symbols:
        z_s, z_i: logits of the student and of teacher i, batch x classes
        y: labels, batch
        i: 1 to `members`; the teachers differ in their first weights and batch order only
        T: `temperature`, without unit
        alpha: `alpha`, the weight of the soft term

    The mean is the arithmetic one, of probabilities already at temperature T, not of
    logits.

    Differs from the paper:
        - only its averaged soft targets; its second loss, on triplets of intermediate
          representations, is left out
    """

    title: ClassVar[str] = "Ensemble of teachers"
    paper: ClassVar[Paper] = Paper(
        key="you2017learning",
        authors="You, Shan and Xu, Chang and Xu, Chao and Tao, Dacheng",
        title="Learning from Multiple Teacher Networks",
        venue="KDD",
        year=2017,
        url="https://doi.org/10.1145/3097983.3098135",
    )
    unlabelled: ClassVar[bool] = True

    temperature: float = hparam(
        4.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    alpha: float = hparam(0.9, Range(0.05, 0.95), low=0, high=1, help="weight of the soft term")
    members: int = hparam(3, low=2, high=10, help="number of teachers")

    def networks(self):
        teachers = {
            f"teacher{i + 1}": Frozen(Stage(model="teacher", member=i)) for i in range(self.members)
        }
        return {"student": Trained("student"), **teachers}

    def loss_weights(self):
        return {"task": 1 - self.alpha, "soft": self.alpha * self.temperature**2}

    def loss(self, out, batch, helpers, progress):
        student = out["student"].logits
        members = [out[f"teacher{i + 1}"].logits for i in range(self.members)]
        target = losses.log_mean_probs(members, self.temperature)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            soft=losses.kl_to_log_probs(student, target, self.temperature),
        )
