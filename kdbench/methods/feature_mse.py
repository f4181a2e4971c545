"""A feature map and soft targets together."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn import functional as F

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import shape, weighted
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.regressor import regressor


@dataclass(frozen=True)
class FeatureMSE(Method):
    """The student learns from the labels, the teacher's softened probabilities and one of
    its feature maps at once.

    Formula:
        L = (1 - alpha) * CE(y, softmax(z_s)) + alpha * T**2 * KL(p_t || p_s)
            + beta * mean((r(f_s) - f_t)**2)
        p = softmax(z / T); CE and KL are means over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        f_s, f_t: feature maps at `layer`, batch x channels x height x width
        r: the regressor, one convolution trained with the student (linear for vectors)
        T: `temperature`; alpha: weight of the soft term; beta: weight of the feature term

    Differs from the paper:
        - the paper's two losses (hint, then kd) are used one after the other there and
          together here, for the whole run
        - a mean over entries where the paper has half the sum

    Variants: with alpha 0 this is `hint`; with beta 0 it is `kd`. No published default
    exists for the sum: alpha 0.5 keeps the labels, beta 1 puts the feature term, of order
    1, beside the cross-entropy.
    """

    paper: ClassVar[Paper] = Paper(
        key="romero2015fitnets",
        authors="Romero, Adriana and Ballas, Nicolas and Kahou, Samira Ebrahimi and "
        "Chassang, Antoine and Gatta, Carlo and Bengio, Yoshua",
        title="FitNets: Hints for Thin Deep Nets",
        venue="ICLR",
        year=2015,
    )

    temperature: float = hparam(
        4.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    alpha: float = hparam(0.5, Range(0.05, 0.95), low=0, high=1, help="weight of the soft term")
    beta: float = hparam(
        1.0, Range(0.01, 100.0, log=True), low=0, help="weight of the representation term"
    )
    layer: str = hparam("stage2", help="the feature that is predicted")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.layer,)

    def helpers(self, shapes):
        student, teacher = (shape(shapes, role, self.layer) for role in ("student", "teacher"))
        return nn.ModuleDict({"regressor": regressor(student, teacher)})

    def loss_weights(self):
        return {
            "task": 1 - self.alpha,
            "soft": self.alpha * self.temperature**2,
            "representation": self.beta,
        }

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        predicted = helpers["regressor"](student.features[self.layer])
        return weighted(
            self.loss_weights(),
            task=F.cross_entropy(student.logits, batch.labels),
            soft=losses.kl(student.logits, teacher.logits, self.temperature),
            representation=losses.feature_mse(predicted, teacher.features[self.layer]),
        )
