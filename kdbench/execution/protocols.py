"""What a driver reports to: a tracker of runs (MLflow), and what shows progress to a person."""

from typing import Protocol

from kdbench.masking import mask
from kdbench.records.plan_file import PlannedRun


class RunTracker(Protocol):
    """What tracks runs outside of the records: MLflow (`kdbench.tracking`), or nothing."""

    def touch(self, run_id: str, listing: PlannedRun) -> None:
        """The record of `run_id` has changed; `listing` is the run's entry in the plan file."""
        ...


class NullTracker:
    """A tracker that tracks nothing, for runs that belong to no study."""

    def touch(self, run_id: str, listing: PlannedRun) -> None:
        """Do nothing."""


class ProgressReporter(Protocol):
    """What shows a study's progress to a person."""

    def update(self, runs: int, finished: int, work: float, work_done: float) -> None:
        """`finished` of `runs` runs have ended; `work_done` of `work` units of compute are done."""
        ...

    def log(self, text: str) -> None:
        """A message worth reading."""
        ...


class PrintReporter:
    """A reporter for scripts and notebooks: prints the messages, and a line whenever a tenth
    more of the work is done."""

    def __init__(self) -> None:
        self._tenths = 0

    def update(self, runs: int, finished: int, work: float, work_done: float) -> None:
        """Print how far the study is, if a tenth more is done."""
        tenths = int(10 * work_done / work) if work else 10
        if tenths > self._tenths:
            self._tenths = tenths
            self.log(f"{finished} of {runs} runs, {100 * work_done / work:.0f} % of the work")

    def log(self, text: str) -> None:
        """Print a message."""
        print(mask(text), flush=True)
