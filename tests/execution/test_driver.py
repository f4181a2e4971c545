"""A driver: nothing is done twice, nothing depends on interruptions, failures stay small."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support import crash
from support.inline_study import SMALL, InlineStudy, run_contents
from support.optuna_studies import optuna_trials

from kdbench.execution.engines.inline import InlineEngine
from kdbench.execution.engines.protocol import Message, WorkerSettings
from kdbench.execution.errors import Interrupted, TeacherFailed
from kdbench.methods import METHODS
from kdbench.records.files import read_json
from kdbench.records.store import Store
from kdbench.study.plan import Node


class Stopping(InlineEngine):
    """Sends this process a signal in the middle of a step, after some steps."""

    def __init__(self, settings: WorkerSettings, steps: int, kind: signal.Signals) -> None:
        super().__init__(settings)
        self.steps, self.kind = steps, kind

    def stopping(self) -> bool:
        self.steps -= 1
        if self.steps == 0:
            os.kill(os.getpid(), self.kind)
        return self._stopping


def test_sigterm_again_and_again_changes_no_bit(reference_root: Path, study: InlineStudy) -> None:
    handlers = [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)]
    steps = iter([1, 12, 9, 30, 70, 14, *[200] * 50])
    kinds = [signal.SIGTERM, signal.SIGINT]
    stopped, finished = 0, {}
    while True:
        engine = Stopping(study.settings(), next(steps), kinds[stopped % 2])
        driver, recorder = study.driver(engine)
        try:
            plan = driver.run()
        except Interrupted:
            assert any("stopping" in line for line in recorder.lines)
            now = crash.finished(study.root)
            assert {run: now[run] for run in finished} == finished
            finished, stopped = now, stopped + 1
            continue
        break
    assert stopped >= 6
    assert plan.complete
    assert {run: crash.finished(study.root)[run] for run in finished} == finished
    assert [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)] == handlers
    # On another engine, in this process and in many pieces: the same runs bit for bit.
    assert run_contents(study.root) == run_contents(reference_root)
    tuned = [row for row in plan.rows if row.trials]
    assert tuned
    for row in tuned:
        found = [t[4]["runs"] for t in optuna_trials(study.root, f"crash/{row.label}")]
        assert found == [list(trial.runs) for trial in row.trials]
    assert not list(study.root.glob("runs/*/checkpoint.pt"))


def test_stopping_between_a_runs_last_epoch_and_its_result_loses_nothing(
    study: InlineStudy,
) -> None:
    """The last epochs of a run come without a checkpoint, just before its result."""
    study.changes = {**SMALL, "final.seeds": [0], "methods": ["ce"]}
    driver, _ = study.driver()
    engine: Any = driver.engine
    passed: list[Message] = []

    def one_at_a_time(timeout: float) -> Iterator[Message]:
        passed.extend(InlineEngine.messages(engine, timeout))
        if passed:
            driver.stop.request()
            yield passed.pop(0)

    engine.messages = one_at_a_time
    with pytest.raises(Interrupted):
        driver.run()
    (teacher,) = crash.finished(study.root)
    assert not passed
    assert len(Store(study.root).record(teacher).epochs()) == 3


def test_a_method_that_raises_fails_alone_and_is_tried_again(
    study: InlineStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.changes = {"final.seeds": [0, 1], "methods": ["ce", "kd", "at"]}

    def loss(*_: Any) -> Any:
        raise RuntimeError("no [such] thing")

    with monkeypatch.context() as patch:
        patch.setattr(METHODS["kd"], "loss", loss)
        plan, driver, recorder = study.run()
    failed = driver.failures()
    kd = {e.name for e in plan.listing.values() if e.label == "kd"}
    assert set(failed) == kd
    assert set(failed.values()) == {"RuntimeError: no [such] thing"}
    assert not plan.complete
    assert any("kd seed 0" in line and "no [such] thing" in line for line in recorder.lines)
    names = {i: e.name for i, e in plan.listing.items()}
    done = {names[i] for i in crash.finished(study.root)}
    assert done == set(names.values()) - kd
    for run_id, name in names.items():
        error = Store(study.root).record(run_id).error
        assert (error is not None) == (name in kd)
        assert error is None or "no [such] thing" in error["traceback"]
    cost = read_json(Store(study.root).costs_path("crash"))
    assert set(cost["rows"]) == {"ce", "at", "teacher"}

    before = crash.finished(study.root)
    plan, driver, _ = study.run()
    assert driver.failures() == {}
    assert plan.complete
    assert {run: crash.finished(study.root)[run] for run in before} == before
    assert not list(study.root.glob("runs/*/error.json"))


def test_costs_that_cannot_be_measured_fail_no_run(
    study: InlineStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.changes = SMALL

    def measure_costs(*_: Any) -> Any:
        raise RuntimeError("no clock")

    monkeypatch.setattr("kdbench.execution.engines.worker.measure_costs", measure_costs)
    plan, driver, recorder = study.run()
    assert plan.complete
    assert driver.failures() == {}
    assert not list(study.root.glob("runs/*/error.json"))
    assert sum("no clock" in line for line in recorder.lines) == 1


def test_a_teacher_that_diverges_ends_the_study_with_one_message(study: InlineStudy) -> None:
    study.changes = {**SMALL, "recipe.lr": 1e30, "recipe.optimizer": "sgd"}
    ends = []
    for _ in range(2):  # the second start knows it at once
        driver, recorder = study.driver()
        with pytest.raises(TeacherFailed) as raised:
            driver.run()
        (teacher,) = crash.finished(study.root)
        for word in ("teacher digits-cnn seed 0", teacher, "epoch 1", "recipe.lr", "1e+30"):
            assert word in str(raised.value)
        ends.append(crash.finished(study.root))
    assert ends[0] == ends[1]
    assert recorder.touched == [teacher]  # shown to MLflow, should the first start have died
    study.changes["recipe.lr"] = 0.1
    assert study.run()[0].complete


def test_an_assistant_that_diverges_is_the_reason_in_its_rows(
    study: InlineStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    takd = {"method": "takd", "assistant": {"model": "digits-cnn-medium"}}
    study.changes = {"final.seeds": [0], "methods": ["ce", takd]}
    loss = METHODS["kd"].loss

    def infinite(self: Any, *words: Any) -> Any:
        return {name: term * float("inf") for name, term in loss(self, *words).items()}

    monkeypatch.setattr(METHODS["kd"], "loss", infinite)
    plan, driver, recorder = study.run()
    assert plan.complete
    assert driver.failures() == {}
    rows = {(row.label, row.row): row for row in plan.rows}
    assert "takd stage digits-cnn-medium kd" in rows["takd", "default"].incompatible
    assert "trials diverged" in rows["takd", "tuned"].incompatible
    assert rows["ce", "only"].incompatible is None
    assert any("diverged in epoch 1" in line for line in recorder.lines)


def test_a_record_that_another_process_writes_is_waited_for(study: InlineStudy) -> None:
    study.changes = SMALL
    driver, recorder = study.driver()
    teacher = next(iter(driver.planner.plan().nodes))
    held = ExitStack()
    held.enter_context(Store(study.root).record(teacher).writing())
    began: list[bool] = []

    def release() -> None:
        began.append(Store(study.root).record(teacher).spec() is not None)
        held.close()

    timer = threading.Timer(1.5, release)
    timer.start()
    assert driver.run().complete
    timer.join()
    assert began == [False]  # nobody touched it while it was held
    assert any("another process" in line for line in recorder.lines)


def test_two_drivers_share_a_study_and_train_nothing_twice(study: InlineStudy) -> None:
    """Their turns are interleaved at every message."""
    first, _ = study.driver()
    second, _ = study.driver()
    begun: list[str] = []
    for driver in (first, second):

        def begin(node: Node, real: Callable[[Node], bool] = driver.state.begin) -> bool:
            taken = real(node)
            begun.extend([node.id] * taken)
            return taken

        driver.state.begin = begin  # type: ignore[method-assign]
    messages = first.engine.messages
    plans: list[dict[str, Any]] = []

    def in_between(timeout: float) -> Iterator[Message]:
        yield from messages(timeout)
        if not plans and len(crash.finished(study.root)) > 3:
            first.engine.messages = messages  # type: ignore[method-assign]
            plans.append(second.run())

    first.engine.messages = in_between  # type: ignore[method-assign]
    plans.append(first.run())
    assert len(plans) == 2
    assert all(plan.complete for plan in plans)
    assert plans[0] == plans[1]
    assert sorted(begun) == sorted(set(begun)) == sorted(crash.finished(study.root))


def test_a_failed_run_is_tried_at_the_next_start_unless_retry_is_off(
    study: InlineStudy,
) -> None:
    study.changes = SMALL
    driver, _ = study.driver()
    (final,) = [n for n in driver.planner.plan().nodes.values() if n.listing.name == "kd seed 1"]
    record = Store(study.root).record(final.id)
    record.begin(final.spec)
    record.fail({"message": "it broke", "traceback": "", "errno": None})
    driver, _ = study.driver(retry=False)
    assert not driver.run().complete
    assert driver.failures() == {"kd seed 1": "it broke"}
    plan, driver, _ = study.run()
    assert plan.complete
    assert driver.failures() == {}


def test_locks_are_given_back_as_runs_end(study: InlineStudy) -> None:
    """A large study has more runs than a process may have open files."""
    study.changes = SMALL
    driver, _ = study.driver()
    most = 0
    take: Callable[..., None] = driver.handler.handle

    def watched(*words: Any) -> None:
        nonlocal most
        take(*words)
        most = max(most, len(driver.state.locks.held))

    driver.handler.handle = watched  # type: ignore[method-assign]
    driver.run()
    assert most < 5
    assert driver.state.locks.held == {}
