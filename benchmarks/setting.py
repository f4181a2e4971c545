"""A setting to time steps in: a study's runs over images of noise, with teachers that nobody
has trained. What a step costs does not depend on what its numbers are."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kdbench.data.load import TrainingData
from kdbench.execution.engines.local import ENVIRONMENT
from kdbench.methods import METHODS
from kdbench.records.spec import RunSpec
from kdbench.records.store import Store
from kdbench.study.compatibility import method_shapes
from kdbench.study.planner import Planner
from kdbench.study.schema import Study
from kdbench.training.context import TrainingContext, TrainingJob
from kdbench.training.run import TrainingRun

#: Published statistics do not matter here; the scale does: activations of usual size.
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def noise(name: str, classes: int, images: int, shape: tuple[int, int, int]) -> TrainingData:
    """Images of noise with labels of noise."""
    drawn = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, *shape), dtype=torch.uint8, generator=drawn)
    labels = torch.randint(0, classes, (images,), generator=drawn)
    names = tuple(f"class {n}" for n in range(classes))
    mean, std = MEAN[: shape[0]], STD[: shape[0]]
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    return TrainingData(name, pixels, labels, names, 255, mean, std, f"noise{images}")


class Setting:
    """Runs of one pair of models on one data set, in a store of their own.

    `part` is the study's `recipe`; `entries` are lines of its `methods`.
    """

    def __init__(
        self,
        root: Path,
        data: TrainingData,
        student: str,
        teacher: str,
        recipe: Mapping[str, Any],
        augment: str = "none",
    ) -> None:
        self.store, self.data, self.augment = Store(root), data, augment
        self.models = {"student": {"model": student}, "teacher": {"model": teacher}}
        self.recipe = {"epochs": 240, "batch": 64, "lr": 1e-3, **recipe}

    def job(
        self, method: str, seed: int = 0, hparams: Mapping[str, Any] | None = None
    ) -> TrainingJob:
        """The run of a method. Raises `ValueError` where the method cannot serve the pair."""
        entry: dict[str, Any] = {"method": method, "label": method, "hparams": dict(hparams or {})}
        if method == "takd":
            entry["slots"] = {"assistant": self.models["student"]["model"]}
        study = Study.model_validate(
            {
                "name": "timing",
                "data": {"name": self.data.name, "validation": 1000, "augment": self.augment},
                **self.models,
                "recipe": self.recipe,
                "methods": [entry],
                "final": {"seeds": [seed], "train_on": "all"},
                "report": {"reference": method},
            }
        )
        planner = Planner(study, self.data, self.store, tune=False)
        plan = planner.plan()
        (row,) = plan.rows
        if row.incompatible:
            raise ValueError(row.incompatible)

        def job_of(spec: RunSpec) -> TrainingJob:
            made = METHODS[spec.method](**spec.hparams)
            line = study.methods[0].model_copy(
                update={"method": spec.method, "hparams": spec.hparams}
            )
            shapes = method_shapes(study, self.data, line, made)
            return TrainingJob(spec, made, tuple(sorted(shapes.features["student"])))

        def provide(spec: RunSpec) -> None:
            for run in spec.frozen_runs.values():
                if self.store.record(run).result is None:
                    needed = plan.nodes[run].spec
                    provide(needed)
                    self._pretend(job_of(needed))

        wanted = plan.nodes[row.runs[str(seed)]].spec
        provide(wanted)
        return job_of(wanted)

    def context(self, device: str = "cpu") -> TrainingContext:
        """A training context with nothing loaded."""
        return TrainingContext(self.store, self.data, torch.device(device))

    def _pretend(self, job: TrainingJob) -> None:
        """A finished record with the first weights."""
        run = TrainingRun(replace(job, checkpoint=None), self.context())
        run.history.rows.append({})
        done = run.finished()
        record = self.store.record(job.spec.id)
        record.begin(job.spec)
        record.finish(done.result, done.weights)


def with_other_lr(job: TrainingJob, count: int) -> list[TrainingJob]:
    """Runs that differ in their learning rates alone."""
    lr = job.spec.recipe.lr
    recipes = [replace(job.spec.recipe, lr=lr * (1 + n / 1000)) for n in range(count)]
    return [replace(job, spec=replace(job.spec, recipe=recipe)) for recipe in recipes]


def in_turns(works: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each work, one after the other, again and again: what disturbs one round
    disturbs all of its works."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(work())
    return found


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return sorted(values)[len(values) // 2]


def as_a_worker() -> None:
    """Start this script again as a worker process is started: one thread, its memory settings."""
    if any(os.environ.get(key) != value for key, value in ENVIRONMENT.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT})
    torch.set_num_threads(1)
