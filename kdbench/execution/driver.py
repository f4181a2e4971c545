"""Run a plan: skip what is finished, continue what was begun, train what is missing.

The driver alone writes: records first, then it touches the tracker. Workers only compute.
Several drivers may run one study: each takes the runs whose records it can lock, and waits
for the others. The system releases the locks of a dead process.
"""

import time

from kdbench.execution.costs import CostMeasurement
from kdbench.execution.engines.protocol import Engine, Task
from kdbench.execution.grouping import Scheduler
from kdbench.execution.messages import MessageHandler, check_teachers
from kdbench.execution.protocols import ProgressReporter, RunTracker
from kdbench.execution.signals import StopRequest
from kdbench.execution.state import StudyState
from kdbench.records.plan_file import PlanFile
from kdbench.records.provenance import provenance
from kdbench.records.store import Store
from kdbench.records.workers import WorkersFile
from kdbench.study.plan import Plan
from kdbench.study.plan_file import plan_file
from kdbench.study.planner import Planner
from kdbench.tracking.optuna_log import OptunaLog

#: Runs scored by one task.
RUNS_PER_SCORING = 16


class StudyDriver:
    """One study being run.

    A `stop` that other code has entered already stops the driver too; without one, Ctrl-C and
    SIGTERM stop it while `run` works.
    """

    def __init__(
        self,
        planner: Planner,
        store: Store,
        engine: Engine,
        tracker: RunTracker,
        reporter: ProgressReporter,
        optuna_log: OptunaLog,
        retry: bool = True,
        stop: StopRequest | None = None,
    ) -> None:
        self.planner, self.store, self.engine = planner, store, engine
        device = engine.device
        self.reporter, self.optuna_log = reporter, optuna_log
        self.stop = stop or StopRequest()
        self.state = StudyState(planner, store, tracker, reporter, retry)
        self.scheduler = Scheduler(planner, store, engine)
        self.costs = CostMeasurement(self.state, engine, device)
        self.handler = MessageHandler(self.state, self.scheduler, self.costs, self.stop, device)
        self._workers_file = WorkersFile(store.plan_path(planner.study.name))
        self._logged_tunings: set[str] = set()
        self._announced_wait = self._announced_stop = False

    def run(self) -> PlanFile:
        """Run the study; the plan file as it stands at the end.

        Raises `Interrupted` after Ctrl-C or SIGTERM, `TeacherFailed` where a teacher diverged
        or failed. Other runs that fail are reported, keep their error in their record, and are
        left out.
        """
        provenance()  # the code as it is now, not as it may be when a run ends
        with self.stop:
            self.stop.on_request(self.engine.stop)
            try:
                return self._run()
            finally:
                self._workers_file.write({})
                self.state.locks.release_all()

    def _run(self) -> PlanFile:
        state = self.state
        while True:
            if state.plan_outdated:
                self._make_plan()
            if self.stop.requested:
                self._announce_stop()
            else:
                self._dispatch()
            if not (self._is_working() or state.plan_outdated):
                if self.stop.requested:
                    self._write_plan()
                    self.stop.check()
                if state.has_work():
                    pass  # as soon as a worker is idle
                elif state.plan_differs():
                    state.plan_outdated = True
                elif not state.locks.locked_elsewhere and not self.costs.start():
                    return self._write_plan()
            self._wait_for_other_drivers()
            self._workers_file.write(self.engine.doing())
            for message in self.engine.messages(0.5):
                self.handler.handle(message)

    def failures(self) -> dict[str, str]:
        """The error message of each run that failed, by the run's name."""
        nodes = self.state.plan.nodes
        return {
            nodes[i].listing.name if i in nodes else i: message
            for i, message in self.state.failed.items()
        }

    def _is_working(self) -> bool:
        return bool(self.state.training or self.state.scoring or self.costs.running)

    def _make_plan(self) -> None:
        self.state.make_plan()
        self.costs.drop_outdated()
        self._write_plan()
        self._log_trials(self.state.plan)
        self.state.read_earlier_starts()
        check_teachers(self.state)
        self.state.show_progress()

    def _write_plan(self) -> PlanFile:
        content = plan_file(self.planner, self.state.plan)
        content.dump(self.store.plan_path(self.planner.study.name))
        return content

    def _log_trials(self, plan: Plan) -> None:
        """Write the trials into the Optuna studies when the tuning of a row has ended."""
        tuned = {
            row.label
            for row in plan.rows
            if row.trials and (row.best_trial is not None or row.incompatible)
        }
        if tuned - self._logged_tunings:
            self.optuna_log.write(self.planner.study.name)
            self._logged_tunings = tuned

    def _dispatch(self) -> None:
        """Give every idle worker a cohort, or runs to score where none can be trained."""
        state = self.state
        while self.engine.idle() and not self.stop.requested:
            if cohort := self.scheduler.next(state.plan, state.ready()):
                if begun := [node for node in cohort if state.begin(node)]:
                    specs = tuple(node.spec for node in begun)
                    self.engine.submit(Task("train", specs, layers_read=state.layers_read(specs)))
                continue
            unscored = list(state.unscored())[:RUNS_PER_SCORING]
            if not unscored:
                return
            if locked := [node for node in unscored if state.locks.lock_run(node.id)]:
                state.scoring |= {node.id for node in locked}
                self.engine.submit(Task("score", tuple(node.spec for node in locked)))

    def _wait_for_other_drivers(self) -> None:
        """While only other drivers have work, wait; every second try again for their runs."""
        locks = self.state.locks
        if locks.locked_elsewhere and not self._is_working():
            if not self._announced_wait and not self.stop.requested:
                self._announced_wait = True
                count = len(locks.locked_elsewhere)
                self.reporter.log(
                    f"waiting for {count} run{'s' * (count != 1)} that another process works on ..."
                )
            time.sleep(0.1)
        for run_id in locks.forget_old():
            self.state.plan_outdated |= self.state.result_state(run_id) is not None

    def _announce_stop(self) -> None:
        # Not in the signal handler, which may have interrupted another print.
        if not self._announced_stop:
            self._announced_stop = True
            self.reporter.log("stopping: finishing the step and keeping the last epoch ...")
