"""Random changes of images: RandAugment, AutoAugment, Cutout and random erasing.

Each takes images in [0, 1] (B x channels x height x width) and uniform numbers in [0, 1), of which
it uses a few for each image (B x `numbers`), and draws none itself. What is constant stays on the
device, as a step that is captured may copy nothing to a GPU.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from kdbench.data.operations import OPERATIONS, apply


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


NAMES = tuple(OPERATIONS)
#: AutoAugment's operations and their amounts at its magnitudes 0 and 9: counted to both sides of
#: a neutral amount, or, where that is None, as they stand.
MAGNITUDES: dict[str, tuple[str, float | None, float, float]] = {
    "ShearX": ("shear-x", 0, 0, 0.3),
    "ShearY": ("shear-y", 0, 0, 0.3),
    "TranslateX": ("translate-x", 0, 0, 150 / 331),
    "TranslateY": ("translate-y", 0, 0, 150 / 331),
    "Rotate": ("rotate", 0, 0, 30),
    "Brightness": ("brightness", 1, 0, 0.9),
    "Color": ("color", 1, 0, 0.9),
    "Contrast": ("contrast", 1, 0, 0.9),
    "Sharpness": ("sharpness", 1, 0, 0.9),
    "Posterize": ("posterize", None, 8, 4),
    "Solarize": ("solarize", None, 1, 0),
    "AutoContrast": ("autocontrast", None, 0, 0),
    "Equalize": ("equalize", None, 0, 0),
    "Invert": ("invert", None, 0, 0),
}


@dataclass(frozen=True)
class AutoAugment:
    """One of the 25 pairs of operations that Cubuk et al. 2019 found for CIFAR-10, as torchvision
    lists them: each of the two with its probability and amount, and with a random sign."""

    numbers: int = 5

    def __call__(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Change each image."""
        which, low, high, chances = _autoaugment_table(images.device)
        pair = (drawn[:, 0] * len(which)).long()
        for step in range(2):
            chance, sign = drawn[:, 1 + 2 * step], drawn[:, 2 + 2 * step]
            chosen = which[pair, step].masked_fill(chance >= chances[pair, step], -1)
            amounts = torch.where(sign < 0.5, low[pair, step], high[pair, step])
            images = apply(NAMES, chosen, images, amounts)
        return images


@cache
def _autoaugment_table(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of both operations of each pair (25 x 2): index, amounts with either sign, probability."""

    def row(name: str, probability: float, magnitude: int | None) -> tuple[float, ...]:
        operation, neutral, first, last = MAGNITUDES[name]
        amount = first + (last - first) * (magnitude or 0) / 9
        index = float(NAMES.index(operation))
        if neutral is None:
            return index, amount, amount, probability
        return index, neutral - amount, neutral + amount, probability

    from torchvision.transforms import AutoAugment as Torchvision
    from torchvision.transforms import AutoAugmentPolicy

    policies = Torchvision(AutoAugmentPolicy.CIFAR10).policies
    rows = torch.tensor([[row(*operation) for operation in pair] for pair in policies])
    which, low, high, chances = rows.to(device).unbind(2)
    return which.long(), low, high, chances


@dataclass(frozen=True)
class Erasing:
    """With a probability a rectangle of 2 to 33 % of the image becomes the data set's mean colour
    (Zhong et al. 2020, as torchvision has it); its sides are at a ratio of 0.3 to 3.3."""

    probability: float
    mean: tuple[float, ...]
    numbers: int = 5

    def __call__(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Erase a part of each image that is chosen."""
        chance, area, ratio, y, x = drawn.unbind(1)
        height, width = images.shape[2:]
        area = 0.02 + 0.31 * area
        # High over wide in pixels, then as shares of the sides: none is longer than the image.
        aspect = torch.exp(math.log(0.3) + math.log(11) * ratio) * width / height
        high, wide = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
        rows = _inside(height, high / 2 + y * (1 - high), high)
        columns = _inside(width, wide / 2 + x * (1 - wide), wide)
        erased = rows[:, None, :, None] & columns[:, None, None, :]
        erased = erased & (chance < self.probability).view(-1, 1, 1, 1)
        return torch.where(erased, _colour(self.mean, images.device), images)


@cache
def _colour(mean: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(mean, device=device).view(1, -1, 1, 1)


#: What a recipe may name, beside the finite views of the data.
POLICIES: dict[str, tuple[Change, ...]] = {
    "none": (),
    "randaugment": (RandAugment(),),
    "autoaugment": (AutoAugment(),),
}
