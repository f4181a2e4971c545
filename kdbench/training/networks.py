"""The networks of one run: built from its method's sources, seeded by role."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdbench import models
from kdbench.data import VIEWS
from kdbench.methods.layers import shapes_of_run
from kdbench.methods.networks import Average, Frozen, RoleModels, Shared, Snapshot, Source, Trained
from kdbench.records.spec import uses_cache
from kdbench.training import seeds
from kdbench.training.context import TrainingContext, TrainingJob
from kdbench.training.ema import Ema
from kdbench.training.running_mean import RunningMean
from kdbench.training.teachers import HEAD, TeacherNetwork


@dataclass(frozen=True)
class RunNetworks:
    """The networks of a run by role, and the method's helper modules.

    `trained` are moved by the optimiser; `followers` are the snapshots and averages of
    trained ones; `teachers` are frozen, each with whether its outputs come from the cache.
    `extractors` answer logits and features for every trained network and follower, and hold
    the same parameters. `head` is the helper module that answers for the student, if one does.
    `ema` is the running mean of the student's extractor that is used in its place after training,
    if the recipe asks for one.
    """

    sources: dict[str, Source]
    trained: dict[str, nn.Module]
    followers: dict[str, Any]
    teachers: dict[str, tuple[TeacherNetwork, bool]]
    helpers: nn.ModuleDict
    extractors: dict[str, nn.Module]
    head: nn.Module | None
    ema: Ema | None

    def in_training(self) -> list[str]:
        """The roles whose networks work in train mode."""
        return [role for role, s in self.sources.items() if isinstance(s, Trained | Shared)]

    def trainable(self) -> list[nn.Parameter]:
        """All parameters that the optimiser moves, helpers included."""
        modules = (*self.trained.values(), self.helpers)
        return [p for m in modules for p in m.parameters() if p.requires_grad]

    @property
    def scored(self) -> nn.Module:
        """What answers for the student as it is used after training."""
        return self.extractors["student"] if self.ema is None else self.ema.mean

    def deployed(self) -> dict[str, Tensor]:
        """The tensors of the student as it is used after training, those of its head included."""
        student, head = self.trained["student"], self.head
        if self.ema is not None:
            student = mean = self.ema.mean
            if isinstance(mean, models.HeadedModel):
                student, head = mean.network, mean.head
        of_head = head.state_dict() if head is not None else {}
        named = {f"{HEAD}{name}": value for name, value in of_head.items()}
        return {**student.state_dict(), **named}

    def tensors(self) -> list[Tensor]:
        """Parameters and buffers of all trained networks, followers, means and helpers."""
        modules = [*self.trained.values(), *self.followers.values(), self.helpers]
        modules += [self.ema.mean] if self.ema is not None else []
        return [t for m in modules for t in (*m.parameters(), *m.buffers())]

    def learned_from(self) -> dict[str, str]:
        """The SHA-256 of each teacher's weights, by its run."""
        return {teacher.run_id: teacher.checksum for teacher, _ in self.teachers.values()}

    def train(self) -> None:
        """Put trained networks and helpers into train mode; followers stay in eval mode."""
        for role, network in self.trained.items():
            network.train()
            self.extractors[role].train()
        self.helpers.train()

    def update_averages(self) -> None:
        """Move every running mean towards the network that it follows."""
        for role, source in self.sources.items():
            if isinstance(source, Average):
                self.followers[role].update_parameters(self.trained[source.of])
        if self.ema is not None:
            self.ema.update()

    def renew_snapshots(self) -> None:
        """Copy the trained networks into their snapshots."""
        for role, source in self.sources.items():
            if isinstance(source, Snapshot):
                self.followers[role].load_state_dict(self.trained[source.of].state_dict())


def build_networks(job: TrainingJob, context: TrainingContext) -> RunNetworks:
    """Build the networks of a run with their first weights, on the context's device.

    Raises `Incompatible` where the method cannot serve these models.
    """
    sources = dict(job.method.networks())
    trained = {
        role: _first_weights(job, context, role, source.slot)
        for role, source in sources.items()
        if isinstance(source, Trained)
    }
    followers = {
        role: _follower(source, trained[source.of])
        for role, source in sources.items()
        if isinstance(source, Snapshot | Average)
    }
    spec, data = job.spec, context.data
    frozen = {
        role: context.teacher(spec, role)
        for role, source in sources.items()
        if isinstance(source, Frozen)
    }
    role_models = RoleModels(
        sources, spec.models.__getitem__, lambda role, _: frozen[role].model_name
    )
    by_role = role_models.by_role()
    shapes = shapes_of_run(by_role, job.layers, data.shape, data.classes, len(data.labels))
    views = VIEWS[spec.data.augment]

    def cached(role: str) -> bool:
        cacheable = uses_cache(spec, len(data.labels), views, shapes.features[role])
        return cacheable and not job.method.asks_live(role)

    teachers = {role: (teacher, cached(role)) for role, teacher in frozen.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(job, "helpers"))
        helpers = job.method.helpers(shapes).to(context.device)
    extractors: dict[str, nn.Module] = {
        role: models.with_features(_inner(network), job.layers)
        for role, network in (trained | followers).items()
    }
    for role in followers:
        extractors[role].eval()
    head = job.method.head(helpers)
    if head is not None:
        student = trained["student"]
        sizes = (by_role["student"], data.shape, data.classes)
        for name in models.unused_parameters(*sizes, job.layers, head):
            student.get_parameter(name).requires_grad_(False)
        extractors["student"] = models.with_head(student, job.layers, head)
    for role, source in sources.items():
        if isinstance(source, Shared):
            extractors[role] = extractors[source.of]
    decay = spec.recipe.ema
    ema = Ema(extractors["student"], decay) if decay else None
    return RunNetworks(sources, trained, followers, teachers, helpers, extractors, head, ema)


def _first_weights(job: TrainingJob, context: TrainingContext, role: str, slot: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(job, role))
        network = models.build(job.spec.models[slot], context.data.shape, context.data.classes)
    return models.to_device(network, context.device)


def _seed(job: TrainingJob, role: str) -> int:
    return seeds.integers(seeds.stream(job.spec, "weights", role), 1)[0]


def _follower(source: Snapshot | Average, network: nn.Module) -> Any:
    if isinstance(source, Average):
        follower: nn.Module = RunningMean(network, source.decay)
    else:
        follower = copy.deepcopy(network)
    return follower.eval().requires_grad_(False)


def _inner(network: nn.Module) -> nn.Module:
    return network.module if isinstance(network, RunningMean) else network
