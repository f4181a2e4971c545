"""The examples beside each one of an epoch: others of its class, or those of the batch before."""

from collections.abc import Collection

import torch
from torch import Tensor

from kdbench.methods.types import SAME_CLASS
from kdbench.records.spec import RunSpec
from kdbench.training import seeds
from kdbench.training.context import TrainingContext

#: The positions of examples, and the view of each.
Chosen = tuple[Tensor, Tensor]


def shuffled(spec: RunSpec, fit: Tensor, epoch: int) -> Tensor:
    """The positions of an epoch in the order of its batches."""
    order = seeds.stream(spec, "order", epoch=epoch).permutation(len(fit))
    return fit[torch.from_numpy(order).to(fit.device)]


def other_examples(
    context: TrainingContext, spec: RunSpec, fit: Tensor, epoch: int, kinds: Collection[str]
) -> dict[str, Chosen]:
    """For each of `kinds` the example beside each one of the epoch, in the order of its batches."""
    images = context.views(spec.data.augment)
    chosen = {}
    for kind in kinds:
        stream = seeds.stream(spec, kind, epoch=epoch)
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
