"""A small world to train in: 130 real digits, a student with everything that can go wrong.

The student has dropout and batch normalisation, so a wrong mode, a stray random number or
a forgotten buffer changes its numbers. The images are drawn flipped or not, so frozen
networks run live and roles with a view of their own get one.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kdbench.data import TrainingData
from kdbench.methods import METHODS, Method
from kdbench.records.spec import RunSpec
from kdbench.records.store import Store
from kdbench.study.compatibility import method_shapes
from kdbench.study.plan import Node
from kdbench.study.planner import Planner
from kdbench.study.schema import Entry, Study
from kdbench.study.validation import slots_of
from kdbench.training.context import TrainingContext, TrainingJob
from kdbench.training.cuda_graphs.pool import GraphPool
from kdbench.training.events import Epochs, Event, Failed, Finished
from kdbench.training.loop import train_cohort

#: The name under which tests find the student below in the zoo.
NOISY = "noisy-for-tests"
IMAGES, HELD_OUT, BATCH, EPOCHS = 130, 30, 40, 3


class Noisy(nn.Module):
    """Layers as in `digits-cnn` (so every method serves the pair), with dropout throughout."""

    nodes: ClassVar[dict[str, str]] = {
        "stage1_pre": "norm1",
        "stage1": "relu1",
        "stage2_pre": "norm2",
        "stage2": "relu2",
        "embedding": "flatten",
        "logits": "classifier",
    }

    def __init__(self, image_shape: tuple[int, int, int], classes: int):
        super().__init__()
        channels, height, width = image_shape
        # Batch normalisation cancels a bias: what moved it would be rounding alone.
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.norm1, self.relu1 = nn.BatchNorm2d(16), nn.ReLU()
        self.drop1 = nn.Dropout(0.2)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.norm2, self.relu2 = nn.BatchNorm2d(32), nn.ReLU()
        self.drop2 = nn.Dropout(0.2)
        self.pool = nn.MaxPool2d(2)
        self.classifier = nn.Linear(32 * (height // 4) * (width // 4), classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pool(self.drop1(self.relu1(self.norm1(self.conv1(images)))))
        x = self.relu2(self.norm2(self.conv2(x)))
        return self.classifier(self.drop2(self.pool(x).flatten(1)))


@dataclass
class Outcome:
    """What one run reported while it trained."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    checkpoint: bytes | None = None
    finished: Finished | None = None
    failed: Failed | None = None
    events: list[Event] = field(default_factory=list)

    @property
    def weights(self) -> bytes:
        assert self.finished is not None, self.failed
        assert self.finished.weights is not None
        return self.finished.weights

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The epochs, less the time they took."""
        return [{k: v for k, v in row.items() if k != "seconds"} for row in self.rows]

    @property
    def result(self) -> dict[str, Any]:
        """The result, less the time it took."""
        assert self.finished is not None, self.failed
        return {k: v for k, v in self.finished.result.items() if k != "seconds"}


@dataclass
class World:
    """A store, training images, and the runs that others need, trained as they are asked for."""

    data: TrainingData
    store: Store

    def context(self, device: str = "cpu") -> TrainingContext:
        """Nothing loaded yet: no network, no cached outputs in memory."""
        return TrainingContext(self.store, self.data, torch.device(device))

    def study(
        self,
        *methods: str | Entry,
        student: str = NOISY,
        teacher: str = "digits-cnn",
        recipe: Mapping[str, Any] | None = None,
        **parts: Any,
    ) -> Study:
        """A study of these methods; `parts` are study keys (`data`, `final`, `tune`)."""
        entries = [m if isinstance(m, Entry) else entry(m) for m in methods]
        defaults = {"epochs": EPOCHS, "batch": BATCH, "lr": 0.01, "schedule": "cosine"}
        study = Study.model_validate(
            {
                "name": "small",
                "data": {"name": "digits", "validation": HELD_OUT, "augment": "flip"},
                "student": {"model": "digits-cnn-small"},
                "teacher": {"model": teacher},
                "recipe": {**defaults, **(recipe or {})},
                "methods": entries,
                "final": {"seeds": [0]},
                "report": {"reference": entries[0].label},
                **parts,
            }
        )
        # The check of model names knows the zoo as it was imported.
        slot = study.student.model_copy(update={"model": student})
        return study.model_copy(update={"student": slot})

    def job(
        self,
        method: str,
        seed: int = 0,
        hparams: Mapping[str, Any] | None = None,
        recipe: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        student: str = NOISY,
    ) -> TrainingJob:
        """The final run of a method, with what it freezes trained.

        `recipe` and `data` change the run alone, so the frozen runs stay the same ones.
        """
        one = entry(method, hparams or {})
        split = METHODS[method](**one.hparams).momentum_shifts()
        base = {"optimizer": "sgd", "momentum": 0.9} if split else {}
        study = self.study(one, student=student, final={"seeds": [seed]}, recipe=base)
        planner = Planner(study, self.data, self.store, tune=False)
        plan = planner.plan()
        (row,) = plan.rows
        assert row.incompatible is None, row.incompatible
        node = plan.nodes[row.runs[str(seed)]]
        self._provide(planner, plan.nodes, node)
        job = self._as_job(planner, node.spec)
        spec = dataclasses.replace(
            node.spec,
            recipe=dataclasses.replace(node.spec.recipe, **(recipe or {})),
            data=dataclasses.replace(node.spec.data, **(data or {})),
        )
        return dataclasses.replace(job, spec=spec)

    def _provide(self, planner: Planner, nodes: Mapping[str, Node], node: Node) -> None:
        for run_id in node.spec.frozen_runs.values():
            if self.store.record(run_id).result is None:
                self._provide(planner, nodes, nodes[run_id])
                self.keep(self._as_job(planner, nodes[run_id].spec))

    def _as_job(self, planner: Planner, spec: RunSpec) -> TrainingJob:
        one = entry(spec.method, spec.hparams)
        method = _method(spec)
        shapes = method_shapes(planner.study, planner.data, one, method)
        return TrainingJob(spec, method, tuple(sorted(shapes.features["student"])))

    def keep(self, job: TrainingJob) -> Outcome:
        """Train a run alone and write its record."""
        outcome = self.train(job)[job.spec.id]
        assert outcome.finished is not None, outcome.failed
        record = self.store.record(job.spec.id)
        record.begin(job.spec)
        record.add_epochs(outcome.rows, outcome.checkpoint)
        record.finish(outcome.finished.result, outcome.finished.weights)
        return outcome

    def train(
        self,
        *jobs: TrainingJob,
        context: TrainingContext | None = None,
        stopping: Callable[[], bool] = lambda: False,
        graphs: GraphPool | None = None,
    ) -> dict[str, Outcome]:
        """Train one cohort; what each run reported, by id."""
        outcomes = {job.spec.id: Outcome() for job in jobs}

        def receive(event: Event) -> None:
            outcome = outcomes[event.id]
            outcome.events.append(event)
            if isinstance(event, Epochs):
                outcome.rows += event.rows
                outcome.checkpoint = event.checkpoint or outcome.checkpoint
            elif isinstance(event, Finished):
                outcome.finished = event
            else:
                outcome.failed = event

        train_cohort(jobs, context or self.context(), receive, stopping, graphs)
        return outcomes

    def alone(self, job: TrainingJob) -> Outcome:
        """The run trained by itself."""
        return self.train(job)[job.spec.id]


def _method(spec: RunSpec) -> Method:
    return METHODS[spec.method](**spec.hparams)


def entry(method: str, hparams: Mapping[str, Any] | None = None) -> Entry:
    """A study's line; every slot beyond the usual two gets a model of middle size."""
    needed = slots_of(METHODS[method](**(hparams or {}))) - {"student", "teacher"}
    slots = dict.fromkeys(needed, "digits-cnn-medium")
    return Entry(method=method, label=method, hparams=dict(hparams or {}), slots=slots)


def small(data: TrainingData, count: int = IMAGES) -> TrainingData:
    """The first `count` images under a checksum of their own."""
    return dataclasses.replace(
        data, images=data.images[:count], labels=data.labels[:count], checksum=f"first{count}"
    )
