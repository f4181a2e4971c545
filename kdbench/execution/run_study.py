"""From a study and its options to finished runs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdbench import data
from kdbench.execution.driver import Mirror, ProgressReporter, StudyDriver
from kdbench.execution.engines.local import LocalEngine
from kdbench.execution.engines.worker import Place
from kdbench.records.store import Store
from kdbench.study import Planner
from kdbench.study.schema import Study
from kdbench.tracking.optuna_log import OptunaLog
from kdbench.training import memory


@dataclass(frozen=True)
class Options:
    """What a person asked for on the command line."""

    study: str
    root: Path
    data_dir: Path | None = None
    workers: int | None = None
    device: str = "auto"
    only: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    changes: dict[str, Any] = field(default_factory=dict)
    tune: bool = True
    dry_run: bool = False
    retry: bool = True


class Usage(Exception):
    """An option that cannot be met; the message says what to do."""


def planned_on(study: Study, options: Options) -> data.TrainingData:
    """The study's training data as far as planning needs it; all of its files are checked.
    Raises `DataError`."""
    images = data.load(study.data.name, options.data_dir).without_pixels()
    data.verify_test_files(study.data.name, options.data_dir)
    memory.trim()
    return images


def carry_out(
    planner: Planner,
    store: Store,
    options: Options,
    device: str,
    mirror: Mirror,
    watcher: ProgressReporter,
) -> StudyDriver:
    """Train and score everything that the plan needs, with worker processes."""
    place = Place(options.root, planner.study.data.name, options.data_dir, device)
    engine = LocalEngine(place, workers(options.workers, device))
    sweep = StudyDriver(
        planner,
        store,
        engine,
        mirror,
        watcher,
        OptunaLog(options.root, watcher.log),
        device,
        options.retry,
    )
    try:
        sweep.run()
    finally:
        engine.close()
    return sweep


class NullTracker:
    """A mirror without MLflow behind it, for runs that belong to no study."""

    def touch(self, run_id: str, listing: Mapping[str, Any]) -> None:
        """Nobody is told."""


def pick_device(wanted: str) -> str:
    """`cpu` or `cuda`. Raises `Usage` where CUDA was asked for and is not there."""
    import torch

    if wanted not in ("auto", "cpu", "cuda"):
        raise Usage(f"--device {wanted}: take auto, cpu or cuda")
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise Usage(
            "--device cuda: torch finds no CUDA device here. Check the driver (nvidia-smi) and "
            "that torch is a CUDA build, or take --device cpu."
        )
    return "cuda" if there and wanted != "cpu" else "cpu"


def workers(wanted: int | None, device: str) -> int:
    """How many worker processes: what was asked for, or one a GPU, or one a core."""
    if wanted is not None:
        return wanted
    if device == "cuda":
        import torch

        return torch.cuda.device_count()
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1
