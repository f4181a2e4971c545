"""Flow between layers."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Incompatible, Method, Paper, Range, hparam
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


@dataclass(frozen=True)
class FSP(Method):
    """The student first learns how the teacher's features turn from one stage into the
    next, then from the labels.

    Formula:
        first `init_share` of the steps:
            L = beta * sum over consecutive stages of mean((G_s - G_t)**2)
            G = f_a f_b^T / (h w)
        the rest:
            L = CE(y, softmax(z_s)), mean over the batch

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        f_a, f_b: feature maps of two consecutive stages, batch x channels x (h w); the
           larger is max-pooled to the smaller
        G: the flow matrices, batch x channels of a x channels of b
        beta: `beta`, the weight of the representation term

    Differs from the paper:
        - the two stages share the run's epochs and one optimiser, switched by the share of
          steps done; in the first phase the classifier gets a gradient of zero and waits
        - a mean over matrix entries where the paper sums over them

    Variants: a first phase of 30 in 240 epochs is RepDistiller's, which pools by the mean and
    leaves its beta of 50 out of the first phase, so that beta is 1 there (the default here;
    with 50 the first steps diverge on ResNets). Max pooling is the paper's and torchdistill's.

    Incompatible where student and teacher differ in the channels of a stage.
    """

    title: ClassVar[str] = "Flow of solution procedure"
    paper: ClassVar[Paper] = Paper(
        key="yim2017gift",
        authors="Yim, Junho and Joo, Donggyu and Bae, Jihoon and Kim, Junmo",
        title="A Gift from Knowledge Distillation: Fast Optimization, Network Minimization "
        "and Transfer Learning",
        venue="CVPR",
        year=2017,
        url="https://openaccess.thecvf.com/content_cvpr_2017/html/"
        "Yim_A_Gift_From_CVPR_2017_paper.html",
    )
    unlabelled: ClassVar[bool] = True

    beta: float = hparam(
        1.0, Range(0.02, 50.0, log=True), low=0, help="weight of the representation term"
    )
    init_share: float = hparam(
        0.125, Range(0.05, 0.5), low=0, high=0.9, help="share of steps of the first phase"
    )

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return ("stage?",)

    def helpers(self, shapes):
        differ = []
        for name in stages(shapes, self.networks(), "stage?", least=2):
            student, teacher = (shape(shapes, role, name)[0] for role in ("student", "teacher"))
            if student != teacher:
                differ.append(f"{name}: {student} in the student, {teacher} in the teacher")
        if differ:
            raise Incompatible(f"needs equal channel counts ({'; '.join(differ)})")
        return super().helpers(shapes)

    def loss_weights(self):
        return {"task": 1.0, "representation": self.beta}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        init = first_phase(progress.step, self.init_share, student.logits)
        names = common((student.features, teacher.features), "stage?")
        flows = total(
            losses.flow_mse(
                student.features[a], student.features[b], teacher.features[a], teacher.features[b]
            )
            for a, b in pairwise(names)
        )
        return weighted(
            self.loss_weights(),
            task=(1 - init) * cross_entropy(student.logits, batch),
            representation=init * flows,
        )
