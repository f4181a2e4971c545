"""Carry out a plan: skip what is done, go on with what was begun, run what is missing.

The driver alone writes: records first, then it tells the mirror. Workers only compute.
Several drivers may carry out one study: each takes the runs whose records it can lock,
and waits for those that another has. The system drops a dead process's locks.
"""

import datetime
import errno
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

from kdbench.execution.engines import Engine
from kdbench.execution.engines.worker import CostsMeasured, Lost, Scored, Task
from kdbench.execution.errors import Interrupted, TeacherFailed
from kdbench.execution.grouping import Scheduler
from kdbench.execution.locks import RunLocks
from kdbench.execution.messages import full
from kdbench.records.files import DiskFull, read_json, write_json
from kdbench.records.provenance import provenance
from kdbench.records.spec import RunSpec
from kdbench.records.store import Store
from kdbench.study import Node, Plan, Planner, plan_file
from kdbench.tracking.optuna_log import OptunaLog, Trial
from kdbench.training.events import Epochs, Failed, Finished

#: Runs scored by one task.
SCORES = 16


class Mirror(Protocol):
    """Who is told that a record has changed."""

    def touch(self, run_id: str, listing: Mapping[str, Any]) -> None:
        """The record of `run_id` has something new."""
        ...


class ProgressReporter(Protocol):
    """Who shows the work to a person."""

    def plan(self, runs: int, over: int, work: float, worked: float) -> None:
        """How many runs are known and how many are over; the same as shares of compute."""
        ...

    def log(self, text: str) -> None:
        """A line worth reading."""
        ...


