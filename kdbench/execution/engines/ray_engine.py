"""Workers on a Ray cluster: actors on any of its nodes, which need not see the study's root.

The driver alone writes. An actor that dies, with its node or alone, is replaced, and its runs go on
elsewhere from the last checkpoints that the driver has; Ray starts the new one as soon as some node
has room for it, so a node that joins gets work.
"""

import hashlib
import secrets
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from kdbench.errors import one_line
from kdbench.execution.engines.local import ENVIRONMENT
from kdbench.execution.engines.node_files import FileOffers, Offer
from kdbench.execution.engines.protocol import (
    EngineOptions,
    Idle,
    Message,
    Task,
    WorkerLost,
    WorkerSettings,
)
from kdbench.execution.engines.ray_connection import connect, own_signals
from kdbench.execution.errors import InvalidOption, WorkerCannotStart
from kdbench.records.provenance import versions
from kdbench.records.store import Store
from kdbench.training.events import Failed

#: A run that was in so many workers when they died has failed, and the study goes on without it.
MOST_LOSSES = 4
#: Actors that may die one after the other before one of them was ready.
MOST_FALSE_STARTS = 3
#: Seconds that an actor waits for its next message before it says that there is none.
ANSWER_AFTER = 30.0
#: Seconds between two looks at how large the cluster is.
LOOK_AGAIN = 5.0


@dataclass
class Member:
    """An actor, the answer that it owes, and what it does."""

    actor: Any
    answer: Any
    place: Any = None
    is_open: bool = False
    task: Task | None = None
    #: The frozen runs whose outputs were read on it.
    teachers: set[str] = field(default_factory=set)


