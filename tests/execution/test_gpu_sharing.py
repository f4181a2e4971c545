"""How many workers share a GPU: on a simulated GPU, and in an engine whose workers use the CPU."""

import itertools
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import pytest
import torch
from support.inline_study import SMALL, InlineStudy, run_contents

from kdbench.execution.engines import gpu_sharing, local
from kdbench.execution.engines.gpu_sharing import LOOKS, GpuSharing, Load
from kdbench.execution.engines.local import LocalEngine
from kdbench.execution.engines.protocol import EngineOptions, Message, WorkerSettings

#: The share of the time at work with one and four workers as measured for small students on an
#: H200 (docs/performance.md); with two it was not measured.
SMALL_STUDENTS = {1: 0.34, 2: 0.55, 4: 0.74}


class Simulated:
    """GPUs with a load for each number of workers, and a clock of half seconds."""

    def __init__(
        self, busy: dict[int, float], memory: float = 0.05, gpus: int = 1, cores: int = 16
    ) -> None:
        self.busy, self.memory, self.now = busy, memory, 0.0
        self.sharing = GpuSharing(gpus, cores, self.load, lambda: self.now)

    def load(self, gpu: int) -> Load:
        per_gpu = self.sharing.per_gpu
        return Load(self.busy[per_gpu], self.memory * per_gpu)

    def train(self, seconds: float = 120, all_busy: bool = True) -> int:
        for _ in range(int(2 * seconds)):
            self.now += 0.5
            self.sharing.look(all_busy)
        return self.sharing.per_gpu


def test_idle_gpus_are_shared_until_they_are_at_work() -> None:
    assert Simulated(SMALL_STUDENTS).train() == 4
    assert Simulated({1: 0.34, 2: 0.75}).train() == 2


def test_a_gpu_at_work_is_left_to_one_worker() -> None:
    assert Simulated({1: 0.95}).train() == 1


def test_no_more_are_added_where_two_did_not_help() -> None:
    assert Simulated({1: 0.34, 2: 0.36}).train() == 2


def test_the_fullest_gpu_decides() -> None:
    gpus = Simulated({1: 0.3}, gpus=2)
    gpus.sharing._load = lambda gpu: Load((0.3, 0.9)[gpu], 0.1)
    assert gpus.train() == 1


@pytest.mark.parametrize(
    ("gpus", "cores", "memory", "workers"),
    [(1, 16, 0.05, 4), (1, 3, 0.05, 2), (4, 4, 0.05, 1), (1, 16, 0.3, 2), (1, 16, 0.5, 1)],
)
def test_cores_and_memory_limit_them(gpus: int, cores: int, memory: float, workers: int) -> None:
    assert Simulated(SMALL_STUDENTS, memory, gpus, cores).train() == workers


def test_only_a_whole_window_in_which_all_work_counts() -> None:
    gpu = Simulated(SMALL_STUDENTS)
    for _ in range(20):
        assert gpu.train(LOOKS / 2 - 1) == 1
        assert gpu.train(1, all_busy=False) == 1
    assert gpu.train(LOOKS / 2) == 2


def test_another_part_of_a_study_is_measured_anew() -> None:
    gpu = Simulated({1: 0.6, 2: 0.5, 4: 0.8})
    assert gpu.train(LOOKS / 2) == 2  # while the teacher trains
    gpu.train(1, all_busy=False)
    assert gpu.train() == 4  # 0.5 is of smaller networks, not less than 0.6 of the same


def test_a_gpu_that_does_not_tell_its_load_has_one_worker() -> None:
    gpu = Simulated({})  # a KeyError in place of NVML's "not supported"
    assert gpu.train() == 1


def test_it_is_measured_where_nothing_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert local._sharing(EngineOptions(), "cuda")
    assert not local._sharing(EngineOptions(workers_per_gpu=1), "cuda")
    assert not local._sharing(EngineOptions(2), "cuda")
    assert not local._sharing(EngineOptions(), "cpu")


class Sharing(LocalEngine):
    """An engine on the CPU whose only worker leaves a simulated GPU idle."""

    def __init__(self, study: InlineStudy, busy: float, dies: bool = False) -> None:
        super().__init__(study.settings(), EngineOptions(1))
        half_seconds = itertools.count()
        self._sharing = GpuSharing(
            1, 16, lambda _: Load(busy * self.size, 0.1), lambda: next(half_seconds) / 2
        )
        self.dies, self.gave_early = dies, False

    def _start(self, settings: WorkerSettings) -> tuple[Any, Connection]:
        started = super()._start(settings)
        if self.dies and self._workers:  # as where a GPU takes no second process
            started[0].kill()
        return started

    def messages(self, timeout: float) -> Iterator[Message]:
        yield from super().messages(timeout)
        starting = self._tasks.count(local.STARTING)
        self.gave_early |= len(self.doing()) + starting > self.size


@pytest.fixture
def whole(study: InlineStudy, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What each run came to without other workers; `study` is empty again."""
    study.changes = SMALL
    study.run()
    monkeypatch.setattr(gpu_sharing, "LOOKS", 1)
    contents = run_contents(study.root)
    study.root = study.root / "again"
    return contents


def test_workers_that_join_change_no_number(study: InlineStudy, whole: dict[str, Any]) -> None:
    engine = Sharing(study, busy=0.2)
    try:
        plan, driver, recorder = study.run(engine)
        processes = {process.pid for process, _ in engine._workers}
    finally:
        engine.close()
    assert plan.complete
    assert driver.failures() == {}
    assert engine.size == len(processes) > 1
    assert not engine.gave_early  # a worker that starts has no runs
    notices = [line for line in recorder.lines if "share each GPU" in line]
    assert notices[0] == (
        "2 workers share each GPU from now on: it was at work for 20 % of the time "
        "(--workers-per-gpu sets their number)"
    )
    assert run_contents(study.root) == whole


def test_a_worker_that_cannot_join_costs_no_run(study: InlineStudy, whole: dict[str, Any]) -> None:
    engine = Sharing(study, busy=0.2, dies=True)
    try:
        plan, driver, recorder = study.run(engine)
    finally:
        engine.close()
    assert plan.complete
    assert driver.failures() == {}
    assert engine.size == 1
    notices = [line for line in recorder.lines if "worker" in line]
    assert len(notices) == 2
    assert notices[1] == "a further worker could not start on its GPU: 1 workers go on"
    assert run_contents(study.root) == whole


def test_looks_while_a_worker_starts_do_not_count(
    study: InlineStudy, whole: dict[str, Any]
) -> None:
    """Else what the GPU's share was before would be forgotten, and four workers follow."""
    engine = Sharing(study, busy=0.2)
    engine._sharing._load = lambda _: Load(0.2, 0.1)  # type: ignore[union-attr]
    try:
        study.run(engine)
    finally:
        engine.close()
    assert engine.size == 2
