"""How a plan's runs get at the outputs of frozen networks: from tables, or live."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kdbench import models
from kdbench.data import VIEWS, TrainingData
from kdbench.methods import METHODS
from kdbench.methods.layers import layers_of_run
from kdbench.records.spec import RunSpec, uses_cache
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
        """The layers that the plan's runs read from the tables of each frozen run."""
        found: dict[str, set[str]] = {}
        for node in plan.nodes.values():
            self._look(plan, node.spec)
            for frozen, layers in self._read[node.id].items():
                found.setdefault(frozen, set()).update(layers)
        return {frozen: tuple(sorted(layers)) for frozen, layers in found.items()}

    def _look(self, plan: Plan, spec: RunSpec) -> None:
        if spec.id in self._ways:
            return
        shape, classes = self.data.shape, self.data.classes

        def model_of(run_id: str) -> str:
            return plan.nodes[run_id].spec.models["student"]

        method = METHODS[spec.method](**spec.hparams)
        layers = layers_of_run(spec, method, model_of, shape, classes)
        ways, read = {}, {}
        for role, run_id in spec.frozen_runs.items():
            known = models.feature_shapes(model_of(run_id), shape, classes)
            table = uses_cache(
                spec,
                len(self.data.labels),
                VIEWS[spec.data.augment],
                {layer: known[layer] for layer in layers},
            )
            ways[role] = "cache" if table else "live"
            if table:
                read[run_id] = layers
        self._ways[spec.id], self._read[spec.id] = ways, read
