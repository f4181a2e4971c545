"""One worker in this process: for tests and for looking into a run with a debugger."""

from collections.abc import Iterator

from kdbench.execution.engines.worker import Idle, Message, Place, Task, Worker


class InlineEngine:
    """Carries a task out where it is asked for its messages."""

    def __init__(self, place: Place) -> None:
        self.size = 1
        self._worker = Worker(place)
        self._tasks: list[Task] = []
        self._stopping = False

    def idle(self) -> int:
        """1 where there is nothing to do."""
        return int(not self._tasks)

    def submit(self, task: Task) -> None:
        """Take a task; it is carried out by `messages`."""
        self._tasks.append(task)

    def messages(self, patience: float) -> Iterator[Message]:
        """Carry the task out and give what it said."""
        said: list[Message] = []
        while self._tasks:
            self._worker.carry_out(self._tasks[0], said.append, lambda: self._stopping)
            self._tasks.pop(0)
        yield from (message for message in said if not isinstance(message, Idle))

    def stop(self) -> None:
        """Ask the task to finish its step."""
        self._stopping = True

    def close(self) -> None:
        """Nothing is left running."""
