"""Engines: a worker that is killed, one that is slow to say that it is idle, one without memory."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from support import crash
from support.inline_study import SMALL, InlineStudy, run_contents

from kdbench.execution.engines import ENGINES
from kdbench.execution.engines.inline import InlineEngine
from kdbench.execution.engines.local import LocalEngine
from kdbench.execution.engines.protocol import Task, WorkerSettings
from kdbench.registry import UnknownName
from kdbench.training import loop
from kdbench.training.run import TrainingRun


class KilledWorker(LocalEngine):
    """Its worker is interrupted while it starts, killed while idle, and killed at work."""

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(settings, 1)
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

    size = 1

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


def test_an_engine_is_found_by_its_name(study: InlineStudy) -> None:
    assert isinstance(ENGINES["inline"](study.settings(), 3), InlineEngine)
    assert ENGINES["local"](study.settings(), 3).size == 3
    with pytest.raises(UnknownName, match=r"unknown engine 'locl'.*did you mean 'local'"):
        ENGINES["locl"]
