"""The batches that the runs of a cohort share."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from kdbench.data import Views, split
from kdbench.methods.types import MIXED, PREVIOUS, Examples, Progress
from kdbench.models.output import Output
from kdbench.records.spec import RunSpec
from kdbench.training import seeds
from kdbench.training.context import TrainingContext
from kdbench.training.other_examples import Chosen, mixed, other_examples, shuffled
from kdbench.training.teachers import TeacherNetwork

#: What a network may be shown: view 0, 1, ... of the batch's examples, or other examples.
Input = int | str
#: The layers that each teacher network is asked for batch by batch, by what it is shown.
LiveLayers = Mapping[tuple[TeacherNetwork, Input], Sequence[str]]


class SharedBatch:
    """One batch for all runs of a cohort: labels, images by view, and the live outputs of
    teacher networks, each computed when a run first asks for it.

    `position` (batch, int64) says which training images these are, `view_ids` the view of
    each image (batch, int64) for view 0, 1, ..., `others` position and view of each image of
    other examples (`Method.examples`), or the shares of mixtures.
    """

    def __init__(
        self,
        views: Views,
        position: Tensor,
        view_ids: Sequence[Tensor],
        live_layers: LiveLayers,
        progress: Progress,
        others: Mapping[str, Chosen] = MappingProxyType({}),
    ) -> None:
        self.views = views
        self.position = position
        self.view_ids = view_ids
        self.live_layers = live_layers
        self.progress = progress
        self.others = others
        self._labels: Tensor | None = None
        self._images: dict[Input, Tensor] = {}
        self._live: dict[tuple[TeacherNetwork, Input], Output] = {}

    def __len__(self) -> int:
        return len(self.position)

    def fresh(self) -> "SharedBatch":
        """The same batch, with nothing computed yet."""
        tensors = self.position, self.view_ids
        return SharedBatch(self.views, *tensors, self.live_layers, self.progress, self.others)

    def copied(self) -> "SharedBatch":
        """The same batch in tensors of its own, which later batches may be copied into."""
        tensors = self.position.clone(), [each.clone() for each in self.view_ids]
        others = {kind: tuple(t.clone() for t in of) for kind, of in self.others.items()}
        return SharedBatch(self.views, *tensors, self.live_layers, self.progress, others)

    def release(self) -> None:
        """Drop what was computed: an epoch's images together would fill the memory."""
        self._labels = None
        self._images.clear()
        self._live.clear()

    @property
    def labels(self) -> Tensor:
        """batch, int64."""
        if self._labels is None:
            self._labels = self.views.labels[self.position]
        return self._labels

    def images(self, shown: Input) -> Tensor:
        """batch x channels x height x width, normalised."""
        if shown not in self._images:
            if shown == MIXED:
                self._images[shown] = mixed(self.images(0), *self.others[MIXED])
            elif isinstance(shown, int):
                self._images[shown] = self.views.take(self.position, self.view_ids[shown])
            else:
                self._images[shown] = self.views.take(*self.others[shown])
        return self._images[shown]

    def previous(self) -> Examples | None:
        """The examples of the batch before, where a run looks at them."""
        if PREVIOUS not in self.others:
            return None
        position, _ = self.others[PREVIOUS]
        return Examples(self.views.labels[position], position)

    def live(self, teacher: TeacherNetwork, shown: Input = 0) -> Output:
        """A teacher network's outputs on what it is shown, with every layer that a run asked
        for: one forward a batch for the whole cohort."""
        asked = teacher, shown
        if asked not in self._live:
            self._live[asked] = teacher.live(self.images(shown), self.live_layers[asked])
        return self._live[asked]


def training_positions(spec: RunSpec, context: TrainingContext) -> tuple[Tensor, Tensor]:
    """What a run trains on and what it is validated on, as positions in the training file."""
    fit, held_out = split(context.data.labels, spec.data.validation, spec.data.split_seed)
    if spec.data.train_on == "all":
        fit, held_out = torch.arange(len(context.data.labels)), held_out[:0]
    return fit.to(context.device), held_out.to(context.device)


def epoch_batches(
    context: TrainingContext,
    spec: RunSpec,
    fit: Tensor,
    epoch: int,
    inputs: Collection[Input] = (0,),
    live_layers: LiveLayers | None = None,
) -> list[SharedBatch]:
    """The batches of an epoch, the same for every method of this setting and seed.

    Views are drawn up to the last in `inputs`, and the other examples that it names. The last
    batch is as large as what is left; one single example is left out, since batch normalisation
    and relations need two.
    """
    images = context.views(spec.data.augment)
    positions = shuffled(spec, fit, epoch)
    view_ids = [
        images.draw(len(fit), seeds.stream(spec, f"views{view}", epoch=epoch))
        for view in range(1 + max(shown for shown in inputs if isinstance(shown, int)))
    ]
    others = other_examples(context, spec, fit, epoch, [o for o in inputs if isinstance(o, str)])
    size, epochs = spec.recipe.batch, spec.recipe.epochs
    starts = [start for start in range(0, len(positions), size) if start + 1 < len(positions)]
    return [
        SharedBatch(
            images,
            positions[start : start + size],
            [ids[start : start + size] for ids in view_ids],
            live_layers or {},
            Progress(epoch / epochs, (epoch + 1) / epochs, (epoch + step / len(starts)) / epochs),
            {
                kind: tuple(tensor[start : start + size] for tensor in chosen)
                for kind, chosen in others.items()
            },
        )
        for step, start in enumerate(starts)
    ]
