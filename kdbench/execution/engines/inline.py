"""One worker in this process: for tests, and for looking into a run with a debugger."""

from collections.abc import Iterator

from kdbench.execution.engines.protocol import EngineOptions, Idle, Message, Task, WorkerSettings
from kdbench.execution.engines.worker import Worker

ONE_WORKER = EngineOptions(1)


class InlineEngine:
    """Runs a task inside the call that asks for its messages; there is always one worker."""

    remote = False

    def __init__(self, settings: WorkerSettings, options: EngineOptions = ONE_WORKER) -> None:
        self.size, self.device = 1, settings.device
        self._worker = Worker(settings)
        self._tasks: list[Task] = []
        self._stopping = False

    def idle(self) -> int:
        """1 where there is no task."""
        return int(not self._tasks)

    def submit(self, task: Task) -> None:
        """Keep a task for the next call of `messages`."""
        self._tasks.append(task)

    def doing(self) -> dict[str, tuple[str, ...]]:
        """Nothing: a task ends in the call that it begins in."""
        return {}

    def messages(self, timeout: float) -> Iterator[Message]:
        """Run the task to its end, then give its messages."""
        messages: list[Message] = []
        while self._tasks:
            self._worker.run_task(self._tasks[0], messages.append, self.stopping)
            self._tasks.pop(0)
        yield from (message for message in messages if not isinstance(message, Idle))

    def stopping(self) -> bool:
        """Whether the task has been asked to finish its step and end."""
        return self._stopping

    def stop(self) -> None:
        """Ask the task to finish its step."""
        self._stopping = True

    def close(self) -> None:
        """Do nothing: there is no process to end."""
