"""Semantic calibration: which of the teacher's stages each of the student's learns from."""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdbench.losses import pool, pool_width, smaller_size
from kdbench.losses.affinities import unit
from kdbench.methods.projections import conv_bn


def projection(source: int, target: int) -> nn.Sequential:
    """1x1, 3x3 and 1x1 convolutions, the first two with batch normalisation and ReLU."""
    inner = 2 * target
    return nn.Sequential(
        *conv_bn(source, inner), nn.ReLU(),
        *conv_bn(inner, inner, kernel=3), nn.ReLU(),
        nn.Conv2d(inner, target, 1, bias=False),
    )  # fmt: skip


class Calibration(nn.Module):
    """Errors and attention of every pair of a student's and a teacher's stage.

    A stage's similarity matrix, one row an image, is mapped by a perceptron to a query
    (student) or a key (teacher) of length 1; the attention is the softmax of their products
    over the teacher's stages. `width` is the batch size that the perceptrons are made for:
    rows of other batches are padded with zeros or averaged over neighbours.
    """

    def __init__(self, sources: Sequence[int], targets: Sequence[int], width: int) -> None:
        super().__init__()
        self.width = width

        def perceptron() -> nn.Sequential:
            hidden, out = 2 * (width // 4), width // 4
            return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out))

        self.queries = nn.ModuleList(perceptron() for _ in sources)
        self.keys_of = nn.ModuleList(perceptron() for _ in targets)
        self.projections = nn.ModuleList(projection(*pair) for pair in product(sources, targets))

    def similarity(self, maps: Tensor) -> Tensor:
        """The inner products of the batch's maps, each row brought to `width`: (B, width)."""
        flat = maps.flatten(1)
        rows = flat @ flat.T
        if len(rows) <= self.width:
            return F.pad(rows, (0, self.width - len(rows)))
        return pool_width(rows, self.width)

    def forward(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """(errors, attention), both (B, stages of the student, stages of the teacher)."""
        queries, keys = (
            torch.stack(
                [unit(one(self.similarity(f))) for one, f in zip(modules, maps, strict=True)], 1
            )
            for modules, maps in ((self.queries, students), (self.keys_of, teachers))
        )
        attention = (queries @ keys.transpose(1, 2)).softmax(dim=2)
        errors = []
        for project, pair in zip(self.projections, product(students, teachers), strict=True):
            source, target = (pool(f, smaller_size(*pair)) for f in pair)
            errors.append((project(source) - target).square().flatten(1).mean(dim=1))
        return torch.stack(errors, dim=1).view_as(attention), attention
