"""How a plan's runs get at the outputs of frozen networks: from tables, or live."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kdbench import models
from kdbench.data.load import TrainingData
from kdbench.methods import METHODS
from kdbench.methods.taps import taps_of_run
from kdbench.records.spec import RunSpec, tabled
from kdbench.study.plan import Plan


@dataclass
class Outputs:
    """What is known of the runs asked for so far; a run never changes, so each is looked at
    once."""

    data: TrainingData
    _read: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    _ways: dict[str, dict[str, str]] = field(default_factory=dict)

    def ways(self, plan: Plan, run_id: str) -> Mapping[str, str]:
        """`table` or `live` for each role that another run fills."""
        self._look(plan, plan.nodes[run_id].spec)
        return self._ways[run_id]

    def read(self, plan: Plan) -> dict[str, tuple[str, ...]]:
        """The taps that the plan's runs read from the tables of each frozen run."""
        found: dict[str, set[str]] = {}
        for node in plan.nodes.values():
            self._look(plan, node.spec)
            for frozen, taps in self._read[node.id].items():
                found.setdefault(frozen, set()).update(taps)
        return {frozen: tuple(sorted(taps)) for frozen, taps in found.items()}

    def _look(self, plan: Plan, spec: RunSpec) -> None:
        if spec.id in self._ways:
            return
        shape, classes = self.data.shape, self.data.classes

        def model_of(run_id: str) -> str:
            return plan.nodes[run_id].spec.models["student"]

        method = METHODS[spec.method](**spec.knobs)
        taps = taps_of_run(spec, method, model_of, shape, classes)
        ways, read = {}, {}
        for role, run_id in spec.frozen.items():
            known = models.taps_of(model_of(run_id), shape, classes)
            table = tabled(spec, len(self.data.labels), {tap: known[tap] for tap in taps})
            ways[role] = "table" if table else "live"
            if table:
                read[run_id] = taps
        self._ways[spec.id], self._read[spec.id] = ways, read
