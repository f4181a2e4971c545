"""Worker processes on this machine: one thread each on the CPU, or one process a GPU."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.synchronize import Event as Flag
from typing import Any

from kdbench.execution.engines.worker import Failed, Idle, Lost, Message, Place, Task, Worker
from kdbench.training.memory import trim

#: Set before a worker loads torch. Two workers must never share OpenMP's threads, and
#: glibc gives freed pages back to the system after each step unless told otherwise.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
    "MALLOC_TOP_PAD_": str(1 << 26),
    # Large pages where the system leaves the choice: 4 % off a LightNN step.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    # torch's profiler, which counts a step's memory, otherwise greets on the terminal.
    "KINETO_LOG_LEVEL": "99",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}


class WorkerLost(Exception):
    """A worker cannot even start, so starting another would not help."""


#: Seconds that a worker gets to end by itself.
PATIENCE = 10.0


class LocalEngine:
    """`count` worker processes, started with the first task. Each has a pipe of its own, so
    one that dies is seen at once."""

    def __init__(self, place: Place, count: int) -> None:
        self.size = count
        self._context = _context()
        self._flag: Flag = self._context.Event()
        self._places = [_device_of(place, index) for index in range(count)]
        self._workers: list[tuple[Any, Connection]] = []
        self._tasks: list[Task | None] = [None] * count
        #: Workers that have finished a task since they were started.
        self._proven: set[int] = set()

    def _start(self, place: Place) -> tuple[Any, Connection]:
        ours, theirs = self._context.Pipe()
        before = {key: os.environ.get(key) for key in ENVIRONMENT}
        os.environ.update(ENVIRONMENT)
        try:
            process = self._context.Process(
                target=serve, args=(theirs, self._flag, place), daemon=True
            )
            with _signals_ignored():
                process.start()
        finally:
            for key, value in before.items():
                if value is None:
                    os.environ.pop(key, None)
                else:
                    os.environ[key] = value
        theirs.close()
        return process, ours

    def idle(self) -> int:
        """How many workers have nothing to do."""
        return sum(task is None for task in self._tasks)

    def submit(self, task: Task) -> None:
        """Give a task to an idle worker."""
        if not self._workers:
            self._workers = [self._start(place) for place in self._places]
        index = self._tasks.index(None)
        self._tasks[index] = task
        with suppress(OSError):  # a worker that died idle: `messages` sees it
            self._workers[index][1].send(task)

    def messages(self, patience: float) -> Iterator[Message]:
        """What the workers have said; waits at most `patience` seconds for the first word."""
        pipes = {pipe: index for index, (_, pipe) in enumerate(self._workers)}
        for pipe in wait(list(pipes), patience):
            index = pipes[pipe]  # type: ignore[index]
            try:
                while self._workers[index][1].poll():
                    message = self._workers[index][1].recv()
                    if isinstance(message, Idle):
                        self._tasks[index] = None
                        self._proven.add(index)
                    yield message
            except (EOFError, OSError):
                yield from self._died(index)

    def _died(self, index: int) -> Iterator[Message]:
        """A worker is gone (killed for its memory, say): its runs have failed, and another
        takes its place."""
        process, pipe = self._workers[index]
        process.join()
        pipe.close()
        task, self._tasks[index] = self._tasks[index], None
        if task is None and index not in self._proven:
            raise WorkerLost(
                f"a worker process ended with code {process.exitcode} before it had anything to "
                "do; what it printed above says why"
            )
        self._proven.discard(index)
        self._workers[index] = self._start(self._places[index])
        message = f"the worker process ended with code {process.exitcode}"
        if task and task.kind == "train" and len(task.specs) > 1:
            yield Lost(task.specs, message)
            return
        for spec in task.specs if task else ():
            yield Failed(spec.id, {"message": message, "traceback": ""})

    def stop(self) -> None:
        """Ask every worker to finish its step and keep its last epoch."""
        self._flag.set()

    def close(self) -> None:
        """End the workers."""
        self._flag.set()
        for _, pipe in self._workers:
            with suppress(OSError):  # it may be gone already, which is what is wanted
                pipe.send(None)
        end = time.monotonic() + PATIENCE
        for process, pipe in self._workers:
            # What it still says is taken off the pipe: a full pipe would hold it up.
            with suppress(EOFError, OSError):
                while time.monotonic() < end:
                    if pipe.poll(0.1):
                        pipe.recv_bytes()
            process.join(max(0.1, end - time.monotonic()))
            if process.is_alive():
                process.kill()
            pipe.close()


@contextmanager
def _signals_ignored() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM for a moment: a process that is started now inherits that,
    so none dies with a traceback before it can say so itself. The main thread alone can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {kind: signal.signal(kind, signal.SIG_IGN) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _context() -> Any:
    """How workers are started: as forks of one process that has imported torch and has no
    other thread, so that all share the memory of the imports; else each on its own."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["kdbench.execution.engines.worker", "torchmetrics", "torchvision"]
    )
    return context


def _device_of(place: Place, index: int) -> Place:
    """Each worker's device: the GPUs in turn, or the CPU."""
    if place.device != "cuda":
        return place
    import torch

    device = f"cuda:{index % torch.cuda.device_count()}"
    return Place(place.root, place.data_name, place.data_dir, device)


def serve(pipe: Connection, flag: Flag, place: Place) -> None:
    """A worker process: tasks from the pipe until it closes or says None."""
    # Ctrl-C reaches the whole group; the driver alone decides, and asks through the flag.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    import torch

    torch.set_num_threads(1)
    worker = Worker(place)
    trim()  # what reading the images took
    try:
        while (task := pipe.recv()) is not None:
            worker.carry_out(task, pipe.send, flag.is_set)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return  # the driver is gone; what it has not written is trained again
