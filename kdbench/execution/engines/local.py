"""Worker processes on this machine: one for each core, or one or several for each GPU."""

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from kdbench import masking
from kdbench.execution.engines.gpu_sharing import GpuSharing
from kdbench.execution.engines.protocol import (
    EngineOptions,
    Idle,
    Message,
    Notice,
    Ready,
    Task,
    WorkerLost,
    WorkerSettings,
)
from kdbench.execution.errors import WorkerCannotStart
from kdbench.training.events import Failed

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

#: Imported once, by the process that all workers are forked from.
PRELOADED = ["kdbench.execution.engines.worker", "torchmetrics", "torchvision"]

#: Seconds that the workers get to end by themselves.
CLOSE_TIMEOUT = 10.0

#: What a worker that was added has to do before it is ready.
STARTING = Task("start", ())


class LocalEngine:
    """Processes that are started with the first task. Each has a pipe of its own, so that the
    end of one is seen at once."""

    remote = False

    def __init__(self, settings: WorkerSettings, options: EngineOptions) -> None:
        self.device = settings.device
        self.size = workers = worker_count(options, settings.device)
        self._context = _context()
        # One shared byte and no lock: set in a signal handler, and read by workers that may be
        # killed at any instruction.
        self._stop_flag = self._context.RawValue("b", 0)
        self._of_all = settings
        self._settings = [_with_device(settings, index) for index in range(workers)]
        self._workers: list[tuple[Any, Connection]] = []
        self._tasks: list[Task | None] = [None] * workers
        #: Processes that have said that they are ready.
        self._ready: set[int] = set()
        self._sharing = _sharing(options, settings.device)

    def _start(self, settings: WorkerSettings) -> tuple[Any, Connection]:
        driver_end, worker_end = self._context.Pipe()
        process = self._context.Process(
            target=serve, args=(worker_end, self._stop_flag, settings), daemon=True
        )
        if self._context.get_start_method() == "forkserver":
            with _worker_environment():
                forkserver.ensure_running()
            # This waits until the server has imported torch; signals are handled meanwhile.
            process.start()
        else:
            with _worker_environment():
                process.start()
        worker_end.close()
        return process, driver_end

    def idle(self) -> int:
        """How many workers have no task."""
        return sum(task is None for task in self._tasks)

    def submit(self, task: Task) -> None:
        """Give a task to an idle worker."""
        if not self._workers:
            self._workers = [self._start(settings) for settings in self._settings]
        index = self._tasks.index(None)
        self._tasks[index] = task
        with suppress(OSError):  # a worker that ended while idle: `messages` sees it
            self._workers[index][1].send(task)

    def doing(self) -> dict[str, tuple[str, ...]]:
        """The ids of the runs that each worker has, by its host and process."""
        host = socket.gethostname()
        return {
            f"{host}:{process.pid}": tuple(spec.id for spec in task.specs)
            for (process, _), task in zip(self._workers, self._tasks, strict=False)
            if task and task is not STARTING
        }

    def messages(self, timeout: float) -> Iterator[Message]:
        """The workers' messages; waits at most `timeout` seconds for the first."""
        yield from self._share_gpus()
        for pipe in wait([pipe for _, pipe in self._workers], timeout):
            index = [each for _, each in self._workers].index(pipe)  # type: ignore[arg-type]
            try:
                while self._workers[index][1].poll():
                    message = self._workers[index][1].recv()
                    if isinstance(message, Ready):
                        self._ready.add(self._workers[index][0].pid)
                        if self._tasks[index] is STARTING:
                            self._tasks[index] = None
                        continue
                    if isinstance(message, Idle):
                        self._tasks[index] = None
                    yield message
            except (EOFError, OSError):
                yield from self._replace(index)

    def _share_gpus(self) -> Iterator[Message]:
        """Start more workers where those that there are leave their GPUs idle."""
        if self._sharing is None or self._stop_flag.value or len(self._ready) < self.size:
            return
        if text := self._sharing.look(all(t and t.kind == "train" for t in self._tasks)):
            for index in range(self.size, 2 * self.size):
                self._settings.append(_with_device(self._of_all, index))
                self._workers.append(self._start(self._settings[-1]))
                self._tasks.append(STARTING)
            self.size *= 2
            yield Notice(text)

    def _replace(self, index: int) -> Iterator[Message]:
        """Start another worker in place of one that has ended (killed for its memory, say), and
        give up its task. Raises `WorkerCannotStart` where it ended before it had one."""
        process, pipe = self._workers[index]
        process.join()
        pipe.close()
        task, self._tasks[index] = self._tasks[index], None
        was_ready = process.pid in self._ready
        self._ready.discard(process.pid)
        if task is STARTING:
            yield self._without(index)
            return
        if task is None and not was_ready:
            raise WorkerCannotStart(
                f"a worker process ended with code {process.exitcode} before it had anything to "
                "do; what it printed above says why"
            )
        self._workers[index] = self._start(self._settings[index])
        message = f"the worker process ended with code {process.exitcode}"
        if task and task.kind == "train" and len(task.specs) > 1:
            yield WorkerLost(task.specs, message, len(task.specs) // 2)
            return
        for spec in task.specs if task else ():
            yield Failed(spec.id, {"message": message, "traceback": ""})

    def _without(self, index: int) -> Notice:
        """Go on without a worker that was added and did not start, and add no others."""
        for each in (self._settings, self._workers, self._tasks):
            del each[index]
        self.size -= 1
        self._sharing = None
        return Notice(f"a further worker could not start on its GPU: {self.size} workers go on")

    def stop(self) -> None:
        """Ask every worker to finish its step and send its last epoch."""
        self._stop_flag.value = 1

    def close(self) -> None:
        """End the workers: kill those that have not ended after `CLOSE_TIMEOUT`."""
        self.stop()
        for _, pipe in self._workers:
            with suppress(OSError):  # it has ended already
                pipe.send(None)
        deadline = time.monotonic() + CLOSE_TIMEOUT
        for process, pipe in self._workers:
            # Read what it still sends: a full pipe would keep it from ending.
            with suppress(EOFError, OSError):
                while time.monotonic() < deadline:
                    if pipe.poll(0.1):
                        pipe.recv_bytes()
            process.join(max(0.1, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
            pipe.close()


@contextmanager
def _worker_environment() -> Iterator[None]:
    """What a process that is started in here inherits: `ENVIRONMENT`, and Ctrl-C and SIGTERM
    blocked, so that no worker dies of them while it imports. This process gets a signal that
    arrives meanwhile as soon as it leaves."""
    # The tracker unblocks signals when it is started, so it is started before.
    resource_tracker.ensure_running()
    environment = {key: os.environ.get(key) for key in ENVIRONMENT}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        for key, value in environment.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _context() -> Any:
    """How workers are started: as forks of one process that has imported torch and has no
    other thread, so that all share the memory of the imports; else each on its own."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def worker_count(options: EngineOptions, device: str) -> int:
    """How many processes: what was asked for, or so many a GPU, or one a core."""
    if options.workers is not None:
        return options.workers
    if device == "cuda":
        import torch

        return torch.cuda.device_count() * (options.workers_per_gpu or 1)
    return usable_cores()


def usable_cores() -> int:
    """How many cores this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def _sharing(options: EngineOptions, device: str) -> GpuSharing | None:
    """What measures how many workers share a GPU, where nothing was asked for."""
    if device != "cuda" or options.workers or options.workers_per_gpu:
        return None
    import torch

    return GpuSharing(torch.cuda.device_count(), usable_cores())


def _with_device(settings: WorkerSettings, index: int) -> WorkerSettings:
    """The settings of worker `index`: the GPUs are dealt out in turn."""
    if settings.device != "cuda":
        return settings
    import torch

    return replace(settings, device=f"cuda:{index % torch.cuda.device_count()}")


def serve(pipe: Connection, stop_flag: Any, settings: WorkerSettings) -> None:
    """A worker process: run the tasks from the pipe until it closes or sends None."""
    # Ctrl-C reaches the whole process group; the driver alone decides, and sets the flag.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    masking.install()
    import torch

    from kdbench.execution.engines.worker import Worker
    from kdbench.training.memory import trim

    torch.set_num_threads(1)
    worker = Worker(settings)
    trim()  # what reading the images took
    try:
        pipe.send(Ready())
        while (task := pipe.recv()) is not None:
            worker.run_task(task, pipe.send, lambda: bool(stop_flag.value))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the driver is gone; what it has not written is trained again
