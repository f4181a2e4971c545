"""Carry out a plan: skip what is done, go on with what was begun, run what is missing.

The driver alone writes: records first, then it tells the mirror. Workers only compute.
"""

import datetime
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from kdbench.engines import Engine
from kdbench.engines.work import Calibrated, Scored, Task
from kdbench.events import Epochs, Failed, Finished
from kdbench.ledger import Ledger, Trial
from kdbench.plan import Node, Plan, Planner, plan_file
from kdbench.provenance import provenance
from kdbench.store import Store, read_json, write_json

#: Runs in a cohort at the most: enough to share a live teacher, few enough to balance.
COHORT = 12
#: Runs scored by one task.
SCORES = 16


class Interrupted(Exception):
    """The study was asked to stop; what is done is kept."""


class TeacherFailed(Exception):
    """A teacher diverged or failed, so nothing that needs it can run."""


class Mirror(Protocol):
    """Who is told that a record has changed."""

    def touch(self, run_id: str, listing: Mapping[str, Any]) -> None:
        """The record of `run_id` has something new."""
        ...


class Watcher(Protocol):
    """Who shows the work to a person."""

    def plan(self, runs: int, over: int, work: float, worked: float) -> None:
        """How many runs are known and how many are over; the same as shares of compute."""
        ...

    def say(self, text: str) -> None:
        """A line worth reading."""
        ...


@dataclass
class Sweep:
    """One study being carried out."""

    planner: Planner
    store: Store
    engine: Engine
    mirror: Mirror
    watcher: Watcher
    ledger: Ledger
    device: str
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
    _locks: dict[str, ExitStack] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        """Carry out the study; the plan file as it stands at the end.

        Raises `Interrupted` after Ctrl-C or SIGTERM, `TeacherFailed` where the teacher
        diverged. Runs of a method that raised are said, kept with their error, and left out.
        """
        with ExitStack() as at_end, _signals(self._ask_to_stop):
            at_end.callback(self._unlock)
            self._beside = provenance()
            while True:
                if self._changed:
                    plan = self.planner.plan()
                    self._changed = False
                    self._write_plan(plan)
                    self._log_trials(plan)
                    self._check_teachers(plan)
                    self._show(plan)
                if not self._stopping:
                    self._dispatch(plan)
                if not (self._running or self._scoring or self._costing or self._changed):
                    if self._stopping:
                        self._write_plan(plan)
                        raise Interrupted
                    if not self._measure_costs(plan):
                        return self._write_plan(plan)
                for message in self.engine.messages(0.5):
                    self._take(message, plan)

    def _unlock(self) -> None:
        for lock in self._locks.values():
            lock.close()
        self._locks.clear()

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
                    t["knobs"],
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
        path = self.store.calibration_path(self.planner.study.name)
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
        self._cost_tried = self._costing = True
        self.watcher.say("measuring what each method costs ...")
        labels = tuple(wanted)
        self.engine.submit(Task("calibrate", tuple(wanted.values()), labels, reference))
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
            if all(self._usable(i) for i in node.spec.frozen.values()):
                yield node

    def _unscored(self, plan: Plan) -> Iterator[Node]:
        for node in plan.nodes.values():
            if not node.score or node.id in self._scoring or node.id in self._failed:
                continue
            if self._usable(node.id) and self.store.record(node.id).test is None:
                yield node

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
            cohort = self._next_cohort(plan)
            if cohort:
                for node in cohort:
                    self._begin(node)
                self.engine.submit(Task("train", tuple(node.spec for node in cohort)))
                continue
            unscored = list(self._unscored(plan))[:SCORES]
            if not unscored:
                return
            self._scoring |= {node.id for node in unscored}
            self.engine.submit(Task("score", tuple(node.spec for node in unscored)))

    def _next_cohort(self, plan: Plan) -> list[Node]:
        """The largest group of runs that can share batches, split to keep workers busy."""
        groups: dict[Any, list[Node]] = defaultdict(list)
        for node in self._ready(plan):
            groups[self._company(node)].append(node)
        if not groups:
            return []
        # What others wait for goes first, then what takes longest.
        waited = {i for node in plan.nodes.values() for i in node.spec.frozen.values()}

        def weight(nodes: list[Node]) -> tuple[int, int, int]:
            needed = sum(node.id in waited for node in nodes)
            return (needed, nodes[0].spec.recipe.epochs, len(nodes))

        group = max(groups.values(), key=weight)
        share = -(-len(group) // max(1, self.engine.idle()))
        return group[: min(COHORT, share)]

    def _company(self, node: Node) -> tuple[Any, ...]:
        """What runs must share to train in lockstep: batches, length, and epochs done."""
        spec = node.spec
        recipe = {**spec.recipe.__dict__, "lr": None}
        epochs = len(self.store.record(node.id).epochs())
        data = tuple(spec.data.__dict__.values())
        return (
            data,
            spec.models["student"],
            tuple(recipe.values()),
            spec.seed,
            spec.lineage,
            epochs,
        )

    def _begin(self, node: Node) -> None:
        record = self.store.record(node.id)
        lock = self._locks[node.id] = ExitStack()
        lock.enter_context(record.writing())
        record.begin(node.spec)
        self._running.add(node.id)
        self.mirror.touch(node.id, node.listing)

    # -- what has been said

    def _take(self, message: Any, plan: Plan) -> None:
        if isinstance(message, Calibrated):
            self._take_costs(message, plan)
            return
        if isinstance(message, Failed) and message.id not in self._running | self._scoring:
            # One of the runs whose cost was being measured: it is finished, and stays so.
            if self._costing:
                self.watcher.say(f"costs could not be measured: {message.error['message']}")
            self._costing = False
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
                self.watcher.say(f"{node.listing['name']} diverged in epoch {epoch}")
        elif isinstance(message, Failed):
            record.fail(message.error)
            self._failed[message.id] = message.error["message"]
            self._scoring.discard(message.id)
            self._settle(node, plan)
            self.watcher.say(f"{node.listing['name']} failed: {message.error['message']}")
        else:
            record.score(message.test, message.arrays)
            self._scoring.discard(message.id)
        self.mirror.touch(message.id, node.listing)

    def _take_costs(self, message: Calibrated, plan: Plan) -> None:
        self._costing = False
        if message.rows:
            path = self.store.calibration_path(self.planner.study.name)
            machine = f"{self._beside['hardware']}, {self.device}"
            write_json(path, {"machine": machine, "rows": message.rows})
        for node in plan.nodes.values():
            if node.listing["kind"] == "final":
                self.mirror.touch(node.id, node.listing)

    def _settle(self, node: Node, plan: Plan) -> None:
        """A run has ended. The plan knows more only once all trials of a row that were
        asked for have ended, so it is not made anew after each run."""
        self._running.discard(node.id)
        if lock := self._locks.pop(node.id, None):
            lock.close()
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
            self.watcher.say("stopping: finishing the step and keeping the last epoch ...")
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
