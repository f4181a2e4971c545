"""The examples beside each one of an epoch: others of its class, or those of the batch before."""

from collections.abc import Collection

import torch
from torch import Tensor

from kdbench.data import Views
from kdbench.methods.types import SAME_CLASS
from kdbench.records.spec import RunSpec
from kdbench.training import seeds
from kdbench.training.examples import TrainingExamples, steps_of

#: The positions of examples, and the view of each.
Chosen = tuple[Tensor, Tensor]


def other_examples(
    images: Views, spec: RunSpec, examples: TrainingExamples, epoch: int, kinds: Collection[str]
) -> dict[str, Chosen]:
    """For each of `kinds` the example beside each labelled one of the epoch, in the order of its
    batches."""
    now = steps_of(spec, examples, epoch)
    chosen = {}
    for kind in kinds:
        stream = seeds.stream(spec, kind, epoch=epoch)
        if kind == SAME_CLASS:
            share = torch.from_numpy(stream.random(len(now.labelled))).to(now.labelled.device)
            position = of_same_class(examples.labels, now.labelled, share)
        else:
            before = steps_of(spec, examples, epoch - 1) if epoch else None
            last = before.labelled[-now.size :] if before else now.labelled[: now.size]
            # The first batch is shown the end of the epoch before; in the first epoch, itself.
            position = torch.cat([last, now.labelled])[: len(now.labelled)]
        chosen[kind] = position, images.draw(len(position), stream)
    return chosen


def of_same_class(labels: Tensor, positions: Tensor, share: Tensor) -> Tensor:
    """For each of `positions` one of the same class among them; `share`, uniform in [0, 1), says
    which."""
    own = labels[positions]
    by_class = positions[own.argsort(stable=True)]
    counts = torch.bincount(own)
    first = counts.cumsum(0) - counts
    return by_class[first[own] + (share * counts[own]).long()]
