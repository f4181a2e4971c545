"""Having the cost of each method measured, once per study and machine."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from kdbench.execution.engines.protocol import CostsMeasured, Engine, Task
from kdbench.execution.state import StudyState
from kdbench.records.costs import over_reference, read_costs, write_costs
from kdbench.records.provenance import hardware
from kdbench.records.spec import RunSpec, digest

#: The name of the lock that the process holds which measures.
LOCK = "cost"
#: The row of the study's teacher, in the file of costs and on the leaderboard.
TEACHER = "teacher"


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
        return f"{hardware(self.device)}, {self.device}"

    def start(self) -> bool:
        """Submit the measurement if costs are missing or are of other runs than the study's;
        whether there is one to wait for."""
        state, specs = self.state, self._rows()
        reference = self.study.report.reference
        path = state.store.costs_path(self.study.name)
        measured = read_costs(path)
        # Workers on other machines have measured for theirs.
        here = measured.get("machine") == self.machine or self.engine.remote
        known = all(
            "training" in measured.get("rows", {}).get(label, {})
            and measured.get("measured", {}).get(label) == self._measured_of(spec)
            for label, spec in {**specs, **self._teacher()}.items()
        )
        if reference not in specs or (here and known):
            return False
        if self._tried:
            return False
        if not self.engine.idle():
            return True  # a worker has sent its last result, but not yet that it is idle
        if not state.locks.lock_file(LOCK, path.with_suffix(".lock")):
            return True  # another driver measures; its file is read in a moment
        self._tried = self.running = True
        state.reporter.log("measuring what each method costs ...")
        stages = {s.id: s for spec in specs.values() for s in self._trained_first(spec)}
        jobs = {**specs, **stages, **self._teacher()}
        runs = tuple(jobs.values())
        self.engine.submit(
            Task("measure_costs", runs, tuple(jobs), reference, state.layers_read(runs))
        )
        return True

    def drop_outdated(self) -> None:
        """Leave out of the file what was measured of other runs than the plan's, and give the
        rest over the plan's reference: the reports read it beside the plan."""
        path = self.state.store.costs_path(self.study.name)
        costs = read_costs(path)
        if not costs:
            return
        of = costs.get("measured", {})
        plan = self.state.plan
        specs = self._planned()
        for teacher in list(plan.teachers.values())[:1]:
            specs[TEACHER] = plan.nodes[teacher].spec
        now = {label: self._measured_of(spec) for label, spec in specs.items()}
        rows = {
            label: row
            for label, row in costs["rows"].items()
            if label not in now or of.get(label, now[label]) == now[label]
        }
        rows = over_reference(rows, self.study.report.reference)
        if rows != costs["rows"]:
            write_costs(path, costs.get("machine", ""), rows, {k: of[k] for k in rows if k in of})

    def _measured_of(self, spec: RunSpec) -> str:
        """A digest of what a run's cost depends on: all but its seed and learning rate, and the
        same of the runs that are trained before it."""
        value = json.loads(spec.canonical())
        del value["seed"], value["recipe"]["lr"]
        nodes = self.state.plan.nodes
        frozen = value["frozen_runs"].items()
        value["frozen_runs"] = {k: self._measured_of(nodes[run].spec) for k, run in frozen}
        return digest(value)

    def _planned(self) -> dict[str, RunSpec]:
        """The first final run of each method, by label."""
        plan = self.state.plan
        return {
            row.label: plan.nodes[run].spec
            for row in plan.rows
            if row.row != "tuned"
            for run in list(row.runs.values())[:1]
        }

    def _rows(self) -> dict[str, RunSpec]:
        """Those of them that are done."""
        done = self.state.is_done
        return {label: spec for label, spec in self._planned().items() if done(spec.id)}

    def _trained_first(self, spec: RunSpec) -> Iterable[RunSpec]:
        """The runs that are trained for a run before it and whose weights it needs: earlier
        generations, assistants, further teachers. The study's teacher is not among them."""
        for run in dict.fromkeys(spec.frozen_runs.values()):
            node = self.state.plan.nodes[run]
            if node.listing.kind != TEACHER:
                yield node.spec
                yield from self._trained_first(node.spec)

    def _teacher(self) -> dict[str, RunSpec]:
        """The study's teacher, or nothing where its weights were given."""
        nodes = [self.state.plan.nodes[run] for run in self.state.plan.teachers.values()]
        trained = [node.spec for node in nodes if self.state.is_done(node.id)]
        return {} if not trained or trained[0].given_weights else {TEACHER: trained[0]}

    def _with_training(self, measured: Mapping[str, Any]) -> dict[str, Any]:
        """The rows with the steps of all that is trained for each, over those of the reference;
        without what was measured for their sake alone."""

        def steps(label: str) -> float:
            return float(measured[label]["relative"] * measured[label]["steps"])

        whole = {
            label: steps(label) + sum(steps(s) for s in {s.id for s in self._trained_first(spec)})
            for label, spec in {**self._rows(), **self._teacher()}.items()
            if label in measured
        }
        of_reference = whole[self.study.report.reference]
        return {k: {**measured[k], "training": cost / of_reference} for k, cost in whole.items()}

    def finish(self, message: CostsMeasured) -> None:
        """Write the costs, and have the final runs show them."""
        self._end()
        if message.rows:
            path = self.state.store.costs_path(self.study.name)
            machine = f"{message.hardware}, {self.device}" if message.hardware else self.machine
            rows = self._with_training(message.rows)
            specs = {**self._rows(), **self._teacher()}
            of = {label: self._measured_of(specs[label]) for label in rows}
            write_costs(path, machine, rows, of)
        for node in self.state.plan.nodes.values():
            if node.listing.kind in ("final", TEACHER):
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
