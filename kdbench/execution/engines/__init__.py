"""Where cohorts run. An engine takes tasks, and gives events as they come."""

from collections.abc import Iterator
from typing import Protocol

from kdbench.execution.engines.worker import Message, Task


class Engine(Protocol):
    """Workers that train and score; they write no record."""

    #: How many workers there are.
    size: int

    def idle(self) -> int:
        """How many workers have nothing to do."""
        ...

    def submit(self, task: Task) -> None:
        """Give a task to an idle worker."""
        ...

    def messages(self, patience: float) -> Iterator[Message]:
        """What has been said since; waits at most `patience` seconds for the first word."""
        ...

    def stop(self) -> None:
        """Ask every worker to finish its step and keep its last epoch."""
        ...

    def close(self) -> None:
        """End the workers."""
        ...
