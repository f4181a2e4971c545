"""How a plan's runs get the outputs of frozen networks: from the cache, or live."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kdbench import models
from kdbench.data import VIEWS, TrainingData
from kdbench.methods import METHODS
from kdbench.methods.layers import layers_of_run
from kdbench.records.spec import RunSpec, uses_cache
from kdbench.study.plan import Plan


@dataclass
class TeacherOutputs:
    """Where the teacher outputs of each run come from. A run never changes, so each is looked
    at once."""

    data: TrainingData
    #: By run: the layers read from the cache of each frozen run.
    _layers: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    #: By run: `cache` or `live` for each role.
    _access: dict[str, dict[str, str]] = field(default_factory=dict)

    def access(self, plan: Plan, run_id: str) -> Mapping[str, str]:
        """`cache` or `live` for each role that another run fills."""
        self._look_at(plan, plan.nodes[run_id].spec)
        return self._access[run_id]

    def layers_read(self, plan: Plan) -> dict[str, tuple[str, ...]]:
        """The layers that the plan's runs read from the cache of each frozen run."""
        layers_read: dict[str, set[str]] = {}
        for node in plan.nodes.values():
            self._look_at(plan, node.spec)
            for frozen, layers in self._layers[node.id].items():
                layers_read.setdefault(frozen, set()).update(layers)
        return {frozen: tuple(sorted(layers)) for frozen, layers in layers_read.items()}

    def _look_at(self, plan: Plan, spec: RunSpec) -> None:
        if spec.id in self._access:
            return
        shape, classes = self.data.shape, self.data.classes
        views = VIEWS[spec.data.augment]

        def model_of(run_id: str) -> str:
            return plan.nodes[run_id].spec.models["student"]

        method = METHODS[spec.method](**spec.hparams)
        layers = layers_of_run(spec, method, model_of, shape, classes)
        access, layers_read = {}, {}
        for role, run_id in spec.frozen_runs.items():
            shapes = models.feature_shapes(model_of(run_id), shape, classes)
            chosen = {layer: shapes[layer] for layer in layers}
            cached = uses_cache(spec, len(self.data.labels), views, chosen)
            cached &= not method.asks_live(role)
            access[role] = "cache" if cached else "live"
            if cached:
                layers_read[run_id] = layers
        self._access[spec.id], self._layers[spec.id] = access, layers_read
