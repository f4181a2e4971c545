"""A worker on a node of a Ray cluster: the actor that runs tasks there."""

import os
import queue
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs

from kdbench import masking
from kdbench.execution.engines.node_files import DATA, Offer, fetch
from kdbench.execution.engines.protocol import CostsMeasured, Idle, Message, Task, WorkerSettings
from kdbench.execution.engines.worker import Worker
from kdbench.records.provenance import hardware, versions
from kdbench.training.events import Failed, Finished, cause

#: Names the folder in which a node keeps what it is sent. Where it is set, a node is sent all that
#: it needs, even where it could see the study's root.
CACHE_VARIABLE = "KDBENCH_NODE_CACHE"


@dataclass(frozen=True)
class Place:
    """Where an actor is: its node, host and process, and the versions that it runs. `sees_root`
    where the study's root is the driver's, so that nothing has to be sent."""

    node: str
    host: str
    pid: int
    versions: Mapping[str, str]
    sees_root: bool

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class RayWorker:
    """Runs one task after the other in the call `run`, while other threads answer `messages` and
    `stop`. It writes no record; what it fetches stands in a folder of the node, under the name
    `kept_as`. It sees the driver's root where the file `token` is in it."""

    def __init__(self, settings: WorkerSettings, token: str, kept_as: str) -> None:
        masking.install()
        own = os.environ.get(CACHE_VARIABLE)
        self._sees_root = not own and (settings.root / token).is_file()
        self._settings = settings if self._sees_root else _on_this_node(settings, kept_as)
        self._worker: Worker | None = None
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._stopping = False
        self._hardware = hardware(settings.device)

    def place(self) -> Place:
        """Where this actor is."""
        import ray

        node = ray.get_runtime_context().get_node_id()
        return Place(node, socket.gethostname(), os.getpid(), versions(), self._sees_root)

    def open(self, offers: Mapping[str, Offer]) -> int:
        """Read the data set, from the files of `offers` where the driver's cannot be seen; the
        bytes that were fetched. Raises `DataError`."""
        fetched = self._fetch(offers)
        self._worker = Worker(self._settings)
        return fetched

    def run(self, task: Task, offers: Mapping[str, Offer]) -> int:
        """Run a task, the records of whose runs are those of `offers`; the bytes fetched."""
        fetched = 0
        try:
            assert self._worker, "a worker is opened before it has a task"
            fetched = self._fetch(offers)
            self._worker.run_task(task, self._emit, lambda: self._stopping)
        except Exception as error:
            for spec in task.specs:
                self._messages.put(Failed(spec.id, cause(error)))
            self._messages.put(Idle())
        return fetched

    def messages(self, timeout: float) -> list[Message]:
        """What has been emitted; waits at most `timeout` seconds for the first message."""
        found: list[Message] = []
        try:
            found.append(self._messages.get(timeout=timeout))
            while True:
                found.append(self._messages.get_nowait())
        except queue.Empty:
            return found

    def stop(self) -> None:
        """Ask the task to finish its step."""
        self._stopping = True

    def _fetch(self, offers: Mapping[str, Offer]) -> int:
        import ray  # an extra, which only those who use this engine have

        return fetch(self._settings.root, offers, ray.get) if offers else 0

    def _emit(self, message: Message) -> None:
        # The driver's machine may be another.
        if isinstance(message, Finished):
            message = replace(message, result={**message.result, "hardware": self._hardware})
        elif isinstance(message, CostsMeasured):
            message = replace(message, hardware=self._hardware)
        self._messages.put(message)


def _on_this_node(settings: WorkerSettings, kept_as: str) -> WorkerSettings:
    """The settings with a folder of the node in place of the root, the same for all workers on it
    and for each start of the study."""
    kept = os.environ.get(CACHE_VARIABLE) or Path(platformdirs.user_cache_dir("kdbench")) / "nodes"
    root = Path(kept) / kept_as
    return replace(settings, root=root, data_dir=root / DATA)
