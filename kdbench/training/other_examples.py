"""The examples beside each one of an epoch: others of its class, those of the batch before, or
mixtures of two."""

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from kdbench.data import RandomViews, Views
from kdbench.methods.types import MIXED, SAME_CLASS
from kdbench.records.spec import RunSpec
from kdbench.training import seeds
from kdbench.training.examples import TrainingExamples, steps_of

#: The positions of examples, and the view of each; of mixtures the share of the first alone.
Chosen = tuple[Tensor, ...]


def other_examples(
    images: Views | RandomViews,
    spec: RunSpec,
    examples: TrainingExamples,
    epoch: int,
    kinds: Collection[str],
) -> dict[str, Chosen]:
    """For each of `kinds` the example beside each labelled one of the epoch, in the order of its
    batches."""
    now = steps_of(spec, examples, epoch)
    chosen: dict[str, Chosen] = {}
    for kind in kinds:
        stream = seeds.stream(spec, kind, epoch=epoch)
        if kind == MIXED:
            shares = first_shares(stream, len(now.labelled), now.size)
            chosen[kind] = (torch.from_numpy(shares).to(now.labelled.device),)
            continue
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


def first_shares(stream: np.random.Generator, examples: int, size: int) -> np.ndarray:
    """The share of the first of the two images that each example is mixed of, float32: one for
    each batch of `size`, at least a half."""
    drawn = stream.random(-(-examples // size), dtype=np.float32)
    return np.repeat(np.maximum(drawn, 1 - drawn), size)[:examples]


def mixed(images: Tensor, share: Tensor) -> Tensor:
    """Each image times its share (batch), and the one before it times the rest."""
    share = share.view(-1, 1, 1, 1)
    return share * images + (1 - share) * images.roll(1, 0)
