"""Factor transfer."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn import functional as F

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import common, cross_entropy, first_phase, shape, stages, weighted
from kdbench.methods.networks import Frozen, Trained

FACTORS = {"flat": losses.factor_l1, "attention": losses.factor_attention_l1}


def encoder(source: int, target: int) -> nn.Sequential:
    """Three 3x3 convolutions with leaky ReLU, the second changes the channels."""
    return _three(nn.Conv2d, [(source, source), (source, target), (target, target)])


def decoder(source: int, target: int) -> nn.Sequential:
    """The way back: three transposed convolutions with leaky ReLU."""
    return _three(nn.ConvTranspose2d, [(source, source), (source, target), (target, target)])


def _three(kind: type[nn.Module], channels: list[tuple[int, int]]) -> nn.Sequential:
    parts = [(kind(a, b, 3, padding=1), nn.LeakyReLU(0.1)) for a, b in channels]
    return nn.Sequential(*(module for pair in parts for module in pair))


@dataclass(frozen=True)
class FT(Method):
    """The student learns, through a translator, the factors that a paraphraser finds in the
    teacher's last map.

    Formula:
        first `init_share` of the steps:
            L = CE(y, softmax(z_s)) + mean(|d(e(f_t)) - f_t|)
        the rest:
            L = CE(y, softmax(z_s)) + mean(|d(e(f_t)) - f_t|) + beta * mean(|u_s - u_t|)
        u_t = e(f_t) and u_s = t(f_s), flattened and divided by their L2 norm; u_t is a
        constant in the last term, and the means run over all entries

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        f_s, f_t: the map of the last of the `stages`, batch x channels x height x width; of
           the factors the larger is average-pooled to the smaller
        e, d: encoder and decoder of the paraphraser, each three convolutions; a factor has
           `rate` times the teacher's channels
        t: the translator, an encoder from the student's channels, trained with the student
        beta: `beta`, the weight of the representation term

    Differs from the paper:
        - the paper trains the paraphraser beforehand and freezes it; here it begins with the
          student, the student waits for it with the last term, and it goes on learning to
          reconstruct the teacher's map afterwards
        - a mean over entries where the paper has the sum, as in the authors' code

    Variants: beta 500, rate 0.5 and 5 of 163 epochs for the paraphraser (0.03) are the
    authors' for CIFAR-10, and the absolute error of the reconstruction is that of their code.
    RepDistiller has beta 200 for another formula (`factors: attention`: squares averaged over
    channels in place of the flattened factor), 30 epochs, a squared error for the paraphraser
    and batch norm in the translator.
    """

    title: ClassVar[str] = "Factor transfer"
    paper: ClassVar[Paper] = Paper(
        key="kim2018paraphrasing",
        authors="Kim, Jangho and Park, SeongUk and Kwak, Nojun",
        title="Paraphrasing Complex Network: Network Compression via Factor Transfer",
        venue="NeurIPS",
        year=2018,
        arxiv="1802.04977",
    )
    unlabelled: ClassVar[bool] = True

    beta: float = hparam(
        500.0, Range(5.0, 5000.0, log=True), low=0, help="weight of the representation term"
    )
    rate: float = hparam(0.5, low=0.01, high=4, help="channels of a factor, as a share")
    init_share: float = hparam(0.03, low=0, high=0.9, help="share of steps of the first phase")
    factors: str = hparam("flat", help="flat, or attention for RepDistiller's formula")
    stages: str = hparam(
        "stage?", help="which layers, by name or pattern; the last of them is read"
    )

    def __post_init__(self):
        super().__post_init__()
        if self.factors not in FACTORS:
            raise ValueError(f"factors = {self.factors} is none of {', '.join(FACTORS)}")

    def networks(self):
        return {"student": Trained("student"), "teacher": Frozen()}

    def layers(self):
        return (self.stages,)

    def helpers(self, shapes):
        last = stages(shapes, self.networks(), self.stages)[-1]
        student, teacher = (shape(shapes, role, last)[0] for role in ("student", "teacher"))
        factor = max(1, round(teacher * self.rate))
        return nn.ModuleDict(
            {
                "translator": encoder(student, factor),
                "encoder": encoder(teacher, factor),
                "decoder": decoder(factor, teacher),
            }
        )

    def loss_weights(self):
        return {"task": 1.0, "representation": self.beta, "reconstruction": 1.0}

    def loss(self, out, batch, helpers, progress):
        student, teacher = out["student"], out["teacher"]
        last = common((student.features, teacher.features), self.stages)[-1]
        target = teacher.features[last].detach()
        pair = helpers["translator"](student.features[last]), helpers["encoder"](target)
        u_s, u_t = (losses.pool(f, losses.smaller_size(*pair)) for f in pair)
        rest = 1 - first_phase(progress.step, self.init_share, student.logits)
        return weighted(
            self.loss_weights(),
            task=cross_entropy(student.logits, batch),
            representation=rest * FACTORS[self.factors](u_s, u_t),
            reconstruction=F.l1_loss(helpers["decoder"](pair[1]), target),
        )
