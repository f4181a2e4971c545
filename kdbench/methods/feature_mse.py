"""A feature map and soft targets together."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, shape, soft_weights, weighted
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.projections import REGRESSORS

SOFT = {"kl": losses.kl, "mse": losses.probability_mse}


@dataclass(frozen=True)
class FeatureMSE(Method):
    """The student learns from the labels, the teacher's softened probabilities and one of
    its feature maps at once.

    Formula:
        L = (1 - alpha) * CE(y, softmax(z_s)) + alpha * T**2 * S(p_t, p_s)
            + beta * mean((r(f_s) - f_t)**2)
        p = softmax(z / T); S is KL(p_t || p_s), or mean((p_s - p_t)**2) over batch and
        classes; CE and KL are means over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        f_s, f_t: feature maps at `layer`, batch x channels x height x width
        S: `soft`, kl or mse
        r: the `regressor`, one convolution trained with the student (linear for vectors), or
           none, where both have one shape
        T: `temperature`; alpha: weight of the soft term; beta: weight of the feature term

    Differs from the paper:
        - the paper's two losses (hint, then kd) are used one after the other there and
          together here, for the whole run
        - a mean over entries where the paper has half the sum

    Variants: the sum CE + alpha * mean((p_s - p_t)**2) + beta * mean((f_s - f_t)**2) of many
    tutorials is weights plain (1 and alpha, without T**2), soft mse, regressor none, T 1.
    With alpha 0 this is `hint`; with beta 0 it is `kd` or `mse`. No published default
    exists for the sum: alpha 0.5 keeps the labels, beta 1 puts the feature term, of order
    1, beside the cross-entropy.
    """

    title: ClassVar[str] = "KD with feature MSE"
    paper: ClassVar[Paper] = Paper(
        key="romero2015fitnets",
        authors="Romero, Adriana and Ballas, Nicolas and Kahou, Samira Ebrahimi and "
        "Chassang, Antoine and Gatta, Carlo and Bengio, Yoshua",
        title="FitNets: Hints for Thin Deep Nets",
        venue="ICLR",
        year=2015,
        arxiv="1412.6550",
    )
    unlabelled: ClassVar[bool] = True

    temperature: float = hparam(
        4.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    alpha: float = hparam(0.5, Range(0.05, 0.95), low=0, help="weight of the soft term")
    beta: float = hparam(
        1.0, Range(0.01, 100.0, log=True), low=0, help="weight of the representation term"
    )
    layer: str = hparam("stage2", help="the feature that is predicted")
    soft: str = hparam("kl", help="kl, or mse between softened probabilities")
    weights: str = hparam("convex", help="convex, or plain: 1 and alpha, without T**2")
    regressor: str = hparam("conv", help="conv, conv-bn-relu, or none")

    def __post_init__(self):
        super().__post_init__()
        self.loss_weights()  # raises where alpha and weights do not fit
        for name, known in (("soft", SOFT), ("regressor", REGRESSORS)):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"{name} = {value} is none of {', '.join(known)}")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.layer,)

    def helpers(self, shapes):
        student, teacher = (shape(shapes, role, self.layer) for role in ("student", "teacher"))
        return nn.ModuleDict({"regressor": REGRESSORS[self.regressor](student, teacher)})

    def loss_weights(self):
        weights = soft_weights(self.weights, self.alpha, self.temperature)
        return {**weights, "representation": self.beta}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        predicted = helpers["regressor"](student.features[self.layer])
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            soft=SOFT[self.soft](student.logits, teacher.logits, self.temperature),
            representation=losses.feature_mse(predicted, teacher.features[self.layer]),
        )
