"""Cross-entropy against smoothed labels."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench import losses
from kdbench.methods.base import Method, Paper, Range, hparam
from kdbench.methods.common import cross_entropy, weighted


@dataclass(frozen=True)
class LabelSmoothing(Method):
    """The student learns from the labels mixed with the uniform distribution.

    Formula:
        L = (1 - e) * CE(y, p_s) + e * CE(u, p_s),  p_s = softmax(z_s)

    Symbols:
        z_s: the student's logits, batch x classes
        y: labels, batch
        u: the uniform distribution, 1 / C for each of all C classes
        e: `smoothing`, the share of u in the target, without unit

    Differs from the paper: nothing known.

    Variants: PyTorch's `label_smoothing` spreads e over all C classes, as here and in the
    paper. The Tf-KD repository spreads it over the C - 1 wrong ones, which is the same as
    e * C / (C - 1) here.
    """

    title: ClassVar[str] = "Label smoothing"
    paper: ClassVar[Paper] = Paper(
        key="szegedy2016rethinking",
        authors="Szegedy, Christian and Vanhoucke, Vincent and Ioffe, Sergey and "
        "Shlens, Jonathon and Wojna, Zbigniew",
        title="Rethinking the Inception Architecture for Computer Vision",
        venue="CVPR",
        year=2016,
        arxiv="1512.00567",
    )

    smoothing: float = hparam(
        0.1, Range(0.01, 0.4, log=True), low=0, high=1, help="share of the uniform target"
    )

    def loss_weights(self):
        return {"task": 1 - self.smoothing, "uniform": self.smoothing}

    def loss(self, out, batch, helpers, progress):
        logits = out["student"].logits
        return weighted(
            self.loss_weights(),
            task=cross_entropy(logits, batch),
            uniform=losses.uniform_cross_entropy(logits),
        )
