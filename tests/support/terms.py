"""A method's terms on random outputs, in float64, for tests that write its formula out."""

from typing import Any

import torch
from torch import Tensor, nn

from kdbench.methods import METHODS
from kdbench.methods.layers import answered
from kdbench.methods.types import Progress
from kdbench.models.output import Output
from kdbench.testing import fakes


class Run:
    """A method, random outputs and helper modules, and its terms on them."""

    def __init__(
        self,
        key: str,
        progress: Progress = fakes.END,
        teacher: str = fakes.SAME,
        seed: int = 0,
        student: dict[str, tuple[int, ...]] | None = None,
        **hparams: Any,
    ) -> None:
        self.method = METHODS[key](**hparams)
        sizes = fakes.shapes(self.method, teacher, student)
        self.out: dict[str, Output] = fakes.outputs(self.method, sizes, seed, torch.float64)
        self.helpers: nn.ModuleDict = fakes.helpers(self.method, sizes).double()
        self.batch = fakes.batch(seed)
        self.labels = self.batch.labels
        self.answered = answered(self.method, self.out, self.helpers)
        self.terms = self.method.loss(self.answered, self.batch, self.helpers, progress)

    @property
    def logits(self) -> tuple[Tensor, Tensor]:
        """Of student and teacher."""
        return self.out["student"].logits, self.out["teacher"].logits

    def features(self, layer: str) -> tuple[Tensor, Tensor]:
        """Of student and teacher."""
        return self.out["student"].features[layer], self.out["teacher"].features[layer]


def same(value: Tensor, expected: Any) -> None:
    """Equal but for the rounding of float64."""
    torch.testing.assert_close(
        value, torch.as_tensor(expected), rtol=1e-10, atol=1e-13, check_dtype=False
    )
