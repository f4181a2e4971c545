"""Views of images that are changed further by random operations, of which there is no end.

A view is drawn as a row of numbers: the id of a finite view (`augment`), and uniform numbers in
[0, 1) which say what the operations do to it. So a view is a function of its numbers, which come
from the run's own stream, and no global random number is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from kdbench.data.augment import Views
from kdbench.data.operations import apply


class Change(Protocol):
    """What may be done to images in [0, 1] (B x channels x height x width): it uses `numbers`
    uniform numbers for each of them."""

    @property
    def numbers(self) -> int: ...

    def __call__(self, images: Tensor, drawn: Tensor) -> Tensor: ...


#: FixMatch's ranges of RandAugment (Sohn et al. 2020, table 12), in the units of each operation.
RANDAUGMENT = {
    "identity": (0.0, 0.0),
    "autocontrast": (0.0, 0.0),
    "brightness": (0.05, 0.95),
    "color": (0.05, 0.95),
    "contrast": (0.05, 0.95),
    "equalize": (0.0, 0.0),
    "posterize": (4.0, 8.0),
    "rotate": (-30.0, 30.0),
    "sharpness": (0.05, 0.95),
    "shear-x": (-0.3, 0.3),
    "shear-y": (-0.3, 0.3),
    "solarize": (0.0, 1.0),
    "translate-x": (-0.3, 0.3),
    "translate-y": (-0.3, 0.3),
}


@dataclass(frozen=True)
class RandAugment:
    """`count` operations one after the other, each drawn from all with an amount of its own."""

    count: int = 2

    @property
    def numbers(self) -> int:
        """Which operation and how much, for each of `count`."""
        return 2 * self.count

    def __call__(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Change each image."""
        names, (low, high) = tuple(RANDAUGMENT), _randaugment_ranges(images.device)
        for step in range(self.count):
            share, amount = drawn[:, 2 * step], drawn[:, 2 * step + 1]
            which = (share * len(names)).long()
            amounts = low[which] + amount * (high - low)[which]
            images = apply(names, which, images, amounts)
        return images


@cache
def _randaugment_ranges(device: torch.device) -> tuple[Tensor, Tensor]:
    """The lower and upper ends. Kept, as a step that is captured copies nothing to a GPU."""
    low, high = torch.tensor(list(RANDAUGMENT.values()), device=device).unbind(1)
    return low, high


@dataclass(frozen=True)
class Cutout:
    """A grey square of up to `largest` of the sides, about any pixel (DeVries and Taylor 2017)."""

    largest: float = 0.5
    numbers: int = 3

    def __call__(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Cover a square of each image."""
        y, x, size = drawn.unbind(1)
        height, width = images.shape[2:]
        rows = _inside(height, y, self.largest * size)
        columns = _inside(width, x, self.largest * size)
        covered = rows[:, None, :, None] & columns[:, None, None, :]
        return images.masked_fill(covered, 0.5)


def _inside(pixels: int, centre: Tensor, share: Tensor) -> Tensor:
    """Whether each pixel of a side lies in a span about `centre` (B, from 0 to 1): B x pixels."""
    place = (torch.arange(pixels, device=centre.device) + 0.5) / pixels
    return (place - centre[:, None]).abs() <= share[:, None] / 2


#: The strong views of FixMatch.
STRONG_CHANGES: tuple[Change, ...] = (RandAugment(), Cutout())


class RandomViews:
    """Normalised batches of finite views that `changes` are made to, one after the other."""

    def __init__(self, views: Views, changes: Sequence[Change]) -> None:
        self.views, self.changes = views, tuple(changes)

    def draw(self, count: int, generator: np.random.Generator) -> Tensor:
        """`count` views (float32, count x (1 + numbers), on the device)."""
        ids = self.views.draw(count, generator)
        numbers = sum(change.numbers for change in self.changes)
        drawn = generator.random((count, numbers), dtype=np.float32)
        return torch.cat([ids.float()[:, None], torch.from_numpy(drawn).to(ids.device)], dim=1)

    def take(self, position: Tensor, view: Tensor) -> Tensor:
        """The examples at `position` (int64, B) in views that were drawn (B x (1 + numbers)),
        normalised as `Views.take` gives them."""
        sizes = [change.numbers for change in self.changes]
        ids, *drawn = view.split([1, *sizes], dim=1)

        def changed(images: Tensor) -> Tensor:
            for change, numbers in zip(self.changes, drawn, strict=True):
                images = change(images, numbers)
            return images

        return self.views.take(position, ids.squeeze(1).long(), changed)
