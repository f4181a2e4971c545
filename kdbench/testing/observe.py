"""Train a run and look at it after every step."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from torch import Tensor, nn

from kdbench.testing.world import Outcome, World
from kdbench.training import loop
from kdbench.training.batches import SharedBatch
from kdbench.training.context import TrainingContext, TrainingJob
from kdbench.training.run import TrainingRun

State = dict[str, Tensor]


@dataclass
class ObservedRun:
    """What was seen of one run.

    By role: `start` are the first weights, `start_storage` the addresses of the tensors,
    `training_modes` and `needs_grad` what the layers of each network were and gave in the
    training steps. `moved` names the parameters that a gradient has reached.
    """

    run: TrainingRun
    start: dict[str, State]
    start_storage: dict[str, set[int]]
    moved: set[str] = field(default_factory=set)
    steps: int = 0
    stepping: bool = False
    training_modes: dict[str, set[bool]] = field(default_factory=lambda: defaultdict(set))
    needs_grad: dict[str, set[bool]] = field(default_factory=lambda: defaultdict(set))

    def trainable(self) -> dict[str, nn.Parameter]:
        """All parameters that the run trains, by role and name; a classifier that the student's
        head replaces is not trained."""
        networks = self.run.networks
        modules = {**networks.trained, "helpers": networks.helpers}
        named = {f"{r}.{n}": p for r, m in modules.items() for n, p in m.named_parameters()}
        return {name: p for name, p in named.items() if p.requires_grad}

    def untrained(self) -> dict[str, nn.Module]:
        """The networks that get no gradient, by role."""
        return untrained(self.run)

    def modules(self) -> dict[str, nn.Module]:
        """All networks and the helpers, by role."""
        return modules(self.run)


def untrained(run: TrainingRun) -> dict[str, nn.Module]:
    """Frozen networks, snapshots and averages, by role."""
    frozen = {role: teacher.model for role, (teacher, _) in run.networks.teachers.items()}
    return {**frozen, **run.networks.followers}


def modules(run: TrainingRun) -> dict[str, nn.Module]:
    """All networks of a run and its helper modules, by role."""
    return {**run.networks.trained, "helpers": run.networks.helpers, **untrained(run)}


def storages(module: nn.Module) -> set[int]:
    """The addresses of a module's tensors."""
    return {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}


def observe(world: World, job: TrainingJob) -> tuple[ObservedRun, Outcome]:
    """Train a run alone and look at it after every step."""
    runs: list[ObservedRun] = []

    class WatchedRun(TrainingRun):
        def __init__(self, job: TrainingJob, context: TrainingContext) -> None:
            super().__init__(job, context)
            every = modules(self)
            start = {
                role: {k: v.clone() for k, v in m.state_dict().items()} for role, m in every.items()
            }
            self.observed = ObservedRun(self, start, {r: storages(m) for r, m in every.items()})
            runs.append(self.observed)
            networks: Mapping[str, nn.Module] = {**self.networks.extractors, **untrained(self)}
            for role, network in networks.items():
                for part in network.modules():
                    if not list(part.children()):
                        part.register_forward_hook(_recorder(self.observed, role))

        def step(self, batch: SharedBatch) -> None:
            self.observed.stepping = True
            super().step(batch)
            self.observed.stepping = False
            self.observed.steps += 1
            for name, parameter in self.observed.trainable().items():
                if parameter.grad is not None and parameter.grad.abs().sum() > 0:
                    self.observed.moved.add(name)

    with mock.patch.object(loop, "TrainingRun", WatchedRun):
        outcome = world.alone(job)
    if not runs:
        raise AssertionError(f"the run could not start: {_reason(outcome)}")
    return runs[0], outcome


def _recorder(observed: ObservedRun, role: str) -> Callable[..., None]:
    def record(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        if observed.stepping:
            observed.training_modes[role].add(module.training)
            observed.needs_grad[role].add(output.requires_grad)

    return record


def _reason(outcome: Outcome) -> str:
    return outcome.failed.error["message"] if outcome.failed else "no reason was given"
