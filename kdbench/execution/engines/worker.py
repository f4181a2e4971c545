"""What a worker does: tasks in, messages out. The same code in every engine."""

from collections.abc import Callable
from dataclasses import replace

import torch

from kdbench.data.augment import place_of_images
from kdbench.data.load import TrainingData, load
from kdbench.execution.engines.protocol import (
    CostsMeasured,
    Idle,
    Message,
    Scored,
    Task,
    WorkerSettings,
)
from kdbench.methods import METHODS
from kdbench.methods.layers import layers_of_run
from kdbench.models.source_files import search_sources
from kdbench.records.spec import RunSpec
from kdbench.records.store import Store
from kdbench.training.context import TrainingContext, TrainingJob
from kdbench.training.cost import measure_costs
from kdbench.training.cuda_graphs.graph import can_capture
from kdbench.training.cuda_graphs.pool import GraphPool
from kdbench.training.evaluate import open_test_set_of, score_run
from kdbench.training.events import Failed, cause
from kdbench.training.loop import train_cohort
from kdbench.training.memory import CohortTooLarge, release, trim


class Worker:
    """Runs tasks. It keeps the data and the frozen networks from one task to the next."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.store = Store(settings.root)
        search_sources(settings.root)
        self.device = torch.device(settings.device)
        self.data: TrainingData = load(settings.data_name, settings.data_dir)
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            if self.device.index is not None:  # captures begin with the current device
                torch.cuda.set_device(self.device)
            # A GPU that takes no further process says so now, before there is a task.
            torch.zeros(1, device=self.device)
            # fp32 means float32, not the matrix units' shorter TF32.
            torch.backends.cudnn.allow_tf32 = False
        # Capturing steps as CUDA graphs pays on a GPU alone, and takes images that are there.
        there = place_of_images(self.data.images, self.device) == self.device
        self.graphs = GraphPool() if on_gpu and there and can_capture(self.device) else None
        self.context = TrainingContext(self.store, self.data, self.device)

    def run_task(
        self, task: Task, emit: Callable[[Message], None], stopping: Callable[[], bool]
    ) -> None:
        """Run a task and emit its messages, `Idle` last. An error outside of a run's own code is
        emitted as `Failed` for each run of the task; the worker goes on."""
        try:
            self.context.cached_layers = task.layers_read
            if task.kind == "train":
                self._train([self._job(spec) for spec in task.specs], emit, stopping)
            elif task.kind == "score":
                self._score(task, emit)
            else:
                specs = dict(zip(task.labels, map(self._job, task.specs), strict=True))
                emit(CostsMeasured(measure_costs(specs, task.reference, self.context, stopping)))
        except Exception as error:
            for spec in task.specs:
                emit(Failed(spec.id, cause(error)))
        trim()  # a teacher's steps take more than its students need
        emit(Idle())

    def _train(
        self,
        jobs: list[TrainingJob],
        emit: Callable[[Message], None],
        stopping: Callable[[], bool],
        again: bool = False,
    ) -> None:
        """Train runs together; where they do not fit into memory, one half after the other, and
        a run alone once more (`again`) without what earlier runs have left. A run's numbers do
        not depend on the other runs, so the split changes none."""
        try:
            train_cohort(jobs, self.context, emit, stopping, self.graphs)
        except CohortTooLarge as error:
            kept, reason = error.kept, cause(error.__cause__ or error)
        else:
            return
        # Outside of the handler: the exception holds what filled the memory.
        self.context.release_teachers()
        release()
        unfinished = [
            replace(job, checkpoint=kept[job.spec.id]) for job in jobs if job.spec.id in kept
        ]
        if len(unfinished) == 1:
            (alone,) = unfinished
            if again:
                emit(Failed(alone.spec.id, reason))
            else:
                self._train(unfinished, emit, stopping, again=True)
            return
        middle = len(unfinished) // 2
        for half in (unfinished[:middle], unfinished[middle:]):
            self._train(half, emit, stopping)

    def _score(self, task: Task, emit: Callable[[Message], None]) -> None:
        test = open_test_set_of(self.data, self.settings.data_dir)
        for spec in task.specs:
            scores, arrays = score_run(self.store, spec.id, self.data, test, self.device)
            emit(Scored(spec.id, scores, arrays))

    def _job(self, spec: RunSpec) -> TrainingJob:
        method = METHODS[spec.method](**spec.hparams)

        def model_of(run_id: str) -> str:
            frozen = self.store.record(run_id).spec()
            assert frozen is not None, "a run starts after the runs it freezes"
            return frozen.models["student"]

        layers = layers_of_run(spec, method, model_of, self.data.shape, self.data.classes)
        return TrainingJob(spec, method, layers, self.store.record(spec.id).checkpoint())
