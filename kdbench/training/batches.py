"""The batches that the runs of a cohort share."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from kdbench.data import RandomViews, Views
from kdbench.methods.types import MIXED, PREVIOUS, STRONG, Batch, Examples, MixedBatch, Progress
from kdbench.models.output import Output
from kdbench.records.spec import RunSpec
from kdbench.training import seeds
from kdbench.training.context import TrainingContext
from kdbench.training.examples import TrainingExamples, balanced_weights, steps_of
from kdbench.training.mixtures import before, draw_mixtures, own_share
from kdbench.training.other_examples import Chosen, mixed, other_examples
from kdbench.training.teachers import TeacherNetwork

#: What a network may be shown: view 0, 1, ... of the batch's examples, or other examples.
Input = int | str
#: How the recipe mixes the images of a batch, beside the other examples.
MIXTURE = "mixture"
#: The layers that each teacher network is asked for batch by batch, by what it is shown.
LiveLayers = Mapping[tuple[TeacherNetwork, Input], Sequence[str]]


class SharedBatch:
    """One batch for all runs of a cohort: labels, images by view, and the live outputs of
    teacher networks, each computed when a run first asks for it.

    `known_labels` (images, int64) is `NO_LABEL` where a run may not see the label. `position`
    (batch, int64) says which training images these are, `view_ids` the view of each image
    (batch, int64) for view 0, 1, ..., `others` position and view of each image of other
    examples (`Method.examples`), the shares of mixtures, or the numbers of `strong` views. The
    first `labelled` images have labels. `others` also says how the recipe mixes the images, if it
    does.
    """

    def __init__(
        self,
        views: Views | RandomViews,
        known_labels: Tensor,
        position: Tensor,
        view_ids: Sequence[Tensor],
        live_layers: LiveLayers,
        progress: Progress,
        others: Mapping[str, Chosen],
        labelled: int,
        strong: RandomViews,
        class_weights: Tensor | None,
    ) -> None:
        self.views, self.strong, self.class_weights = views, strong, class_weights
        self.known_labels = known_labels
        self.position = position
        self.view_ids = view_ids
        self.live_layers = live_layers
        self.progress = progress
        self.others = others
        self.labelled = labelled
        self._labels: Tensor | None = None
        self._images: dict[Input, Tensor] = {}
        self._live: dict[tuple[TeacherNetwork, Input], Output] = {}

    def __len__(self) -> int:
        return len(self.position)

    def fresh(self) -> "SharedBatch":
        """The same batch, with nothing computed yet."""
        return self._with(self.position, self.view_ids, self.others)

    def copied(self) -> "SharedBatch":
        """The same batch in tensors of its own, which later batches may be copied into."""
        tensors = self.position.clone(), [each.clone() for each in self.view_ids]
        others = {kind: tuple(t.clone() for t in of) for kind, of in self.others.items()}
        return self._with(*tensors, others)

    def _with(
        self, position: Tensor, view_ids: Sequence[Tensor], others: Mapping[str, Chosen]
    ) -> "SharedBatch":
        return SharedBatch(
            self.views,
            self.known_labels,
            position,
            view_ids,
            self.live_layers,
            self.progress,
            others,
            self.labelled,
            self.strong,
            self.class_weights,
        )

    def release(self) -> None:
        """Drop what was computed: an epoch's images together would fill the memory."""
        self._labels = None
        self._images.clear()
        self._live.clear()

    @property
    def labels(self) -> Tensor:
        """batch, int64; `NO_LABEL` for the examples after the first `labelled`."""
        if self._labels is None:
            self._labels = self.known_labels[self.position]
        return self._labels

    def images(self, shown: Input) -> Tensor:
        """batch x channels x height x width, normalised, and mixed where the recipe says so."""
        if shown not in self._images:
            images = self._unmixed(shown)
            if MIXTURE in self.others:
                share = self._own_share(images)
                images = share * images + (1 - share) * before(images, self.labelled)
            self._images[shown] = images
        return self._images[shown]

    def _unmixed(self, shown: Input) -> Tensor:
        if shown == MIXED:
            return mixed(self.images(0), *self.others[MIXED])
        if shown == STRONG:
            return self.strong.take(self.position, self.others[STRONG][0])
        if isinstance(shown, int):
            return self.views.take(self.position, self.view_ids[shown])
        position, view = self.others[shown]
        return self.views.take(position, view)

    def _own_share(self, images: Tensor) -> Tensor:
        return own_share(self.others[MIXTURE][0], *images.shape[2:])

    def of_loss(self, generator: torch.Generator, label_smoothing: float) -> Batch | MixedBatch:
        """The batch as a loss sees it."""
        images, labels, position = self.images(0), self.labels, self.position
        recipe = label_smoothing, self.class_weights
        if MIXTURE not in self.others:
            return Batch(images, labels, position, generator, self.previous(), *recipe)
        pair, share = (labels, before(labels, self.labelled)), self._own_share(images).mean()
        return MixedBatch(images, pair, share, position, generator, *recipe)

    def previous(self) -> Examples | None:
        """The examples of the batch before, where a run looks at them."""
        if PREVIOUS not in self.others:
            return None
        position, _ = self.others[PREVIOUS]
        return Examples(self.known_labels[position], position)

    def live(self, teacher: TeacherNetwork, shown: Input = 0) -> Output:
        """A teacher network's outputs on what it is shown, with every layer that a run asked
        for: one forward a batch for the whole cohort."""
        asked = teacher, shown
        if asked not in self._live:
            self._live[asked] = teacher.live(self.images(shown), self.live_layers[asked])
        return self._live[asked]


