"""What flows between networks and losses: plain frozen records, no behaviour."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kdbench.errors import KdbenchError

#: What `Method.examples` may name: for each example of the batch another one of its class,
#: drawn uniformly among those trained on (now and then itself) in a view of its own; the
#: examples of the batch before, in views of their own (the first batch of all has none
#: before it, and is shown again); each example of the batch mixed with the one before it in
#: the batch, both in view 0: a * x[i] + (1 - a) * x[i - 1], where a of the whole batch is the
#: larger of u and 1 - u, and u uniform in [0, 1); the batch's own examples in strong views, each
#: one of the recipe's augmentation changed by two operations of RandAugment and by Cutout.
SAME_CLASS, PREVIOUS, MIXED, STRONG = "same-class", "previous", "mixed", "strong"


#: A number for each example (batch), from logits (batch x classes) and labels (batch).
Score = Callable[[Tensor, Tensor], Tensor]

#: The label of an example that has none: `torch.nn.functional.cross_entropy` leaves it out.
NO_LABEL = -100


@dataclass(frozen=True)
class Examples:
    """Training examples: `labels` (batch) are class indices, `position` (batch) says which they
    are, as indices into the data set's training file order."""

    labels: Tensor
    position: Tensor


@dataclass(frozen=True)
class Batch:
    """One batch as a loss sees it.

    `images` (batch x channels x height x width) is the first view, normalised;
    `labels` (batch) are class indices, `NO_LABEL` for an example without one, which only
    methods with `Method.unlabelled` get; `position` (batch) says which training
    examples these are, as indices into the data set's training file order;
    `generator` is the only randomness a loss may use. `previous` are the examples of the batch
    before, where the method looks at them (`PREVIOUS`). `label_smoothing` is the share of the
    uniform distribution in the target of every cross-entropy with the labels, and `class_weights`
    (classes) multiply its examples.
    """

    images: Tensor
    labels: Tensor
    position: Tensor
    generator: torch.Generator
    previous: Examples | None = None
    label_smoothing: float = 0.0
    class_weights: Tensor | None = None


class LabelsRead(KdbenchError):
    """A loss reads the label of each image, where images are mixed and have two."""

    def __init__(self) -> None:
        super().__init__(
            "reads the label of each image, and mixed images (recipe.mixup, recipe.cutmix) have two"
        )


@dataclass(frozen=True)
class MixedBatch:
    """One batch of images that are mixed of two. `pairs` are the labels of both (batch each), and
    `share` (no dimension) is that of the first.

    Only `cross_entropy` knows of the labels; whoever reads `labels` gets `LabelsRead`.
    """

    images: Tensor
    pairs: tuple[Tensor, Tensor]
    share: Tensor
    position: Tensor
    generator: torch.Generator
    label_smoothing: float = 0.0
    class_weights: Tensor | None = None

    @property
    def labels(self) -> Tensor:
        raise LabelsRead


@dataclass(frozen=True)
class Shapes:
    """What a method may know before training: sizes, never values.

    `features[role][layer]` is a shape without its batch dimension, `parameters[role][name]`
    that of a network's own parameter that the loss may read (`Output.parameters`); `examples`
    is the number of images in the training file, so `batch.position < examples`.
    """

    classes: int
    examples: int
    features: Mapping[str, Mapping[str, tuple[int, ...]]]
    parameters: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """How far the run is, as shares in [0, 1] of its whole length.

    `epoch` is the share of epochs finished before this one (0 during the first),
    `epoch_end` the share finished when this one ends (1 during the last), `step`
    the share of optimiser steps taken. Each may be a 0-d tensor, so a loss never
    branches on their values in Python.
    """

    epoch: float | Tensor
    epoch_end: float | Tensor
    step: float | Tensor
