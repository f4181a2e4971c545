"""Engines: a worker that is killed, one that is slow to say that it is idle, one without memory."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support import crash
from support.inline_study import SMALL, InlineStudy, run_contents

from kdbench.execution.engines import ENGINES
from kdbench.execution.engines.inline import InlineEngine
from kdbench.execution.engines.local import LocalEngine, worker_count
from kdbench.execution.engines.protocol import (
    EngineOptions,
    Message,
    Task,
    WorkerLost,
    WorkerSettings,
)
from kdbench.registry import UnknownName
from kdbench.training import loop
from kdbench.training.run import TrainingRun


class KilledWorker(LocalEngine):
    """Its worker is interrupted while it starts, killed while idle, and killed at work."""

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(settings, EngineOptions(1))
        self.tasks: list[Task] = []

    def send(self, *kinds: signal.Signals) -> None:
        for kind in kinds:
            os.kill(self._workers[0][0].pid, kind)
        if signal.SIGKILL in kinds:
            self._workers[0][0].join()

    def submit(self, task: Task) -> None:
        self.tasks.append(task)
        if len(self.tasks) == 2:
            self.send(signal.SIGKILL)
            assert list(self.messages(10)) == []  # seen, and another is started
        if len(self.tasks) == 3:
            self.send(signal.SIGKILL)  # not seen yet
        super().submit(task)
        if len(self.tasks) == 1:
            self.send(signal.SIGINT, signal.SIGTERM)
        if len(self.tasks) == 2:
            self.send(signal.SIGKILL)


def test_a_worker_that_is_killed_is_replaced_and_its_runs_go_on_in_smaller_cohorts(
    study: InlineStudy,
) -> None:
    study.changes = SMALL
    engine = KilledWorker(study.settings())
    assert engine._workers == []  # none is started before there is work
    try:
        plan, driver, recorder = study.run(engine)
    finally:
        engine.close()
    _, together, alone, *_ = engine.tasks
    assert (len(together.specs), len(alone.specs)) == (2, 1)
    assert any("go on 1 at a time" in line for line in recorder.lines)
    (lost,) = alone.specs  # killed a second time, and with nobody to blame but itself
    name = plan.listing[lost.id].name
    assert set(driver.failures()) == {name}
    assert "worker process ended with code -9" in driver.failures()[name]
    assert any(name in line for line in recorder.lines)
    assert set(crash.finished(study.root)) == set(plan.listing) - {lost.id}
    plan, driver, _ = study.run()
    assert plan.complete
    assert driver.failures() == {}


class Lossy(InlineEngine):
    """A worker that is lost with its first task of each kind, as when a node goes away."""

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(settings)
        self.lost: list[str] = []

    def messages(self, timeout: float) -> Iterator[Message]:
        if self._tasks and self._tasks[0].kind not in self.lost:
            task = self._tasks.pop(0)
            self.lost.append(task.kind)
            yield WorkerLost(task.specs, "the node is gone")
        else:
            yield from super().messages(timeout)


def test_what_a_lost_worker_had_goes_on_elsewhere(study: InlineStudy, tmp_path: Path) -> None:
    study.changes = SMALL
    study.run()
    whole = run_contents(study.root)
    study.root = tmp_path / "lossy"
    engine = Lossy(study.settings())
    plan, driver, recorder = study.run(engine)
    assert engine.lost == ["train", "score", "measure_costs"]
    assert driver.failures() == {}
    assert plan.complete
    assert run_contents(study.root) == whole
    assert driver.store.costs_path("crash").is_file()
    assert "the node is gone; its 1 runs go on elsewhere" in recorder.lines


def test_the_longest_chain_of_runs_that_wait_begins_first(study: InlineStudy) -> None:
    ban = {"method": "ban", "hparams": {"generations": 3}}
    study.changes = {**SMALL, "methods": ["ce", "kd", ban]}
    engine = InlineEngine(study.settings())
    driver, _ = study.driver(engine)
    driver.state.make_plan()
    plan = driver.state.plan
    ahead = driver.scheduler._work_ahead(plan)
    final = next(n for n in plan.nodes.values() if n.listing.kind == "final")
    one = driver.planner.work(final.spec)
    stages = [n for n in plan.nodes.values() if n.listing.kind == "stage" and n.spec.seed == 0]
    # Each generation waits for the one before, the final run for the last.
    assert sorted(ahead[node.id] for node in stages) == [one, 2 * one, 3 * one]
    (teacher,) = (n for n in plan.nodes.values() if n.listing.kind == "teacher")
    assert ahead[teacher.id] == one
    assert {ahead[n.id] for n in plan.nodes.values() if n.listing.kind == "final"} == {0}
    begin = driver.scheduler.next(plan, [n for n in plan.nodes.values() if not n.spec.frozen_runs])
    assert {ahead[node.id] for node in begin} == {3 * one}


class SlowToIdle(InlineEngine):
    """Its worker is reported idle well after its last result."""

    _calls_since_task = 2

    def submit(self, task: Task) -> None:
        super().submit(task)
        self._calls_since_task = 0

    def idle(self) -> int:
        self._calls_since_task += 1
        return super().idle() if self._calls_since_task > 2 else 0


def test_a_study_does_not_end_before_its_worker_is_idle(
    study: InlineStudy,
) -> None:
    study.changes = SMALL
    plan, driver, _ = study.run(SlowToIdle(study.settings()))
    assert plan.complete
    assert set(crash.finished(study.root)) == set(plan.listing)
    assert driver.failures() == {}
    finals = [run for run, entry in plan.listing.items() if entry.kind == "final"]
    assert all((study.root / "runs" / run / "test.json").exists() for run in finals)


class Busy:
    """An engine whose only worker has sent its last result, but not yet that it is idle."""

    size, device, remote = 1, "cpu", False

    def idle(self) -> int:
        return 0

    def submit(self, task: Task) -> None:
        raise AssertionError("given a task while it was not idle")


def test_costs_wait_for_an_idle_worker(study: InlineStudy) -> None:
    study.changes = SMALL
    _, done, _ = study.run()
    done.store.costs_path("crash").unlink(missing_ok=True)
    driver, _ = study.driver(Busy())
    driver.state.make_plan()
    assert driver.costs.start()


def test_memory_that_runs_out_splits_the_cohort_and_changes_no_number(
    study: InlineStudy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    study.changes = {**SMALL, "methods": ["ce", "kd", "label-smoothing", "dkd"]}
    study.run()
    whole = run_contents(study.root)
    study.root = tmp_path / "short of memory"
    together: list[int] = []
    lockstep, step = loop._lockstep, TrainingRun.step

    def counted(members: list[TrainingRun], *rest: Any) -> None:
        together.append(len(members))
        lockstep(members, *rest)

    def short(self: TrainingRun, batch: Any) -> None:
        if self.history.epoch == 1 and together[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        step(self, batch)

    monkeypatch.setattr(loop, "_lockstep", counted)
    monkeypatch.setattr(TrainingRun, "step", short)
    again, driver, _ = study.run()
    assert driver.failures() == {}
    assert again.complete
    assert 4 in together
    assert run_contents(study.root) == whole


def test_workers_default_to_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker_count(EngineOptions(3), "cpu") == 3
    assert worker_count(EngineOptions(), "cpu") >= 1
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert worker_count(EngineOptions(workers_per_gpu=2), "cuda") == 8


def test_an_engine_is_found_by_its_name(study: InlineStudy) -> None:
    assert isinstance(ENGINES["inline"](study.settings(), EngineOptions(3)), InlineEngine)
    assert ENGINES["local"](study.settings(), EngineOptions(3)).size == 3
    with pytest.raises(UnknownName, match=r"unknown engine 'locl'.*did you mean 'local'"):
        ENGINES["locl"]


def test_memory_that_runs_out_after_the_last_epoch_loses_no_run(
    study: InlineStudy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither the record nor the checkpoint is one that the run cannot be finished from."""
    study.changes = SMALL
    study.run()
    whole = run_contents(study.root)
    study.root = tmp_path / "short of memory"
    finished, full = TrainingRun.finished, [True]

    def short(self: TrainingRun) -> Any:
        if self.spec.method == "kd" and full:
            full.pop()
            raise torch.OutOfMemoryError("CUDA out of memory")
        return finished(self)

    monkeypatch.setattr(TrainingRun, "finished", short)
    plan, driver, _ = study.run()
    assert not full
    assert driver.failures() == {}
    assert plan.complete
    assert run_contents(study.root) == whole


@pytest.mark.parametrize("times", [1, 2])
def test_a_run_alone_is_tried_again_without_what_earlier_runs_left(
    study: InlineStudy, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    study.changes = {**SMALL, "methods": ["kd"], "report.reference": "kd", "final.seeds": [0]}
    step, left = TrainingRun.step, [torch.OutOfMemoryError("CUDA out of memory")] * times

    def short(self: TrainingRun, batch: Any) -> None:
        if self.spec.method == "kd" and left:
            raise left.pop()
        step(self, batch)

    monkeypatch.setattr(TrainingRun, "step", short)
    plan, driver, _ = study.run()
    assert plan.complete == (times == 1)
    failures = list(driver.failures().values())
    assert failures == [] if times == 1 else failures == ["OutOfMemoryError: CUDA out of memory"]