class RayEngine:
    """Actors of `RayWorker`, started with the first task: so many as were asked for, or as the
    cluster has room for, which is looked up again while the study runs."""

    remote = True

    def __init__(self, settings: WorkerSettings, options: EngineOptions) -> None:
        try:
            import ray
        except ImportError:
            raise InvalidOption("Ray is not installed: pip install 'kdbench[ray]'") from None
        self._ray: Any = ray
        self._options = options
        self._per_gpu = options.workers_per_gpu or 1
        self._connected_here = not ray.is_initialized()
        if self._connected_here:
            connect(ray, options.address)
        self.device = self._device(settings.device)
        self._settings = settings
        self.size = options.workers or self._room()
        self._looked = time.monotonic()
        self._offers = FileOffers(Store(settings.root), ray.put)
        self._of_study: dict[str, Offer] | None = None
        self._token = f"runs/.root-{secrets.token_hex(8)}"
        self._members: list[Member] = []
        self._waiting: list[Task] = []
        self._losses: Counter[str] = Counter()
        self._false_starts = 0
        self._stopping = self._told = False

    def _device(self, wanted: str) -> str:
        gpus = self._ray.cluster_resources().get("GPU", 0)
        if wanted == "cuda" and not gpus:
            raise InvalidOption("--device cuda: no node of the Ray cluster has a GPU")
        return "cuda" if gpus and wanted != "cpu" else "cpu"

    def _room(self) -> int:
        """How many workers the cluster has room for now."""
        resources = self._ray.cluster_resources()
        if self.device == "cuda":
            return int(resources.get("GPU", 0) * self._per_gpu)
        return max(1, int(resources.get("CPU", 1)))

    # -- tasks

    def idle(self) -> int:
        """How many workers have no task, those that are still to be started included."""
        busy = sum(member.task is not None for member in self._members)
        return max(0, self.size - busy - len(self._waiting))

    def submit(self, task: Task) -> None:
        """Keep a task for the first worker that is ready; one that has its teachers first."""
        if not self._members:
            (self._settings.root / self._token).touch()
            self._members = [self._start() for _ in range(self.size)]
        self._waiting.append(task)

    def doing(self) -> dict[str, tuple[str, ...]]:
        """The ids of the runs that each worker has, by its host and process."""
        return {
            str(member.place): tuple(spec.id for spec in member.task.specs)
            for member in self._members
            if member.task
        }

    def messages(self, timeout: float) -> Iterator[Message]:
        """The workers' messages; waits at most `timeout` seconds for the first."""
        if self._stopping:
            while self._waiting:  # there may never be room for a worker that takes it
                yield WorkerLost(self._waiting.pop(0).specs, "stopped before a worker had them")
        else:
            self._grow()
            self._hand_out()
        if self._stopping and not self._told:
            self._told = True
            for member in self._members:
                if member.task:
                    member.actor.stop.options(concurrency_group="answers").remote()
        owed = {member.answer: member for member in self._members}
        if not owed:
            return
        ready, _ = self._ray.wait(list(owed), timeout=timeout)
        if ready:
            ready, _ = self._ray.wait(list(owed), num_returns=len(owed), timeout=0)
        for answer in ready:
            yield from self._answered(owed[answer])

    def _answered(self, member: Member) -> Iterator[Message]:
        exceptions = self._ray.exceptions
        try:
            answer = self._ray.get(member.answer)
        except exceptions.RayTaskError as error:  # what the actor's own code raised
            raise WorkerCannotStart(f"a worker of Ray cannot start: {error.cause}") from error
        except exceptions.RayError as error:
            yield from self._replace(member, error)
            return
        if member.place is None:
            self._greet(member, answer)
            return
        self._false_starts, member.is_open = 0, True
        for message in answer if isinstance(answer, list) else ():
            if isinstance(message, Idle):
                member.task = None
            yield message
        self._ask(member)

    def _ask(self, member: Member) -> None:
        call = member.actor.messages.options(concurrency_group="answers")
        member.answer = call.remote(ANSWER_AFTER)

    def _greet(self, member: Member, place: Any) -> None:
        """Have an actor that says where it is read its data. Raises `WorkerCannotStart` where it
        runs other versions, as its numbers would be others."""
        here, there = versions(), dict(place.versions)
        if other := [
            f"{n} {there.get(n)} and not {v}" for n, v in here.items() if there.get(n) != v
        ]:
            raise WorkerCannotStart(f"node {place.host} of the Ray cluster has {', '.join(other)}")
        member.place = place
        if not place.sees_root and self._of_study is None:
            settings = self._settings
            self._of_study = self._offers.of_study(settings.data_name, settings.data_dir)
        member.answer = member.actor.open.remote({} if place.sees_root else self._of_study)

    def _hand_out(self) -> None:
        """Give waiting tasks to ready workers: each to one that has most of its teachers."""
        ready = [m for m in self._members if m.is_open and m.task is None]
        while ready and self._waiting:
            task = self._waiting.pop(0)
            teachers = {run for spec in task.specs for run in spec.frozen_runs.values()}
            node_has: dict[str, set[str]] = {}
            for member in self._members:
                if member.place:
                    node_has.setdefault(member.place.node, set()).update(member.teachers)
            chosen = max(
                ready,
                key=lambda m: (len(teachers & m.teachers), len(teachers & node_has[m.place.node])),
            )
            ready.remove(chosen)
            chosen.task = task
            chosen.teachers |= teachers
            offers = {} if chosen.place.sees_root else self._offers.of_task(task)
            chosen.actor.run.remote(task, offers)

    # -- actors

    def _start(self) -> Member:
        from kdbench.execution.engines.ray_worker import RayWorker

        root = f"{socket.gethostname()}:{self._settings.root}"
        settings = replace(self._settings, device=self.device)
        gpus = 1 / self._per_gpu if self.device == "cuda" else 0
        actor = (
            self._ray.remote(concurrency_groups={"answers": 2})(RayWorker)
            .options(num_cpus=1, num_gpus=gpus, runtime_env={"env_vars": ENVIRONMENT})
            .remote(settings, self._token, hashlib.sha256(root.encode()).hexdigest()[:12])
        )
        return Member(actor, actor.place.remote())

    def _grow(self) -> None:
        """Start more workers where nodes have joined, unless their number was asked for."""
        if self._options.workers or not self._members:
            return
        if time.monotonic() - self._looked > LOOK_AGAIN:
            self._looked = time.monotonic()
            self.size = max(self.size, self._room())
            while len(self._members) < self.size:
                self._members.append(self._start())

    def _replace(self, member: Member, error: Exception) -> Iterator[Message]:
        """Start another actor in place of one that died, and give up its task."""
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(member.actor)  # it may be there and not be reached
        if not member.is_open:
            self._false_starts += 1
            if self._false_starts >= MOST_FALSE_STARTS:
                raise WorkerCannotStart(
                    f"{MOST_FALSE_STARTS} workers of Ray died before they were ready: "
                    f"{one_line(error)}"
                ) from error
        self._members[self._members.index(member)] = self._start()
        if not (task := member.task):
            return
        self._losses.update(spec.id for spec in task.specs)
        lost = max(self._losses[spec.id] for spec in task.specs)
        message = f"the worker {member.place} of Ray was lost"
        if lost >= MOST_LOSSES and (task.kind != "train" or len(task.specs) == 1):
            for spec in task.specs:
                yield Failed(spec.id, {"message": f"{message} {lost} times", "traceback": ""})
        else:
            # The first loss may be a node's; after that memory is the likeliest cause.
            half = max(1, len(task.specs) // 2) if lost > 1 else None
            yield WorkerLost(task.specs, message, half)

    def stop(self) -> None:
        """Ask every worker to finish its step and send its last epoch."""
        self._stopping = True

    def close(self) -> None:
        """End the actors, and the connection that was made here."""
        (self._settings.root / self._token).unlink(missing_ok=True)
        for member in self._members:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(member.actor)
        if self._connected_here:
            with own_signals():
                self._ray.shutdown()
