"""How far a study is: which runs are ready, running, finished or failed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from kdbench.execution.locks import RunLocks
from kdbench.execution.protocols import ProgressReporter, RunTracker
from kdbench.records.spec import RunSpec
from kdbench.records.store import Store
from kdbench.study.plan import Node, Plan
from kdbench.study.planner import Planner


@dataclass
class StudyState:
    """The plan of a study and what has become of its runs, as one driver knows it.

    The records are the truth; a state holds what they cannot say: what this driver is doing,
    and what failed since it started. With `retry` runs that failed earlier are tried again.
    """

    planner: Planner
    store: Store
    tracker: RunTracker
    reporter: ProgressReporter
    retry: bool = True
    plan: Plan = field(default_factory=Plan)
    #: The plan has to be made anew, as trials have ended here or in another process.
    plan_outdated: bool = True
    #: Ids of the runs that this driver's workers train, and of those that they score.
    training: set[str] = field(default_factory=set)
    scoring: set[str] = field(default_factory=set)
    #: The message of each run that failed.
    failed: dict[str, str] = field(default_factory=dict)
    _result_states: dict[str, str] = field(default_factory=dict)
    #: Errors that were in the records when this driver started, or that it has written.
    _known_errors: dict[str, Any] = field(default_factory=dict)
    #: The layers whose cached outputs the plan's runs read, of each frozen run.
    _layers_read: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.locks = RunLocks(self.store)

    # -- the plan

    def make_plan(self) -> None:
        """Plan anew from the records."""
        self.plan = self.planner.plan()
        self._layers_read = self.planner.outputs.layers_read(self.plan)
        self.plan_outdated = False

    def plan_differs(self) -> bool:
        """Whether a plan made now would differ: another driver may have ended trials."""
        now = self.planner.plan()
        return (now.nodes.keys(), now.open) != (self.plan.nodes.keys(), self.plan.open)

    def layers_read(self, specs: Iterable[RunSpec]) -> dict[str, tuple[str, ...]]:
        """The layers whose cached outputs the whole plan reads, of each run that `specs` freeze."""
        frozen = {run for spec in specs for run in spec.frozen_runs.values()}
        return {run: layers for run, layers in self._layers_read.items() if run in frozen}

    def read_earlier_starts(self) -> None:
        """Note the errors of earlier starts; without `retry` their runs have failed. Touch the
        runs that had ended: whoever trained them may have died before MLflow showed it."""
        for run_id in self.plan.nodes.keys() - self._known_errors.keys():
            if self.result_state(run_id):
                self.tracker.touch(run_id, self.plan.nodes[run_id].listing)
            error = self.store.record(run_id).error
            self._known_errors[run_id] = error
            if error is not None and not self.retry and not self.result_state(run_id):
                self.failed[run_id] = error["message"]

    # -- the runs

    def ready(self) -> Iterator[Node]:
        """Runs that can be trained: what they freeze is finished, and no process trains them."""
        for node in self.plan.nodes.values():
            if node.id in self.training or self.result_state(node.id):
                continue
            if self._is_free(node) and all(map(self.is_done, node.spec.frozen_runs.values())):
                yield node

    def unscored(self) -> Iterator[Node]:
        """Finished runs whose test scores are missing."""
        for node in self.plan.nodes.values():
            if not node.score or node.id in self.scoring or not self._is_free(node):
                continue
            if self.is_done(node.id) and self.store.record(node.id).test is None:
                yield node

    def _is_free(self, node: Node) -> bool:
        return node.id not in self.failed and node.id not in self.locks.locked_elsewhere

    def has_work(self) -> bool:
        """Whether a run can be trained or scored."""
        return any(True for _ in chain(self.ready(), self.unscored()))

    def result_state(self, run_id: str) -> str | None:
        """`done` or `diverged`, or None while unfinished. A result never changes."""
        if run_id not in self._result_states:
            result = self.store.record(run_id).result
            if result is None:
                return None
            self._result_states[run_id] = result["state"]
        return self._result_states[run_id]

    def is_done(self, run_id: str) -> bool:
        """Whether a run is finished and has weights."""
        return self.result_state(run_id) == "done"

    def is_settled(self, node: Node) -> bool:
        """Whether a run will not change any more: finished, failed, or never to be trained as
        what it freezes diverged."""
        if self.result_state(node.id) or node.id in self.failed:
            return True
        return self.planner.graph.diverged_source(self.plan, node.id) is not None

    # -- what happens to them

    def begin(self, node: Node) -> bool:
        """Lock a run and begin its record; False where another driver has it, or has just
        finished or tried it."""
        if not self.locks.lock_run(node.id):
            return False
        record = self.store.record(node.id)
        error = record.error
        finished = record.result is not None
        tried = error is not None and error != self._known_errors.get(node.id)
        if finished or tried:
            if error is not None and not finished:
                self.failed[node.id] = error["message"]
            self.locks.release(node.id)
            self.plan_outdated = True
            return False
        record.begin(node.spec)
        self.training.add(node.id)
        self.tracker.touch(node.id, node.listing)
        return True

    def fail(self, node: Node, error: dict[str, Any]) -> None:
        """Write a run's error into its record; the run is left out from now on."""
        self.store.record(node.id).fail(error)
        self.failed[node.id] = error["message"]
        self._known_errors[node.id] = error
        self.scoring.discard(node.id)
        self.end(node)

    def give_up(self, run_id: str) -> None:
        """Unlock a run that is not trained any more and has not ended."""
        self.training.discard(run_id)
        self.locks.release(run_id)

    def end(self, node: Node) -> None:
        """Unlock a run that has ended. The plan changes only once all trials of a row that have
        been planned have ended, so it is not made anew after each run."""
        self.give_up(node.id)
        self.show_progress()
        kind, label = node.listing.kind, node.listing.label
        if kind == "trial" or (kind == "stage" and self.result_state(node.id) == "diverged"):
            of_label = [n for n in self.plan.nodes.values() if n.listing.label == label]
            trials = [n for n in of_label if n.listing.kind == "trial"]
            self.plan_outdated |= all(map(self.is_settled, trials))

    def show_progress(self) -> None:
        """Report how many runs have ended, and how much of the compute that is."""
        nodes = self.plan.nodes.values()
        ended = [node for node in nodes if self.result_state(node.id)]
        work = sum(self.planner.work(node.spec) for node in nodes)
        work_done = sum(self.planner.work(node.spec) for node in ended)
        self.reporter.update(len(nodes), len(ended), work, work_done)
