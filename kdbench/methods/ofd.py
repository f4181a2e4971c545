"""A comprehensive overhaul of feature distillation."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import (
    common,
    cross_entropy,
    parameter_shape,
    shape,
    stages,
    total,
    weighted,
)
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.projections import BatchNorm
from kdbench.methods.regressor import regressor


@dataclass(frozen=True)
class OFD(Method):
    """The student learns the teacher's stages before the activation, whose negative values are
    raised to the margin of their channel and may be undershot.

    Formula:
        L = CE(y, softmax(z_s)) + beta * sum over stages l of 2**(l - last) * D_l
        D = sum over the entries of (r - t')**2 where t > 0 or r > t', mean over the batch
        t' = max(t, m),  m_c = mean of the negative part of N(b_c, w_c**2)

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        t: the teacher's map before the activation, batch x channels x height x width
        r: the student's, through a connector: a convolution without bias and batch norm
        m: the margin of each channel; w, b: scale and shift of the teacher's batch norm there;
           where less than a thousandth is negative, m = -3 |w|
        beta: `beta`, the weight of the representation term

    Differs from the paper:
        - the teacher is in eval mode; the authors' code keeps its batch norm in train mode
        - where the maps' sizes differ, the connector strides; the authors' pairs agree in size

    Variants: beta 0.001 is the authors' for CIFAR-100.
    """

    title: ClassVar[str] = "Overhaul of feature distillation"
    paper: ClassVar[Paper] = Paper(
        key="heo2019comprehensive",
        authors="Heo, Byeongho and Kim, Jeesoo and Yun, Sangdoo and Park, Hyojin and "
        "Kwak, Nojun and Choi, Jin Young",
        title="A Comprehensive Overhaul of Feature Distillation",
        venue="ICCV",
        year=2019,
        arxiv="1904.01866",
    )
    unlabelled: ClassVar[bool] = True

    beta: float = hparam(
        1e-3, Range(1e-5, 1e-1, log=True), low=0, help="weight of the representation term"
    )
    stages: str = hparam("stage?_pre", help="which layers, by name or pattern")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.stages,)

    def helpers(self, shapes):
        connectors = {}
        for name in stages(shapes, self.networks(), self.stages):
            student, teacher = (shape(shapes, role, name) for role in ("student", "teacher"))
            parameter_shape(shapes, "teacher", f"{name}.weight")
            same = student[1:] == teacher[1:]
            conv = (
                nn.Conv2d(student[0], teacher[0], 1, bias=False)
                if same
                else regressor(student, teacher, bias=False)
            )
            connectors[name] = nn.Sequential(conv, BatchNorm(teacher[0]))
        return nn.ModuleDict(connectors)

    def loss_weights(self):
        return {"task": 1.0, "representation": self.beta}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        names = common((student.features, teacher.features), self.stages)
        terms = []
        for level, name in enumerate(reversed(names)):
            margin = losses.margins(
                *(teacher.parameters[f"{name}.{p}"] for p in ("weight", "bias"))
            )
            connected = helpers[name](student.features[name])
            terms.append(losses.partial_l2(connected, teacher.features[name], margin) / 2**level)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            representation=total(terms),
        )
