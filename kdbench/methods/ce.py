"""Cross-entropy with the labels alone."""

from dataclasses import dataclass
from typing import ClassVar

from kdbench.methods.base import Method, Paper
from kdbench.methods.common import cross_entropy, weighted


@dataclass(frozen=True)
class CE(Method):
    """The student learns from the labels alone: the reference that the others are held against.

    Formula:
        L = CE(y, softmax(z_s)) = -log softmax(z_s)[y], mean over the batch

    Symbols:
        z_s: the student's logits, batch x classes, in nats
        y: labels, batch

    Differs from the paper: nothing known.
    """

    title: ClassVar[str] = "Cross-entropy"
    paper: ClassVar[Paper] = Paper(
        key="bridle1990probabilistic",
        authors="Bridle, John S.",
        title="Probabilistic Interpretation of Feedforward Classification Network Outputs, "
        "with Relationships to Statistical Pattern Recognition",
        venue="Neurocomputing: Algorithms, Architectures and Applications",
        year=1990,
        url="https://doi.org/10.1007/978-3-642-76153-9_28",
    )

    def loss(self, out, batch, helpers, progress):
        return weighted(self.loss_weights(), task=cross_entropy(out["student"].logits, batch))
