"""A hint from one of the teacher's feature maps."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, shape, weighted
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.projections import REGRESSORS


@dataclass(frozen=True)
class Hint(Method):
    """The student learns to predict one of the teacher's feature maps through a trained
    regressor.

    Formula:
        L = task_weight * CE(y, softmax(z_s)) + beta * mean((r(f_s) - f_t)**2)
        the second mean runs over all entries of the map

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        f_s, f_t: feature maps at `layer`, batch x channels x height x width
        r: the `regressor`, trained with the student: a convolution (1x1 where the sizes
           agree; strided or transposed where they do not), batch norm and ReLU; linear for
           vectors
        task_weight, beta: the weights of the two terms

    Differs from the paper:
        - one stage: the hint is learnt beside the labels for the whole run; the paper
          first trains the lower half of the student on the hint, then the whole student
          with kd
        - a mean over entries where the paper has half the sum
        - batch norm and ReLU after the regressor's convolution, as in the tables made with
          RepDistiller; with the paper's convolution alone, beta 100 diverges

    Variants: beta 100, task_weight 1, conv-bn-relu (the default) is RepDistiller's and
    mdistiller's. The paper's half squared norm is beta = channels * height * width / 2 of
    the teacher's map with the regressor conv. Task_weight 0.75, beta 0.25, layer stage2,
    conv is the PyTorch tutorial's third method; the KD Zoo has beta 0.1 and no regressor.
    """

    title: ClassVar[str] = "FitNets"
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

    version: ClassVar[int] = 2

    beta: float = hparam(
        100.0, Range(0.1, 1000.0, log=True), low=0, help="weight of the representation term"
    )
    task_weight: float = hparam(1.0, low=0, help="weight of the cross-entropy")
    layer: str = hparam("stage2", help="the feature that is predicted")
    regressor: str = hparam("conv-bn-relu", help="conv-bn-relu, conv, or none")

    def __post_init__(self):
        super().__post_init__()
        if self.regressor not in REGRESSORS:
            raise ValueError(f"regressor = {self.regressor} is none of {', '.join(REGRESSORS)}")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.layer,)

    def helpers(self, shapes):
        student, teacher = (shape(shapes, role, self.layer) for role in ("student", "teacher"))
        return nn.ModuleDict({"regressor": REGRESSORS[self.regressor](student, teacher)})

    def loss_weights(self):
        return {"task": self.task_weight, "representation": self.beta}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        predicted = helpers["regressor"](student.features[self.layer])
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            representation=losses.feature_mse(predicted, teacher.features[self.layer]),
        )