@dataclass
class StudyDriver:
    """One study being carried out."""

    planner: Planner
    store: Store
    engine: Engine
    mirror: Mirror
    watcher: ProgressReporter
    ledger: OptunaLog
    device: str
    retry: bool = True
    _running: set[str] = field(default_factory=set)
    _scoring: set[str] = field(default_factory=set)
    _failed: dict[str, str] = field(default_factory=dict)
    _states: dict[str, str] = field(default_factory=dict)
    _stopping: bool = False
    _changed: bool = True
    _costing: bool = False
    _cost_tried: bool = False
    _logged: dict[str, int] = field(default_factory=dict)
    _last_rows: dict[str, Epochs] = field(default_factory=dict)
    #: Errors that stood in the records when this driver started.
    _old_errors: dict[str, Any] = field(default_factory=dict)
    #: The layers that the plan's runs read from the tables of each frozen run.
    _tables: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _waiting: bool = False

    def __post_init__(self) -> None:
        self._claims = RunLocks(self.store)
        self._cohorts = Scheduler(self.planner, self.store, self.engine, self.device)

    def run(self) -> dict[str, Any]:
        """Carry out the study; the plan file as it stands at the end.

        Raises `Interrupted` after Ctrl-C or SIGTERM, `TeacherFailed` where the teacher
        diverged. Runs of a method that raised are said, kept with their error, and left out.
        """
        with ExitStack() as at_end, _signals(self._ask_to_stop):
            at_end.callback(self._claims.release_all)
            self._beside = provenance()
            while True:
                if self._changed:
                    plan = self.planner.plan()
                    self._tables = self.planner.outputs.read(plan)
                    self._changed = False
                    self._write_plan(plan)
                    self._log_trials(plan)
                    self._look_back(plan)
                    self._check_teachers(plan)
                    self._show(plan)
                if not self._stopping:
                    self._dispatch(plan)
                if not (self._running or self._scoring or self._costing or self._changed):
                    if self._stopping:
                        self._write_plan(plan)
                        raise Interrupted
                    if self._left(plan):
                        pass  # as soon as a worker has said that it is free
                    elif self._outdated(plan):
                        self._changed = True
                    elif not self._claims.elsewhere and not self._measure_costs(plan):
                        return self._write_plan(plan)
                self._wait_for_others()
                for message in self.engine.messages(0.5):
                    self._take(message, plan)

    def _log_trials(self, plan: Plan) -> None:
        """Write finished trials into the Optuna study that people look at."""
        entries = {entry.label: entry for entry in self.planner.study.methods}
        for row in plan.rows:
            over = [t for t in row.trials if t["finished"]]
            if len(over) == self._logged.get(row.label, 0):
                continue
            trials = [
                Trial(
                    t["number"],
                    t["hparams"],
                    t["score"] and t["score"][0],
                    tuple(t["runs"]),
                    {"val.nll": t["score"][1]} if t["score"] else {},
                )
                for t in over
            ]
            ranges = self.planner.searched(entries[row.label])
            self.ledger.level(self.planner.study.name, row.label, ranges, trials)
            self._logged[row.label] = len(over)

    def _measure_costs(self, plan: Plan) -> bool:
        """Once nothing else runs, have a worker measure each method alone; whether one does.

        Measured once per study and machine.
        """
        path = self.store.costs_path(self.planner.study.name)
        known = read_json(path) or {}
        machine = f"{self._beside['hardware']}, {self.device}"
        wanted = {
            row.label: plan.nodes[run].spec
            for row in plan.rows
            if row.row != "tuned"
            for run in list(row.runs.values())[:1]
            if self._usable(run)
        }
        reference = self.planner.study.report.reference
        same = known.get("machine") == machine
        if reference not in wanted or (same and set(wanted) <= set(known["rows"])):
            return False
        if self._cost_tried:
            return False
        if not self.engine.idle():
            return True  # a worker has said its last result, but not yet that it is free
        if not self._claims.hold("cost", path.with_suffix(".lock")):
            return True  # another driver measures; what it finds is read in a moment
        self._cost_tried = self._costing = True
        self.watcher.log("measuring what each method costs ...")
        labels = tuple(wanted)
        specs = tuple(wanted.values())
        self.engine.submit(Task("calibrate", specs, labels, reference, self._read(specs)))
        return True

    def failures(self) -> dict[str, str]:
        """Runs that failed this time, by name, with their error."""
        names = {n.id: n.listing["name"] for n in self.planner.plan().nodes.values()}
        return {names.get(i, i): error for i, error in self._failed.items()}

    # -- what to do next

    def _ready(self, plan: Plan) -> Iterator[Node]:
        """Runs whose frozen networks are there and that nobody trains."""
        for node in plan.nodes.values():
            if node.id in self._running or node.id in self._failed or self._state(node.id):
                continue
            if node.id in self._claims.elsewhere:
                continue
            if all(self._usable(i) for i in node.spec.frozen_runs.values()):
                yield node

    def _unscored(self, plan: Plan) -> Iterator[Node]:
        for node in plan.nodes.values():
            if not node.score or node.id in self._scoring or node.id in self._failed:
                continue
            if node.id in self._claims.elsewhere:
                continue
            if self._usable(node.id) and self.store.record(node.id).test is None:
                yield node

    def _left(self, plan: Plan) -> bool:
        """Whether a run can be trained or scored."""
        return any(True for _ in chain(self._ready(plan), self._unscored(plan)))

    def _state(self, run_id: str) -> str | None:
        """`done` or `diverged`, or None while unfinished. A result never changes."""
        if run_id not in self._states:
            result = self.store.record(run_id).result
            if result is None:
                return None
            self._states[run_id] = result["state"]
        return self._states[run_id]

    def _usable(self, run_id: str) -> bool:
        return self._state(run_id) == "done"

    def _dispatch(self, plan: Plan) -> None:
        """Give every idle worker a cohort, or runs to score where nothing can be trained."""
        while self.engine.idle():
            if cohort := self._cohorts.next(plan, self._ready(plan)):
                if mine := [node for node in cohort if self._begin(node)]:
                    specs = tuple(node.spec for node in mine)
                    self.engine.submit(Task("train", specs, read=self._read(specs)))
                continue
            unscored = list(self._unscored(plan))[:SCORES]
            if not unscored:
                return
            if mine := [node for node in unscored if self._claims.take(node.id)]:
                self._scoring |= {node.id for node in mine}
                self.engine.submit(Task("score", tuple(node.spec for node in mine)))

    def _read(self, specs: Iterable[RunSpec]) -> dict[str, tuple[str, ...]]:
        """What the whole plan reads from the tables of the networks that these runs freeze."""
        frozen = {run for spec in specs for run in spec.frozen_runs.values()}
        return {run: layers for run, layers in self._tables.items() if run in frozen}

    def _begin(self, node: Node) -> bool:
        """Take a run; False where another driver has it, or has ended it meanwhile."""
        if not self._claims.take(node.id):
            return False
        record = self.store.record(node.id)
        if record.result is not None:
            self._claims.release(node.id)
            self._changed = True
            return False
        error = record.error
        if error is not None and error != self._old_errors.get(node.id):
            self._failed[node.id] = error["message"]  # another driver has just tried it
            self._claims.release(node.id)
            self._changed = True
            return False
        record.begin(node.spec)
        self._running.add(node.id)
        self.mirror.touch(node.id, node.listing)
        return True

    # -- other drivers, earlier starts

    def _outdated(self, plan: Plan) -> bool:
        """Whether other drivers have ended trials that the plan does not know of."""
        fresh = self.planner.plan()
        return (fresh.nodes.keys(), fresh.open) != (plan.nodes.keys(), plan.open)

    def _wait_for_others(self) -> None:
        """Ask again, now and then, for the runs that another driver had."""
        idle = not (self._running or self._scoring or self._costing)
        if self._claims.elsewhere and idle and not self._waiting and not self._stopping:
            self._waiting = True
            count = len(self._claims.elsewhere)
            self.watcher.log(f"waiting for {count} runs that another process works on ...")
        if self._claims.elsewhere and idle:
            time.sleep(0.1)
        for run_id in self._claims.to_ask_again():
            self._changed |= self._state(run_id) is not None

    def _look_back(self, plan: Plan) -> None:
        """Note the errors of earlier starts; without `retry` their runs have failed. Show
        MLflow what had ended before: whoever trained it may have died before saying so."""
        for run_id in plan.nodes.keys() - self._old_errors.keys():
            if self._state(run_id):
                self.mirror.touch(run_id, plan.nodes[run_id].listing)
            error = self.store.record(run_id).error
            self._old_errors[run_id] = error
            if error is not None and not self.retry and not self._state(run_id):
                self._failed[run_id] = error["message"]

    # -- what has been said

    def _take(self, message: Any, plan: Plan) -> None:
        if isinstance(message, CostsMeasured):
            self._take_costs(message, plan)
            return
        if isinstance(message, Failed) and message.id not in self._running | self._scoring:
            # One of the runs whose cost was being measured: it is finished, and stays so.
            if self._costing:
                self.watcher.log(f"costs could not be measured: {message.error['message']}")
                self._claims.release("cost")
            self._costing = False
            return
        if isinstance(message, Lost):
            self._split(message)
            return
        if not isinstance(message, Epochs | Finished | Failed | Scored):
            return
        record = self.store.record(message.id)
        node = plan.nodes[message.id]
        if isinstance(message, Epochs):
            if message.rows and message.checkpoint is None:
                # The run's last ones: kept together with its result, which is on its way, so
                # that no record says more epochs than its checkpoint has.
                self._last_rows[message.id] = message
                return
            record.add_epochs(message.rows, message.checkpoint)
            if self._stopping:
                self._running.discard(message.id)
        elif isinstance(message, Finished):
            if rows := self._last_rows.pop(message.id, None):
                record.add_epochs(rows.rows, None)
            record.finish(message.result | self._stamp(), message.weights)
            self._settle(node, plan)
            if message.result["state"] == "diverged":
                epoch = message.result["diverged_epoch"]
                self.watcher.log(f"{node.listing['name']} diverged in epoch {epoch}")
        elif isinstance(message, Failed):
            if message.error.get("errno") == errno.ENOSPC:
                # No fault of the run; and the next one would fare the same.
                raise DiskFull(errno.ENOSPC, full(self.store.root))
            record.fail(message.error)
            self._failed[message.id] = message.error["message"]
            self._old_errors[message.id] = message.error
            self._scoring.discard(message.id)
            self._settle(node, plan)
            self.watcher.log(f"{node.listing['name']} failed: {message.error['message']}")
        else:
            if record.test is None:
                record.score(message.test, message.arrays)
            self._scoring.discard(message.id)
            self._claims.release(message.id)
        self.mirror.touch(message.id, node.listing)

    def _take_costs(self, message: CostsMeasured, plan: Plan) -> None:
        self._costing = False
        self._claims.release("cost")
        if message.rows:
            path = self.store.costs_path(self.planner.study.name)
            machine = f"{self._beside['hardware']}, {self.device}"
            write_json(path, {"machine": machine, "rows": message.rows})
        for node in plan.nodes.values():
            if node.listing["kind"] == "final":
                self.mirror.touch(node.id, node.listing)

    def _split(self, message: Lost) -> None:
        """A worker was killed over a cohort: its runs go on in cohorts half as large."""
        size = len(message.specs) // 2
        self.watcher.log(f"{message.message}; its {len(message.specs)} runs go on {size} at a time")
        for spec in message.specs:
            if spec.id in self._running:
                self._cohorts.limit(spec.id, size)
                self._running.discard(spec.id)
                self._claims.release(spec.id)

    def _settle(self, node: Node, plan: Plan) -> None:
        """A run has ended. The plan knows more only once all trials of a row that were
        asked for have ended, so it is not made anew after each run."""
        self._running.discard(node.id)
        self._claims.release(node.id)
        self._show(plan)
        kind, label = node.listing["kind"], node.listing["label"]
        if kind == "teacher":
            self._check_teachers(plan)
        if kind == "trial" or (kind == "stage" and self._state(node.id) == "diverged"):
            mates = [n for n in plan.nodes.values() if n.listing["label"] == label]
            trials = [n for n in mates if n.listing["kind"] == "trial"]
            self._changed |= all(self._ended(n, plan) for n in trials)

    def _ended(self, node: Node, plan: Plan) -> bool:
        """Whether nothing more is to be known of a run: over, failed, or never to be trained."""
        if self._state(node.id) or node.id in self._failed:
            return True
        return self.planner.graph.diverged_source(plan, node.id) is not None

    def _stamp(self) -> dict[str, Any]:
        """What is recorded beside a result and is not in the run's id."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return {**self._beside, "device": self.device, "finished": now}

    def _check_teachers(self, plan: Plan) -> None:
        for node in plan.nodes.values():
            if node.listing["kind"] != "teacher":
                continue
            result = self.store.record(node.id).result
            recipe = node.spec.recipe
            if result and result["state"] == "diverged":
                raise TeacherFailed(
                    f"the {node.listing['name']} (run {node.id}) diverged in epoch "
                    f"{result['diverged_epoch']}: its loss is not finite. Nothing can be "
                    f"distilled from it. Lower recipe.lr (now {recipe.lr:g}), or take "
                    "precision: fp32, and start again."
                )
            if node.id in self._failed:
                raise TeacherFailed(
                    f"the {node.listing['name']} (run {node.id}) failed: {self._failed[node.id]}"
                )

    # -- showing, stopping

    def _show(self, plan: Plan) -> None:
        over = [n for n in plan.nodes.values() if self._state(n.id)]
        work = sum(self.planner.work(n.spec) for n in plan.nodes.values())
        worked = sum(self.planner.work(n.spec) for n in over)
        self.watcher.plan(len(plan.nodes), len(over), work, worked)

    def _write_plan(self, plan: Plan) -> dict[str, Any]:
        content = plan_file(self.planner, plan)
        write_json(self.store.plan_path(self.planner.study.name), content)
        return content

    def _ask_to_stop(self) -> None:
        if not self._stopping:
            self.watcher.log("stopping: finishing the step and keeping the last epoch ...")
        self._stopping = True
        self.engine.stop()


@contextmanager
def _signals(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` on Ctrl-C and SIGTERM instead of dying in the middle of a write."""
    before = {}
    for kind in (signal.SIGINT, signal.SIGTERM):
        before[kind] = signal.signal(kind, lambda *_: act())
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
