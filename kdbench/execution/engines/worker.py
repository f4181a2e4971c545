"""What a worker does: tasks in, messages out. The same code in every engine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdbench.data.load import TrainingData, load
from kdbench.methods import METHODS
from kdbench.methods.layers import layers_of_run
from kdbench.records.spec import RunSpec
from kdbench.records.store import Store
from kdbench.training.context import TrainingContext, TrainingJob
from kdbench.training.cost import measure_costs
from kdbench.training.cuda_graphs.recording import can_record
from kdbench.training.evaluate import open_test_set_of, score_run
from kdbench.training.events import Event, Failed, cause
from kdbench.training.loop import train_cohort
from kdbench.training.memory import CohortTooLarge, release, trim


@dataclass(frozen=True)
class Place:
    """Where a worker finds things and what it computes on."""

    root: Path
    data_name: str
    data_dir: Path | None
    device: str


@dataclass(frozen=True)
class Task:
    """`train` a cohort of specs, `score` finished runs, or `measure_costs` costs of specs.

    `labels` names the specs of a calibration; `reference` is the one all are held against.
    `read` says which layers the study as a whole reads from the tables of each frozen run.
    """

    kind: str
    specs: tuple[RunSpec, ...]
    labels: tuple[str, ...] = ()
    reference: str = ""
    read: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """The test scores of a run, to be written once."""

    id: str
    test: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(repr=False)


@dataclass(frozen=True)
class CostsMeasured:
    """The cost of each label: see `measure_costs`."""

    rows: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Idle:
    """The task is over."""


@dataclass(frozen=True)
class Lost:
    """The worker was killed over a cohort: for its memory, most likely, so that fewer runs
    together may go well."""

    specs: tuple[RunSpec, ...]
    message: str


Message = Event | Scored | CostsMeasured | Idle | Lost


class Worker:
    """Carries out tasks. Keeps the data and the frozen networks from task to task."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.store = Store(place.root)
        self.device = torch.device(place.device)
        self.data: TrainingData = load(place.data_name, place.data_dir)
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            # fp32 means float32, not the matrix units' shorter TF32.
            torch.backends.cudnn.allow_tf32 = False
        recorded = on_gpu and can_record(self.device)
        self.bench = TrainingContext(self.store, self.data, self.device, recorded)

    def carry_out(
        self, task: Task, say: Callable[[Message], None], stopping: Callable[[], bool]
    ) -> None:
        """Do one task; a fault of the task as a whole fails its runs, never the worker."""
        try:
            self.bench.read = task.read
            if task.kind == "train":
                self._train([self._job(spec) for spec in task.specs], say, stopping)
            elif task.kind == "score":
                self._score(task, say)
            else:
                specs = dict(zip(task.labels, map(self._job, task.specs), strict=True))
                say(CostsMeasured(measure_costs(specs, task.reference, self.bench, stopping)))
        except Exception as error:
            for spec in task.specs:
                say(Failed(spec.id, cause(error)))
        trim()  # a teacher's steps take more than its students need
        say(Idle())

    def _train(
        self, jobs: list[TrainingJob], say: Callable[[Message], None], stopping: Callable[[], bool]
    ) -> None:
        """Train a cohort; where it does not fit into memory, in two halves one after the
        other. A run's numbers do not depend on its company, so the split changes none."""
        try:
            train_cohort(jobs, self.bench, say, stopping)
        except CohortTooLarge as error:
            kept = error.kept
        else:
            return
        # Out of the handler, which would hold what filled the memory.
        self.bench.forget()
        release()
        left = [replace(job, checkpoint=kept[job.spec.id]) for job in jobs if job.spec.id in kept]
        middle = len(left) // 2
        for half in (left[:middle], left[middle:]):
            self._train(half, say, stopping)

    def _score(self, task: Task, say: Callable[[Message], None]) -> None:
        test = open_test_set_of(self.data, self.place.data_dir)
        for spec in task.specs:
            scores, arrays = score_run(self.store, spec.id, self.data, test, self.device)
            say(Scored(spec.id, scores, arrays))

    def _job(self, spec: RunSpec) -> TrainingJob:
        method = METHODS[spec.method](**spec.hparams)

        def model_of(run_id: str) -> str:
            frozen = self.store.record(run_id).spec()
            assert frozen is not None, "a run starts after the runs it freezes"
            return frozen.models["student"]

        layers = layers_of_run(spec, method, model_of, self.data.shape, self.data.classes)
        return TrainingJob(spec, method, layers, self.store.record(spec.id).checkpoint())
