"""What the runs of a cohort share: the bench they train at, and each batch."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdbench.data import Views
from kdbench.data.load import split
from kdbench.methods.types import Progress
from kdbench.models.output import Output
from kdbench.records.spec import RunSpec
from kdbench.training import seeds
from kdbench.training.context import TrainingContext
from kdbench.training.teachers import TeacherNetwork

if TYPE_CHECKING:
    from kdbench.training.run import TrainingRun


class SharedBatch:
    """One batch, shared: labels, images by view, and the frozen outputs, each made when
    somebody asks for it first."""

    def __init__(
        self,
        views: Views,
        position: Tensor,
        view_ids: Sequence[Tensor],
        asked: Mapping[int, Sequence[str]],
        progress: Progress,
    ) -> None:
        self.views = views
        self.position = position
        self.view_ids = view_ids
        self.asked = asked
        self.progress = progress
        self._labels: Tensor | None = None
        self._images: dict[int, Tensor] = {}
        self._live: dict[int, Output] = {}

    def __len__(self) -> int:
        return len(self.position)

    def again(self) -> "SharedBatch":
        """The same batch, with nothing computed yet."""
        return SharedBatch(self.views, self.position, self.view_ids, self.asked, self.progress)

    def copied(self) -> "SharedBatch":
        """The same batch in tensors of its own, which later batches may be copied into."""
        ids = [each.clone() for each in self.view_ids]
        return SharedBatch(self.views, self.position.clone(), ids, self.asked, self.progress)

    def release(self) -> None:
        """Let go of what was computed: an epoch's images together would fill the memory."""
        self._labels = None
        self._images.clear()
        self._live.clear()

    @property
    def labels(self) -> Tensor:
        """batch, int64."""
        if self._labels is None:
            self._labels = self.views.labels[self.position]
        return self._labels

    def images(self, view: int) -> Tensor:
        """batch x channels x height x width, normalised."""
        if view not in self._images:
            self._images[view] = self.views.take(self.position, self.view_ids[view])
        return self._images[view]

    def live(self, network: TeacherNetwork) -> Output:
        """The frozen network's outputs on view 0, with every layer that a member asked for:
        one forward a batch for the whole cohort."""
        if id(network) not in self._live:
            layers = self.asked[id(network)]
            self._live[id(network)] = network.live(self.images(0), layers)
        return self._live[id(network)]


def training_positions(spec: RunSpec, bench: TrainingContext) -> tuple[Tensor, Tensor]:
    """What a run trains on and what it is validated on, as positions in the training file."""
    fit, held_out = split(bench.data.labels, spec.data.validation, spec.data.split_seed)
    if spec.data.train_on == "all":
        fit, held_out = torch.arange(len(bench.data.labels)), held_out[:0]
    return fit.to(bench.device), held_out.to(bench.device)


def epoch_batches(
    bench: TrainingContext, fit: Tensor, epoch: int, members: Sequence["TrainingRun"]
) -> list[SharedBatch]:
    """The batches of an epoch, the same for every method of this setting and seed.

    The last batch is as large as what is left; one single example is left out, since
    batch normalisation and relations need two.
    """
    spec = members[0].spec
    views = bench.views(spec.data.augment)
    order = seeds.stream(spec, "order", epoch=epoch).permutation(len(fit))
    positions = fit[torch.from_numpy(order).to(fit.device)]
    looks = 1 + max((v for m in members for v in m.method.views.values()), default=0)
    drawn = [
        views.draw(len(fit), seeds.stream(spec, f"views{k}", epoch=epoch)) for k in range(looks)
    ]
    asked: dict[int, tuple[str, ...]] = {}
    for member in members:
        for network, from_table in member.teachers.values():
            if not from_table:
                known = asked.get(id(network), ())
                asked[id(network)] = tuple(sorted({*known, *member.job.layers}))
    size, epochs = spec.recipe.batch, spec.recipe.epochs
    starts = [start for start in range(0, len(positions), size) if start + 1 < len(positions)]
    return [
        SharedBatch(
            views,
            positions[start : start + size],
            [ids[start : start + size] for ids in drawn],
            asked,
            Progress(epoch / epochs, (epoch + 1) / epochs, (epoch + step / len(starts)) / epochs),
        )
        for step, start in enumerate(starts)
    ]
