"""Born-again networks."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted
from kdbench.methods.networks import Frozen, Stage, Trained


@dataclass(frozen=True)
class BAN(Method):
    """The student learns from the labels and from a finished student of its own kind, over
    several generations.

    Formula:
        L_k = CE(y, softmax(z_k)) + alpha * T**2 * KL(p_{k-1} || p_k)
        p = softmax(z / T); CE and KL are means over the batch

    Symbols:
        z_k: logits of generation k, batch x classes; generation 0 has learnt from the
           labels alone (`ce`), and each generation starts from first weights of its own
        y: labels, batch
        k: `generations`, counts the born-again students; the last one is on the leaderboard
        T: `temperature`; alpha: weight of the soft term

    Earlier generations take the default hyperparameters. The study's teacher is not used.

    Differs from the paper:
        - the paper has no temperature and no weight: T 1 and alpha 1 (the default) are its
          sum of two cross-entropies
        - the ensemble of all generations (BANE) is not built

    Variants: the unofficial born_again_neuralnet weighs the labels with 0.1 and the KL,
    divided by the class count, with 0.9 and T 20, and leaves the earlier generation in train mode.
    """

    title: ClassVar[str] = "Born-again networks"
    paper: ClassVar[Paper] = Paper(
        key="furlanello2018born",
        authors="Furlanello, Tommaso and Lipton, Zachary C. and Tschannen, Michael and "
        "Itti, Laurent and Anandkumar, Anima",
        title="Born-Again Neural Networks",
        venue="ICML",
        year=2018,
        arxiv="1805.04770",
    )
    unlabelled: ClassVar[bool] = True

    version: ClassVar[int] = 2

    temperature: float = hparam(
        1.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    alpha: float = hparam(1.0, Range(0.1, 10.0, log=True), low=0, help="weight of the soft term")
    generations: int = hparam(2, low=1, high=10, help="born-again students, one after another")

    def networks(self):
        if self.generations == 1:
            parent = Stage(model="student", method="ce", own_seed=True)
        else:
            earlier = {"generations": self.generations - 1}
            parent = Stage(model="student", method="ban", hparams=earlier, own_seed=True)
        return {"student": Trained("student"), "teacher": Frozen(parent)}

    def loss_weights(self):
        return {"task": 1.0, "soft": self.alpha * self.temperature**2}

    def loss(self, out, batch, helpers, progress):
        student, parent = out["student"].logits, out["teacher"].logits
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student, batch),
            soft=losses.kl(student, parent, self.temperature),
        )
