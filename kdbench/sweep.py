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
from kdbench.plan import Node, Plan, Planner, plan_file
from kdbench.provenance import provenance
from kdbench.store import Store, write_json
from kdbench.train import Epochs, Failed, Finished

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

    def plan(self, total: int, done: int, open_rows: int) -> None:
        """How many runs are known, how many are over, how many rows wait for tuning."""
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
    device: str
    _running: set[str] = field(default_factory=set)
    _scoring: set[str] = field(default_factory=set)
    _failed: dict[str, str] = field(default_factory=dict)
    _states: dict[str, str] = field(default_factory=dict)
    _stopping: bool = False
    _changed: bool = True
    _costs: bool = False

    def run(self) -> dict[str, Any]:
        """Carry out the study; the plan file as it stands at the end.

        Raises `Interrupted` after Ctrl-C or SIGTERM, `TeacherFailed` where the teacher
        diverged. Runs of a method that raised are said, kept with their error, and left out.
        """
        with ExitStack() as locks, _signals(self._ask_to_stop):
            self._locks = locks
            self._beside = provenance()
            plan = self.planner.plan()
            self._write_plan(plan)
            while True:
                if self._changed and not self._stopping:
                    plan = self.planner.plan()
                    self._changed = False
                    self._check_teachers(plan)
                    self._show(plan)
                if not self._stopping:
                    self._dispatch(plan)
                if not self._running and not self._scoring and not self._costs:
                    if self._stopping:
                        self._write_plan(plan)
                        raise Interrupted
                    if not self._changed and not self._pending(plan):
                        break
                for message in self.engine.messages(0.5):
                    self._take(message, plan)
            return self._write_plan(plan)

    # -- what to do next

    def _pending(self, plan: Plan) -> bool:
        return any(True for _ in self._ready(plan)) or any(True for _ in self._unscored(plan))

    def _ready(self, plan: Plan) -> Iterator[Node]:
        """Runs whose frozen networks are there and that nobody trains."""
        for node in plan.nodes.values():
            if node.id in self._running or node.id in self._failed or self._state(node.id):
                continue
            if all(self._usable(i) for i in node.spec.frozen.values()):
                yield node

    def _unscored(self, plan: Plan) -> Iterator[Node]:
        for node in plan.nodes.values():
            if node.score and node.id not in self._scoring and node.id not in self._failed:
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
            data, spec.models["student"], tuple(recipe.values()), spec.seed, spec.lineage, epochs
        )

    def _begin(self, node: Node) -> None:
        record = self.store.record(node.id)
        self._locks.enter_context(record.writing())
        record.begin(node.spec)
        self._running.add(node.id)
        self.mirror.touch(node.id, node.listing)

    # -- what has been said

    def _take(self, message: Any, plan: Plan) -> None:
        if isinstance(message, Calibrated):
            self._costs = False
            return
        if not isinstance(message, Epochs | Finished | Failed | Scored):
            return
        record = self.store.record(message.id)
        node = plan.nodes[message.id]
        if isinstance(message, Epochs):
            record.add_epochs(message.rows, message.checkpoint)
            if self._stopping:
                self._running.discard(message.id)
        elif isinstance(message, Finished):
            record.finish(message.result | self._stamp(), message.weights)
            self._settle(node, plan)
            if message.result["state"] == "diverged":
                epoch = message.result["diverged_epoch"]
                self.watcher.say(f"{node.listing['name']} diverged in epoch {epoch}")
        elif isinstance(message, Failed):
            record.fail(message.error)
            self._failed[message.id] = message.error["error"]
            self._scoring.discard(message.id)
            self._settle(node, plan)
            self.watcher.say(f"{node.listing['name']} failed: {message.error['error']}")
        else:
            record.score(message.test, message.arrays)
            self._scoring.discard(message.id)
        self.mirror.touch(message.id, node.listing)

    def _settle(self, node: Node, plan: Plan) -> None:
        """A run has ended. The plan knows more only once all trials of a row that were
        asked for have ended, so it is not made anew after each run."""
        self._running.discard(node.id)
        self._show(plan)
        kind, label = node.listing["kind"], node.listing["label"]
        if kind == "teacher":
            self._check_teachers(plan)
        if kind == "trial":
            mates = [n for n in plan.nodes.values() if n.listing["label"] == label]
            trials = [n for n in mates if n.listing["kind"] == "trial"]
            self._changed |= all(self._state(n.id) or n.id in self._failed for n in trials)

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
        done = sum(self._state(i) is not None for i in plan.nodes)
        self.watcher.plan(len(plan.nodes), done, plan.open)

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
