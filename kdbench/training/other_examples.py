"""The examples beside each one of an epoch: others of its class, those of the batch before, or
mixtures of two."""

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from kdbench.methods.types import MIXED, SAME_CLASS
from kdbench.records.spec import RunSpec
from kdbench.training import seeds
from kdbench.training.context import TrainingContext

#: The positions of examples, and the view of each; of mixtures the share of the first alone.
Chosen = tuple[Tensor, ...]


def shuffled(spec: RunSpec, fit: Tensor, epoch: int) -> Tensor:
    """The positions of an epoch in the order of its batches."""
    order = seeds.stream(spec, "order", epoch=epoch).permutation(len(fit))
    return fit[torch.from_numpy(order).to(fit.device)]


def other_examples(
    context: TrainingContext, spec: RunSpec, fit: Tensor, epoch: int, kinds: Collection[str]
) -> dict[str, Chosen]:
    """For each of `kinds` the example beside each one of the epoch, in the order of its batches."""
    images = context.views(spec.data.augment)
    chosen: dict[str, Chosen] = {}
    for kind in kinds:
        stream = seeds.stream(spec, kind, epoch=epoch)
        if kind == MIXED:
            shares = first_shares(stream, len(fit), spec.recipe.batch)
            chosen[kind] = (torch.from_numpy(shares).to(fit.device),)
            continue
        if kind == SAME_CLASS:
            share = torch.from_numpy(stream.random(len(fit))).to(fit.device)
            position = of_same_class(images.labels, shuffled(spec, fit, epoch), share)
        else:
            position = of_batch_before(spec, fit, epoch)
        chosen[kind] = position, images.draw(len(fit), stream)
    return chosen


def of_same_class(labels: Tensor, positions: Tensor, share: Tensor) -> Tensor:
    """For each of `positions` one of the same class among them; `share`, uniform in [0, 1), says
    which."""
    own = labels[positions]
    by_class = positions[own.argsort(stable=True)]
    counts = torch.bincount(own)
    first = counts.cumsum(0) - counts
    return by_class[first[own] + (share * counts[own]).long()]


def of_batch_before(spec: RunSpec, fit: Tensor, epoch: int) -> Tensor:
    """The positions of the epoch, one batch late: its first batch is shown the end of the epoch
    before, and in the first epoch itself."""
    now, size = shuffled(spec, fit, epoch), spec.recipe.batch
    before = shuffled(spec, fit, epoch - 1)[-size:] if epoch else now[:size]
    return torch.cat([before, now])[: len(fit)]


def first_shares(stream: np.random.Generator, examples: int, size: int) -> np.ndarray:
    """The share of the first of the two images that each example is mixed of, float32: one for
    each batch of `size`, at least a half."""
    drawn = stream.random(-(-examples // size), dtype=np.float32)
    return np.repeat(np.maximum(drawn, 1 - drawn), size)[:examples]


def mixed(images: Tensor, share: Tensor) -> Tensor:
    """Each image times its share (batch), and the one before it times the rest."""
    share = share.view(-1, 1, 1, 1)
    return share * images + (1 - share) * images.roll(1, 0)
