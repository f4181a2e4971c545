"""Which runs are trained together next: those that can share batches, as many as pay."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from kdbench.execution.engines.protocol import Engine
from kdbench.records.store import Store
from kdbench.study.plan import Node, Plan
from kdbench.study.planner import Planner

#: Runs trained together at the most: enough to share a live teacher, few enough to balance.
MAX_COHORT = 12
#: Runs that one worker may always have together, though others have none.
SMALL_COHORT = 3


@dataclass
class Scheduler:
    """Groups runs that are ready, and hands them out."""

    planner: Planner
    store: Store
    engine: Engine
    #: The largest cohort that a run may train in, where a worker was killed over a larger one.
    _max_cohort: dict[str, int] = field(default_factory=dict)
    #: The plan of which `_ahead` is true.
    _ahead_of: Plan | None = None
    _ahead: dict[str, float] = field(default_factory=dict)

    def limit(self, run_id: str, size: int) -> None:
        """From now on train a run in cohorts of at most `size`."""
        self._max_cohort[run_id] = size

    def next(self, plan: Plan, ready: Iterable[Node]) -> list[Node]:
        """The cohort that an idle worker trains next; empty where no run is ready."""
        groups: dict[Any, list[Node]] = defaultdict(list)
        for node in ready:
            groups[self._grouping_key(node)].append(node)
        if not groups:
            return []
        # The longest chain of runs that wait for one another goes first, then the longest runs.
        ahead = self._work_ahead(plan)

        def priority(nodes: list[Node]) -> tuple[float, int, int]:
            chain = max(ahead[node.id] for node in nodes)
            return (chain, nodes[0].spec.recipe.epochs, len(nodes))

        group = max(groups.values(), key=priority)
        size = min(MAX_COHORT, self._max_cohort.get(group[0].id, MAX_COHORT))
        if self.engine.device == "cpu" and not self._uses_live_outputs(plan, group):
            size = min(size, self._fair_share(groups.values(), group))
        else:
            # A cohort that shares live forward passes, or a GPU, is the better the larger it is,
            # but the last runs are for all workers.
            runs = sum(map(len, groups.values()))
            last = max(SMALL_COHORT, -(-runs // self.engine.size))
            size = min(size, last, -(-len(group) // max(1, self.engine.idle())))
        return group[:size]

    def _work_ahead(self, plan: Plan) -> dict[str, float]:
        """The work of the longest chain of runs that each run begins, its own not counted: each
        learns from the one before. It is 0 where no run waits for it."""
        if self._ahead_of is not plan:
            waiting: dict[str, list[Node]] = defaultdict(list)
            for node in plan.nodes.values():
                for run in node.spec.frozen_runs.values():
                    waiting[run].append(node)

            @cache
            def ahead(run: str) -> float:
                return max(
                    (self.planner.work(node.spec) + ahead(node.id) for node in waiting[run]),
                    default=0.0,
                )

            self._ahead_of, self._ahead = plan, {run: ahead(run) for run in plan.nodes}
        return self._ahead

    def _fair_share(self, groups: Iterable[list[Node]], group: list[Node]) -> int:
        """How many of a group's runs to hand out together: cohorts become smaller as less work
        remains, so that the workers end at about the same time."""
        remaining = sum(self.planner.work(n.spec) for nodes in groups for n in nodes)
        per_run = self.planner.work(group[0].spec)
        return max(1, int(remaining / (2 * self.engine.size * per_run)))

    def _uses_live_outputs(self, plan: Plan, nodes: list[Node]) -> bool:
        """Whether any of these runs runs a frozen network on each batch."""
        access = self.planner.outputs.access
        return any("live" in access(plan, node.id).values() for node in nodes)

    def _grouping_key(self, node: Node) -> tuple[Any, ...]:
        """What runs must have in common to be trained together: the same batches, as many
        epochs, and as many of them done."""
        spec = node.spec
        recipe = {**spec.recipe.__dict__, "lr": None}
        return (
            tuple(spec.data.__dict__.values()),
            spec.models["student"],
            tuple(recipe.values()),
            spec.seed,
            spec.lineage,
            len(self.store.record(node.id).epochs()),
            self._max_cohort.get(node.id),
        )
