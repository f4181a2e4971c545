"""The load of this machine while a study runs, on the study's own run in MLflow.

MLflow's monitors measure it, under MLflow's names, which its pages show in a tab of their own.
MLflow's thread that would log them is not used: it waits for a server in ways of its own.
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kdbench.tracking.artifacts import study_run
from kdbench.tracking.client import prepare
from kdbench.tracking.experiment import StudyExperiment

if TYPE_CHECKING:
    from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor

#: What the names of the metrics begin with.
SECTION = "system/"

#: Seconds between two samples. In a long study it is this share of the time so far, which makes 60
#: samples in the first ten minutes and 360 in a day.
INTERVAL, SHARE = 10.0, 1 / 60


class SystemMetrics:
    """Logs samples of the load when they are due. For the one thread that talks to MLflow."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        # A study that ends sooner does not wait for the monitors, which take a second to import.
        self._due = self._began + INTERVAL
        self._monitors: list[BaseMetricsMonitor] | None = None
        self._run: Any = None

    @property
    def wait(self) -> float:
        """The seconds until a sample is due."""
        return max(0.0, self._due - time.monotonic())

    def log(self, experiment: StudyExperiment) -> None:
        """Log a sample on the study's own run, which is created where missing; the first call only
        starts to measure. A sample's step is the seconds since that run was created. Raises what
        MLflow raises."""
        from mlflow.entities import Metric

        now = time.monotonic()
        self._due = now + max(INTERVAL, SHARE * (now - self._began))
        if self._monitors is None:
            self._monitors = monitors()
            return
        values = sample(self._monitors)
        if not experiment.is_open:
            experiment.open()
        if self._run is None:
            self._run = study_run(
                experiment.client, experiment.store.root, experiment.id, experiment.study
            )
        stamp = int(time.time() * 1000)
        step = max(0, stamp - self._run.info.start_time) // 1000
        metrics = [Metric(SECTION + name, value, stamp, step) for name, value in values.items()]
        experiment.client.log_batch(self._run.info.run_id, metrics)


def sample(monitors: "Iterable[BaseMetricsMonitor]") -> dict[str, float]:
    """The load since the last sample, without what cannot be measured now."""
    values: dict[str, float] = {}
    for monitor in monitors:
        with suppress(Exception):  # what drivers and containers raise
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
        monitor.clear_metrics()
    return values


def monitors() -> "list[BaseMetricsMonitor]":
    """MLflow's monitors of processor and memory, disk, network and NVIDIA's GPUs, without those
    that this machine does not have."""
    prepare()
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    found: list[BaseMetricsMonitor] = []
    for kind in (CPUMonitor, DiskMonitor, NetworkMonitor, GPUMonitor):
        with suppress(Exception):  # no such device, or no right to ask it
            monitor = kind()
            monitor.collect_metrics()  # the processor's load is that since it was last asked
            monitor.clear_metrics()
            found.append(monitor)
    return found
