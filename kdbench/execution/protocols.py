"""Who is told while a study runs: what tracks its runs, and what shows progress to a person."""

from collections.abc import Mapping
from typing import Any, Protocol


class RunTracker(Protocol):
    """What tracks runs outside of the records: MLflow (`kdbench.tracking`), or nothing."""

    def touch(self, run_id: str, listing: Mapping[str, Any]) -> None:
        """The record of `run_id` has changed; `listing` is the run's entry in the plan file."""
        ...


class NullTracker:
    """A tracker that tracks nothing, for runs that belong to no study."""

    def touch(self, run_id: str, listing: Mapping[str, Any]) -> None:
        """Do nothing."""


class ProgressReporter(Protocol):
    """What shows a study's progress to a person."""

    def plan(self, runs: int, over: int, work: float, worked: float) -> None:
        """`over` of `runs` runs have ended, and `worked` of `work` units of compute are done."""
        ...

    def log(self, text: str) -> None:
        """A message worth reading."""
        ...


class PrintReporter:
    """A reporter for scripts and notebooks: prints the messages, and a line whenever a tenth
    more of the work is done."""

    def __init__(self) -> None:
        self._tenths = 0

    def plan(self, runs: int, over: int, work: float, worked: float) -> None:
        """Print how far the study is, if a tenth more is done."""
        tenths = int(10 * worked / work) if work else 10
        if tenths > self._tenths:
            self._tenths = tenths
            self.log(f"{over} of {runs} runs, {100 * worked / work:.0f} % of the work")

    def log(self, text: str) -> None:
        """Print a message."""
        print(text, flush=True)
