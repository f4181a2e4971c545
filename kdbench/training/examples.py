"""Which training images a run learns from, and of which it may see the label."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kdbench.data import few_labels, split
from kdbench.methods.types import NO_LABEL
from kdbench.records.spec import RunSpec
from kdbench.training import seeds
from kdbench.training.context import TrainingContext


@dataclass(frozen=True)
class TrainingExamples:
    """Training images as positions in the training file: `labelled` and `unlabelled` ones to
    learn from, and those that are `held_out` for validation.

    `labels` (images, int64) is `NO_LABEL` for each image whose label the run may not see, so
    that no code after this can read it.
    """

    labelled: Tensor
    unlabelled: Tensor
    held_out: Tensor
    labels: Tensor


def examples_of(spec: RunSpec, context: TrainingContext) -> TrainingExamples:
    """The training images of a run, on the context's device.

    The labelled ones are drawn from what validation leaves, whether or not the images that
    validate are trained on in the end: a final run has no more labels than tuning had.
    """
    data, labels = spec.data, context.data.labels
    fit, held_out = split(labels, data.validation, data.split_seed)
    labelled = few_labels(labels, fit, data.labelled, data.split_seed) if data.labelled else fit
    if data.train_on == "all":
        fit, held_out = torch.arange(len(labels)), held_out[:0]
        labelled = labelled if data.labelled else fit
    hidden = torch.ones(len(labels), dtype=torch.bool)
    hidden[labelled] = False
    unlabelled = fit[hidden[fit]]
    hidden[held_out] = False
    seen = labels.masked_fill(hidden, NO_LABEL)
    parts = labelled, unlabelled, held_out, seen
    return TrainingExamples(*(part.to(context.device) for part in parts))


def balanced_weights(examples: TrainingExamples, classes: int) -> Tensor:
    """A weight for each class (float32) by which all count alike among the labelled examples: their
    number over that of classes times that of the class, as scikit-learn's `balanced`. It is 0 for a
    class that none of them has, which smoothed labels would give the greatest share otherwise."""
    counts = torch.bincount(examples.labels[examples.labelled], minlength=classes)
    weights = len(examples.labelled) / (classes * counts.clamp(min=1)).float()
    return weights * (counts > 0)


@dataclass(frozen=True)
class Steps:
    """The examples of an epoch's steps, one after the other.

    `labelled` holds `size` positions for each of `count` steps, fewer for the last where all
    images have labels; `unlabelled` holds `ratio * size` for each.
    """

    labelled: Tensor
    unlabelled: Tensor
    size: int
    ratio: int

    @property
    def count(self) -> int:
        """How many steps the epoch has; a single last example is left out, since batch
        normalisation and relations need two."""
        return (len(self.labelled) + self.size - 2) // self.size

    def of_labelled(self, step: int, values: Tensor) -> Tensor:
        """Of `values`, one for each labelled example, those of a step."""
        return values[step * self.size : (step + 1) * self.size]

    def of_unlabelled(self, step: int, values: Tensor) -> Tensor:
        """Of `values`, one for each unlabelled example, those of a step."""
        size = self.ratio * self.size
        return values[step * size : (step + 1) * size]


def steps_of(spec: RunSpec, examples: TrainingExamples, epoch: int) -> Steps:
    """The examples of an epoch in a random order, the same for every method of this setting and
    seed: where all have labels, each once. Otherwise each one without a label once, beside
    the labelled ones in passes of whole batches, each pass in an order of its own."""
    labelled, unlabelled = examples.labelled, examples.unlabelled
    if not len(unlabelled):
        order = _shuffled(spec, labelled, "order", epoch)
        return Steps(order, unlabelled, spec.recipe.batch, 0)
    size, ratio = min(spec.recipe.batch, len(labelled)), spec.data.unlabelled
    count = -(-len(unlabelled) // (ratio * size))
    # No batch holds an example twice: a pass ends with its last whole batch.
    per_pass = len(labelled) // size
    passes = [
        _shuffled(spec, labelled, f"order{index}", epoch)[: per_pass * size]
        for index in range(-(-count // per_pass))
    ]
    rest = _shuffled(spec, unlabelled, "unlabelled", epoch)
    return Steps(torch.cat(passes)[: count * size], rest, size, ratio)


def _shuffled(spec: RunSpec, positions: Tensor, purpose: str, epoch: int) -> Tensor:
    order = seeds.stream(spec, purpose, epoch=epoch).permutation(len(positions))
    return positions[torch.from_numpy(order).to(positions.device)]
