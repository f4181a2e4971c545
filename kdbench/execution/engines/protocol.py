"""What a driver and an engine's workers send each other, and what an engine is. No torch here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kdbench.records.spec import RunSpec
from kdbench.training.events import Event


@dataclass(frozen=True)
class WorkerSettings:
    """Where a worker reads records and data, and the device it computes on (`cpu`, `cuda:0`)."""

    root: Path
    data_name: str
    data_dir: Path | None
    device: str


@dataclass(frozen=True)
class EngineOptions:
    """How many workers there are, which is as many as there is room for where `workers` is None,
    and how many of them share a GPU: where that is None, an engine may choose it by a measurement,
    and begins with one. `address` is that of a cluster, for engines that use one."""

    workers: int | None = None
    workers_per_gpu: int | None = None
    address: str | None = None


@dataclass(frozen=True)
class Task:
    """Work for one worker: `train` specs together, `score` finished runs, or `measure_costs`.

    `labels` names the specs whose costs are measured; `reference` is the label that the others
    are compared with. `layers_read` maps each frozen run to the layers whose cached outputs any
    run of the study reads.
    """

    kind: str
    specs: tuple[RunSpec, ...]
    labels: tuple[str, ...] = ()
    reference: str = ""
    layers_read: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """The test scores of a run, to be written once."""

    id: str
    test: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(repr=False)


@dataclass(frozen=True)
class CostsMeasured:
    """The cost of each label: see `kdbench.training.cost.measure_costs`. `hardware` is what they
    were measured on, where that is not the driver's."""

    rows: dict[str, dict[str, float]]
    hardware: str = ""


@dataclass(frozen=True)
class Ready:
    """The worker has read the data set and can take a task."""


@dataclass(frozen=True)
class Idle:
    """The worker has ended its task."""


@dataclass(frozen=True)
class WorkerLost:
    """A worker has ended in the middle of a task, whose runs go on elsewhere: at most
    `at_a_time` of them together, where it was most likely killed for its memory."""

    specs: tuple[RunSpec, ...]
    message: str
    at_a_time: int | None = None


@dataclass(frozen=True)
class Notice:
    """What the engine tells the user."""

    text: str


Message = Event | Scored | CostsMeasured | Ready | Idle | WorkerLost | Notice


class Engine(Protocol):
    """Workers that train and score. They write no record: the driver does, from their messages."""

    #: How many workers there are; they may become more.
    size: int
    #: What they compute on, `cpu` or `cuda`.
    device: str
    #: Whether they may be on other machines than the driver.
    remote: bool

    def idle(self) -> int:
        """How many workers have no task."""
        ...

    def submit(self, task: Task) -> None:
        """Give a task to an idle worker."""
        ...

    def doing(self) -> Mapping[str, tuple[str, ...]]:
        """The ids of the runs that each worker has now, by the worker's host and process."""
        ...

    def messages(self, timeout: float) -> Iterator[Message]:
        """The messages that have arrived; waits at most `timeout` seconds for the first."""
        ...

    def stop(self) -> None:
        """Ask every worker to finish its step and send its last epoch. A signal handler calls
        this, so it must neither lock nor print."""
        ...

    def close(self) -> None:
        """End the workers."""
        ...


class EngineFactory(Protocol):
    """What `ENGINES` holds: an engine's class, or a function that makes one."""

    def __call__(self, settings: WorkerSettings, options: EngineOptions) -> Engine:
        """An engine with the workers that `options` ask for."""
        ...
