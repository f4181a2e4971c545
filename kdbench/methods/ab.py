"""Activation boundaries."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import (
    common,
    cross_entropy,
    first_phase,
    shape,
    stages,
    total,
    weighted,
)
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.regressor import regressor


def connector(student: tuple[int, ...], teacher: tuple[int, ...]) -> nn.Module:
    """From the student's pre-activations to the shape of the teacher's."""
    return nn.Identity() if student == teacher else regressor(student, teacher)


@dataclass(frozen=True)
class AB(Method):
    """The student first learns which of the teacher's neurons fire, then from the
    teacher's softened probabilities.

    Formula:
        first `init_share` of the steps:
            L = beta * sum over stages l of 2**(l - L) * B(r_l(s_l), t_l)
            B = sum over neurons of relu(m + s)**2 where t <= 0, relu(m - s)**2 where t > 0
        the rest:
            L = (1 - alpha) * CE(y, softmax(z_s)) + alpha * T**2 * KL(p_t || p_s)
        p = softmax(z / T); B, CE and KL are means over the batch

    Symbols:
        z_s, z_t: logits of student and teacher, batch x classes
        y: labels, batch
        s_l, t_l: pre-activations of stage l (layers `stage?_pre`), batch x channels x height
           x width; L is the number of stages
        r_l: the connectors, one convolution a stage, trained with the student
        m: `margin`, in units of the pre-activation
        T: `temperature`; alpha: weight of the soft term; beta: weight of the boundary term

    Differs from the paper:
        - the two stages share the run's epochs and one optimiser, switched by the share of
          steps done; the paper adds the first stage's epochs and restarts the optimiser
        - in the first phase the classifier gets a gradient of zero and waits
        - the connectors are convolutions without batch norm, and the identity where both
          shapes are the same
        - in the first phase the teacher is in eval mode; the authors' code sets it to train mode
        - the soft term has T**2, the authors' code has not: at alpha 1 and T 3 the loss after the
          first phase is 9 times theirs; a smaller alpha lowers the soft term and adds the labels

    Variants: after the first phase the authors' code for CIFAR-10 uses the soft term alone with
    T 3 (alpha 1, the default); it computes the cross-entropy too, but the sum with it is commented
    out. RepDistiller and the KD Zoo use the labels alone (alpha 0). The boundary
    term, its stage weights and beta 3/1000 are RepDistiller's, after the authors' code.
    The first phase is 30 of 240 epochs in RepDistiller, hence 0.125.
    """

    title: ClassVar[str] = "Activation boundaries"
    paper: ClassVar[Paper] = Paper(
        key="heo2019knowledge",
        authors="Heo, Byeongho and Lee, Minsik and Yun, Sangdoo and Choi, Jin Young",
        title="Knowledge Transfer via Distillation of Activation Boundaries Formed by "
        "Hidden Neurons",
        venue="AAAI",
        year=2019,
        arxiv="1811.03233",
    )
    unlabelled: ClassVar[bool] = True

    version: ClassVar[int] = 2

    temperature: float = hparam(
        3.0, Range(1.0, 20.0, log=True), low=0.01, help="softens both distributions"
    )
    alpha: float = hparam(1.0, Range(0.05, 1.0), low=0, high=1, help="weight of the soft term")
    beta: float = hparam(
        0.003, Range(3e-4, 0.03, log=True), low=0, help="weight of the boundary term"
    )
    margin: float = hparam(1.0, low=0, help="how far beyond the boundary is far enough")
    init_share: float = hparam(0.125, low=0, high=0.9, help="share of steps of the first phase")
    stages: str = hparam("stage?_pre", help="which layers, by name or pattern")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.stages,)

    def helpers(self, shapes):
        names = stages(shapes, self.networks(), self.stages)
        student, teacher = ({n: shape(shapes, r, n) for n in names} for r in ("student", "teacher"))
        return nn.ModuleDict({n: connector(student[n], teacher[n]) for n in names})

    def loss_weights(self):
        return {
            "task": 1 - self.alpha,
            "soft": self.alpha * self.temperature**2,
            "representation": self.beta,
        }

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        init = first_phase(progress.step, self.init_share, student.logits)
        names = common((student.features, teacher.features), self.stages)
        boundary = total(
            2.0 ** (level - len(names))
            * losses.activation_boundary(
                helpers[name](student.features[name]), teacher.features[name], self.margin
            )
            for level, name in enumerate(names, 1)
        )
        return weighted(
            self.loss_weights(),
            task=(1 - init) * cross_entropy(student.logits, batch),
            soft=(1 - init) * losses.kl(student.logits, teacher.logits, self.temperature),
            representation=init * boundary,
        )
