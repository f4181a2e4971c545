"""What the runs of a worker share, and what a run to train is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from kdbench.data import RandomViews, TrainingData, Views
from kdbench.data.augment import place_of_images
from kdbench.data.changes import POLICIES, STRONG_CHANGES, Change, Erasing
from kdbench.methods.base import Method
from kdbench.records.spec import RunSpec
from kdbench.records.store import Store
from kdbench.training.teachers import TeacherNetwork


@dataclass(frozen=True)
class TrainingJob:
    """A run to train: its spec, its method, the layers whose features the method reads, and
    the checkpoint that it goes on from."""

    spec: RunSpec
    method: Method
    layers: tuple[str, ...]
    checkpoint: bytes | None = None


@dataclass
class TrainingContext:
    """What every run of a worker uses: the store, the training images, a device, and the
    teacher networks that have been loaded so far.

    `cached_layers` are the layers that the study as a whole reads from the cached outputs of
    each frozen run.
    """

    store: Store
    data: TrainingData
    device: torch.device
    cached_layers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    _placed: TrainingData | None = None
    _views: dict[str, Views] = field(default_factory=dict)
    _teachers: dict[tuple[str, str, str, str], TeacherNetwork] = field(default_factory=dict)

    def views(self, augment: str) -> Views:
        """The training images on the device under an augmentation."""
        if augment not in self._views:
            if self._placed is None:  # all views read the same images: a GPU has them once
                images = self.data.images
                place = place_of_images(images, self.device)
                self._placed = replace(self.data, images=images.to(place))
            self._views[augment] = Views(self._placed, augment, self.device)
        return self._views[augment]

    def training_views(self, spec: RunSpec) -> Views | RandomViews:
        """The training images as the recipe of a run changes them."""
        views, recipe = self.views(spec.data.augment), spec.recipe
        changes: tuple[Change, ...] = POLICIES[recipe.augment]
        if recipe.erasing:
            changes = (*changes, Erasing(recipe.erasing, self.data.mean))
        return RandomViews(views, changes) if changes else views

    def strong_views(self, augment: str) -> RandomViews:
        """The training images under an augmentation, changed further at random."""
        return RandomViews(self.views(augment), STRONG_CHANGES)

    def teacher(self, spec: RunSpec, role: str) -> TeacherNetwork:
        """The finished run that fills a frozen role of `spec`, as a source of outputs."""
        run_id, augment, storage = spec.frozen_runs[role], spec.data.augment, spec.recipe.storage
        key = (run_id, spec.frozen_epoch, augment, storage)
        if key not in self._teachers:
            self._teachers[key] = TeacherNetwork(
                self.store, run_id, spec.frozen_epoch, self.data, self.views(augment), storage
            )
        return self._teachers[key]

    def release_teachers(self) -> None:
        """Drop the teacher networks and their cached outputs; each is loaded again when it is
        next needed."""
        self._teachers.clear()
