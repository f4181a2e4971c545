"""Images that a recipe mixes with others of their batch: mixup and CutMix.

Each image is mixed with the one before it among the labelled images of its batch, or among the
others, as `MIXED` mixes them. How is drawn once for a batch.
"""

import numpy as np
import torch
from torch import Tensor

from kdbench.records.spec import Recipe


def draw_mixtures(recipe: Recipe, stream: np.random.Generator, steps: int) -> Tensor:
    """The mixture of each step (float32, steps x 4): whether the rest is a rectangle (CutMix, Yun
    et al. 2019) or everywhere (mixup, Zhang et al. 2018), what is left of each image, and the
    middle of the rectangle, y and x in shares of the sides. Where the recipe has both kinds, a
    step has either with the same probability."""
    rows = []
    for _ in range(steps):
        cut, y, x = stream.random(3)
        cut = bool(recipe.cutmix) and (not recipe.mixup or cut < 0.5)
        alpha = recipe.cutmix if cut else recipe.mixup
        share = stream.beta(alpha, alpha)
        # Mixtures of i with j and of j with i are the same; the label of the larger share is
        # the one that training accuracy counts.
        rows.append((float(cut), share if cut else max(share, 1 - share), y, x))
    return torch.tensor(rows, dtype=torch.float32)


def own_share(mixture: Tensor, height: int, width: int) -> Tensor:
    """How much of each pixel is of the image itself (height x width), for one row of
    `draw_mixtures`."""
    cut, share, y, x = mixture.unbind()
    half = (1 - share).sqrt() / 2
    rows, columns = (
        ((torch.arange(size, device=mixture.device) + 0.5) / size - centre).abs() < half
        for size, centre in ((height, y), (width, x))
    )
    outside = ~(rows[:, None] & columns)
    return torch.where(cut > 0, outside.float(), share)


def before(values: Tensor, labelled: int) -> Tensor:
    """For each example the value of the one before it, among the first `labelled` or the rest."""
    return torch.cat([values[:labelled].roll(1, 0), values[labelled:].roll(1, 0)])
