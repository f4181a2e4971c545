"""Having the cost of each method measured, once per study and machine."""

from typing import Any

from kdbench.execution.engines.protocol import CostsMeasured, Engine, Task
from kdbench.execution.state import StudyState
from kdbench.records.costs import read_costs, write_costs
from kdbench.records.provenance import provenance

#: The name of the lock that the process holds which measures.
LOCK = "cost"


class CostMeasurement:
    """One worker measures each method alone while nothing else runs."""

    def __init__(self, state: StudyState, engine: Engine, device: str) -> None:
        self.state, self.engine, self.device = state, engine, device
        #: Whether a worker measures now.
        self.running = False
        self._tried = False

    @property
    def study(self) -> Any:
        """The study whose methods are measured."""
        return self.state.planner.study

    @property
    def machine(self) -> str:
        """What the costs are true for."""
        return f"{provenance()['hardware']}, {self.device}"

    def start(self) -> bool:
        """Submit the measurement if costs are missing; whether there is one to wait for."""
        state = self.state
        specs = {
            row.label: state.plan.nodes[run].spec
            for row in state.plan.rows
            if row.row != "tuned"
            for run in list(row.runs.values())[:1]
            if state.is_done(run)
        }
        reference = self.study.report.reference
        path = state.store.costs_path(self.study.name)
        measured = read_costs(path)
        # Workers on other machines have measured for theirs.
        here = measured.get("machine") == self.machine or self.engine.remote
        if reference not in specs or (here and set(specs) <= set(measured.get("rows", ()))):
            return False
        if self._tried:
            return False
        if not self.engine.idle():
            return True  # a worker has sent its last result, but not yet that it is idle
        if not state.locks.lock_file(LOCK, path.with_suffix(".lock")):
            return True  # another driver measures; its file is read in a moment
        self._tried = self.running = True
        state.reporter.log("measuring what each method costs ...")
        runs = tuple(specs.values())
        self.engine.submit(
            Task("measure_costs", runs, tuple(specs), reference, state.layers_read(runs))
        )
        return True

    def finish(self, message: CostsMeasured) -> None:
        """Write the costs, and have the final runs show them."""
        self._end()
        if message.rows:
            path = self.state.store.costs_path(self.study.name)
            machine = f"{message.hardware}, {self.device}" if message.hardware else self.machine
            write_costs(path, machine, message.rows)
        for node in self.state.plan.nodes.values():
            if node.listing.kind == "final":
                self.state.tracker.touch(node.id, node.listing)

    def give_up(self) -> None:
        """The worker that measured was lost: another one may."""
        self._end()
        self._tried = False

    def fail(self, error: dict[str, Any]) -> None:
        """Report why costs could not be measured. No run has failed by that: all are finished.
        An error is sent for each run of the task, and the first is reported."""
        if self.running:
            self.state.reporter.log(f"costs could not be measured: {error['message']}")
        self._end()

    def _end(self) -> None:
        self.running = False
        self.state.locks.release(LOCK)