def epoch_batches(
    context: TrainingContext,
    spec: RunSpec,
    examples: TrainingExamples,
    epoch: int,
    inputs: Collection[Input] = (0,),
    live_layers: LiveLayers | None = None,
    unlabelled: bool = False,
) -> list[SharedBatch]:
    """The batches of an epoch, the same for every method of this setting and seed.

    Views are drawn up to the last in `inputs`, and the other examples that it names. With
    `unlabelled` each batch has those without labels after its labelled examples, which are the
    same with and without.
    """
    images, steps = context.training_views(spec), steps_of(spec, examples, epoch)
    strong = context.strong_views(spec.data.augment)
    balanced = spec.recipe.class_weights == "balanced"
    weights = balanced_weights(examples, context.data.classes) if balanced else None
    rest = steps.unlabelled if unlabelled else steps.unlabelled[:0]
    shown = range(1 + max(shown for shown in inputs if isinstance(shown, int)))

    def draw(of: Views | RandomViews, purpose: str) -> tuple[Tensor, Tensor]:
        """A view of each labelled example of the epoch, and of each of the rest."""
        counts = {purpose: len(steps.labelled), f"unlabelled-{purpose}": len(rest)}
        first, second = (
            of.draw(count, seeds.stream(spec, stream, epoch=epoch))
            for stream, count in counts.items()
        )
        return first, second

    views = [draw(images, f"views{view}") for view in shown]
    kinds = {shown for shown in inputs if isinstance(shown, str)}
    others = other_examples(images, spec, examples, epoch, kinds - {STRONG})
    strong_views = draw(strong, STRONG) if STRONG in kinds else None

    mixtures = None
    if spec.recipe.mixes:
        stream = seeds.stream(spec, MIXTURE, epoch=epoch)
        mixtures = draw_mixtures(spec.recipe, stream, steps.count).to(context.device)

    def progress(step: int) -> Progress:
        epochs, now = spec.recipe.epochs, epoch + step / steps.count
        return Progress(epoch / epochs, (epoch + 1) / epochs, now / epochs)

    def together(step: int, labelled: Tensor, without: Tensor) -> Tensor:
        mine = steps.of_labelled(step, labelled)
        return torch.cat([mine, steps.of_unlabelled(step, without)]) if unlabelled else mine

    def of_step(step: int) -> dict[str, Chosen]:
        chosen: dict[str, Chosen] = {
            kind: tuple(steps.of_labelled(step, tensor) for tensor in of)
            for kind, of in others.items()
        }
        if MIXED in chosen:
            (share,) = chosen[MIXED]
            chosen[MIXED] = (share[:1].repeat(len(together(step, steps.labelled, rest))),)
        if strong_views is not None:
            chosen[STRONG] = (together(step, *strong_views),)
        if mixtures is not None:
            chosen[MIXTURE] = (mixtures[step],)
        return chosen

    return [
        SharedBatch(
            images,
            examples.labels,
            together(step, steps.labelled, rest),
            [together(step, *pair) for pair in views],
            live_layers or {},
            progress(step),
            of_step(step),
            len(steps.of_labelled(step, steps.labelled)),
            strong,
            weights,
        )
        for step in range(steps.count)
    ]
