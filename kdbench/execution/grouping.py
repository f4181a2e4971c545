"""Which runs are trained together next: those that can share batches, as many as pay."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kdbench.execution.engines import Engine
from kdbench.records.store import Store
from kdbench.study import Node, Plan, Planner

#: Runs in a cohort at the most: enough to share a live teacher, few enough to balance.
COHORT = 12


@dataclass
class Scheduler:
    """Groups runs that are ready, and hands them out."""

    planner: Planner
    store: Store
    engine: Engine
    device: str
    #: The largest cohort that a run may train in, where a larger one was killed.
    _most: dict[str, int] = field(default_factory=dict)

    def limit(self, run_id: str, size: int) -> None:
        """From now on train a run with fewer mates."""
        self._most[run_id] = size

    def next(self, plan: Plan, ready: Iterable[Node]) -> list[Node]:
        """A cohort for an idle worker; empty where nothing is ready."""
        groups: dict[Any, list[Node]] = defaultdict(list)
        for node in ready:
            groups[self._company(node)].append(node)
        if not groups:
            return []
        # What others wait for goes first, then what takes longest.
        waited = {i for node in plan.nodes.values() for i in node.spec.frozen_runs.values()}

        def weight(nodes: list[Node]) -> tuple[int, int, int]:
            needed = sum(node.id in waited for node in nodes)
            return (needed, nodes[0].spec.recipe.epochs, len(nodes))

        group = max(groups.values(), key=weight)
        most = min(COHORT, self._most.get(group[0].id, COHORT))
        if self.device == "cpu" and not self._live(plan, group):
            most = min(most, self._fair_share(groups.values(), group))
        else:
            # A cohort that shares live forwards, or a GPU, is the better the larger it is.
            most = min(most, -(-len(group) // max(1, self.engine.idle())))
        return group[:most]

    def _fair_share(self, groups: Iterable[list[Node]], group: list[Node]) -> int:
        """How many of a group's runs to hand out together: cohorts become smaller as less is
        left, so that the workers end at about the same time."""
        left = sum(self.planner.work(n.spec) for nodes in groups for n in nodes)
        one = self.planner.work(group[0].spec)
        return max(1, int(left / (2 * self.engine.size * one)))

    def _live(self, plan: Plan, nodes: list[Node]) -> bool:
        """Whether a frozen network is asked batch by batch by some of these runs."""
        ways = self.planner.outputs.ways
        return any("live" in ways(plan, node.id).values() for node in nodes)

    def _company(self, node: Node) -> tuple[Any, ...]:
        """What runs must share to train in lockstep: batches, length, and epochs done."""
        spec = node.spec
        recipe = {**spec.recipe.__dict__, "lr": None}
        return (
            tuple(spec.data.__dict__.values()),
            spec.models["student"],
            tuple(recipe.values()),
            spec.seed,
            spec.lineage,
            len(self.store.record(node.id).epochs()),
            self._most.get(node.id),
        )
