"""What the runs of a worker share, and what a run to train is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from kdbench.data import Views
from kdbench.data.load import TrainingData
from kdbench.methods.base import Method
from kdbench.records.spec import RunSpec
from kdbench.records.store import Store
from kdbench.training.teachers import TeacherNetwork

if TYPE_CHECKING:
    from kdbench.training.cuda_graphs.pool import GraphPool


@dataclass(frozen=True)
class TrainingJob:
    """A run to train: its spec, its method, the layers the method reads, and where it stopped."""

    spec: RunSpec
    method: Method
    layers: tuple[str, ...]
    checkpoint: bytes | None = None


@dataclass
class TrainingContext:
    """Where cohorts run: the store, the training images, a device, and the frozen
    networks that have been loaded so far.

    `recorded` has steps recorded and replayed, which pays on a GPU (see `capture`);
    `captured` are the recordings of the last cohort.
    """

    store: Store
    data: TrainingData
    device: torch.device
    recorded: bool = False
    _views: dict[str, Views] = field(default_factory=dict)
    #: What the study as a whole reads from the tables of each frozen run.
    read: Mapping[str, Sequence[str]] = field(default_factory=dict)
    captured: "GraphPool | None" = None
    _frozen: dict[tuple[str, str, str, str], TeacherNetwork] = field(default_factory=dict)

    def views(self, augment: str) -> Views:
        """The training images on the device under an augmentation."""
        if augment not in self._views:
            self._views[augment] = Views(self.data, augment, self.device)
        return self._views[augment]

    def teacher(self, spec: RunSpec, role: str) -> TeacherNetwork:
        """The finished run that fills a role of `spec`, as a source of outputs."""
        run_id, augment, storage = spec.frozen_runs[role], spec.data.augment, spec.recipe.storage
        key = (run_id, spec.frozen_epoch, augment, storage)
        if key not in self._frozen:
            self._frozen[key] = TeacherNetwork(
                self.store, run_id, spec.frozen_epoch, self.data, self.views(augment), storage
            )
        return self._frozen[key]

    def forget(self) -> None:
        """Let go of the frozen networks, their tables and what was recorded with them; they
        are loaded again when asked for."""
        self._frozen.clear()
        if self.captured:
            self.captured.forget()
