"""The hours of a whole study on a card: its plan, run by run, without any record."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from kdbench import models
from kdbench.data import VIEWS
from kdbench.hours.cards import Card
from kdbench.hours.fit import factors_for
from kdbench.hours.work import Images, Work, forward_work, step_work
from kdbench.methods import METHODS
from kdbench.methods.layers import layers_of_run, role_models_of_run
from kdbench.records.spec import TYPES, RunSpec
from kdbench.study.plan import Node, Plan, Row
from kdbench.study.planner import Planner

#: Images a forward of an evaluation, and of a teacher whose outputs are cached.
FORWARD = 250
#: Seconds for the capture of a run's step as a CUDA graph, and how many sizes of batch it has: the
#: last batch of an epoch is smaller (docs/performance.md).
CAPTURE, SIZES = 0.23, 2
#: The name of each part, and the kind of its runs in the plan.
PARTS = {"teachers": "teacher", "earlier stages": "stage", "tuning": "trial", "finals": "final"}


@dataclass(frozen=True)
class Part:
    """Some of a study's runs: how many, the seconds that one worker needs for all of them, and
    those of the longest, which no number of workers makes shorter."""

    name: str
    runs: int = 0
    seconds: float = 0.0
    longest: float = 0.0

    def hours(self, workers: int) -> float:
        """Hours of so many workers, none of which waits but for the longest run."""
        return max(self.seconds / workers, self.longest) / 3600

    def with_runs(self, seconds: float, count: int = 1) -> "Part":
        """The part with `count` more runs of so many seconds each."""
        longest = max(self.longest, seconds) if count else self.longest
        return Part(self.name, self.runs + count, self.seconds + count * seconds, longest)


@dataclass(frozen=True)
class StudyHours:
    """The parts of a study, those of the `later` looks if no method is decided before, and the
    bytes of the teachers' cached outputs on disk."""

    parts: tuple[Part, ...]
    later: tuple[Part, ...]
    cache_bytes: int
    networks: tuple[str, ...]


def study_hours(planner: Planner, card: Card, workers: int, most: int) -> StudyHours:
    """The parts of the planner's study on `card`; at `most` so many runs share a live teacher.

    The planner's store must be empty, as finished runs count too. Raises `UnknownCard` where the
    card has not the precision of a run.
    """
    runs = _Runs(planner, planner.plan(), card, workers, most)
    parts = {name: runs.part(name, kind) for name, kind in PARTS.items()}
    for row in runs.plan.rows:
        if row.row == "tuned":
            parts["tuning"] = runs.with_unknown_trials(parts["tuning"], row)
            for seconds in runs.finals_like(row):
                parts["finals"] = parts["finals"].with_runs(seconds)
    outputs, everything = runs.outputs(), runs
    later: list[Part] = []
    final = planner.study.final
    if final.looks:
        whole = planner.study.model_copy(update={"final": final.model_copy(update={"looks": ()})})
        second = Planner(whole, planner.data, planner.store, planner.tune is not None)
        everything = _Runs(second, second.plan(), card, workers, most, runs.works)
        later = [
            everything.part(name, kind, runs.plan)
            for name, kind in PARTS.items()
            if kind != "trial"
        ]
        later.append(everything.outputs(runs.plan))
    order = [parts["teachers"], outputs, *(parts[name] for name in list(PARTS)[1:])]
    return StudyHours(
        tuple(part for part in order if part.runs),
        tuple(part for part in later if part.runs),
        everything.cache_bytes(),
        tuple(sorted({m for n in runs.plan.nodes.values() for m in n.spec.models.values()})),
    )


def epoch_steps(spec: RunSpec, examples: int) -> tuple[int, int]:
    """The steps of an epoch, and the images of a step; `examples` is the number of training
    images. A last batch that is smaller counts as a whole one."""
    data, method = spec.data, METHODS[spec.method]
    shown = examples if data.train_on == "all" else examples - data.validation
    if not data.labelled:
        return (shown + spec.recipe.batch - 2) // spec.recipe.batch, spec.recipe.batch
    size = min(spec.recipe.batch, data.labelled)
    steps = -(-(shown - data.labelled) // (data.unlabelled * size))
    return steps, size * (1 + data.unlabelled) if method.unlabelled else size


@dataclass
class _Runs:
    """The runs of a plan, and their seconds on a card."""

    planner: Planner
    plan: Plan
    card: Card
    workers: int
    most: int
    #: Work that was counted, by what it is the work of.
    works: dict[Any, Work] = field(default_factory=dict)

    def __post_init__(self) -> None:
        data = self.planner.data
        self.images = Images(data.shape, data.classes, len(data.labels))
        self.factors = factors_for(self.card)
        nodes = self.plan.nodes.values()
        self.together = Counter(map(_batches_of, nodes))
        self.live = Counter(_batches_of(node) for node in nodes if self._live_roles(node))

    def part(self, name: str, kind: str, without: Plan | None = None) -> Part:
        """The runs of a kind, those of the plan `without` and of rows that no look judges left
        out."""
        part = Part(name)
        pinned = {row.label for row in self.plan.rows if row.row == "pinned"} if without else set()
        pinned.discard(self.planner.study.report.reference)  # judged with every method
        for node in self.plan.nodes.values():
            known = without is not None and node.id in without.nodes
            if node.listing.kind == kind and not known and node.listing.label not in pinned:
                part = part.with_runs(self.seconds(node))
        return part

    def with_unknown_trials(self, part: Part, row: Row) -> Part:
        """The part with the runs of a row's tuning that no plan names before others are done: a
        sampler's later trials, and the second stage with what its seeds need."""
        tune = self.planner.tune
        assert tune is not None, "a row is tuned"
        trial = self.plan.nodes[row.trials[0].runs[0]]
        seconds = self.seconds(trial)
        part = part.with_runs(seconds, (tune.trials - len(row.trials)) * len(tune.seeds))
        if tune.confirm:
            points, seeds = min(tune.confirm.points + 1, tune.trials), len(tune.confirm.seeds)
            part = part.with_runs(seconds, points * seeds)
            for needed in self._of_own_seed(trial):
                part = part.with_runs(self.seconds(needed), seeds)
        return part

    def _of_own_seed(self, node: Node) -> list[Node]:
        """The runs that a run needs which have its own seed, and so are made for each seed."""
        needed = [self.plan.nodes[run] for run in node.spec.frozen_runs.values()]
        own = [n for n in needed if n.spec.seed == node.spec.seed]
        return [*own, *(deeper for n in own for deeper in self._of_own_seed(n))]

    def finals_like(self, row: Row) -> list[float]:
        """The seconds of the final runs of a tuned row, which are those of its default."""
        (default,) = (r for r in self.plan.rows if r.label == row.label and r.row == "default")
        return [self.seconds(self.plan.nodes[run]) for run in default.runs.values()]

    def seconds(self, node: Node) -> float:
        """The seconds of a run: its steps, its share of live teachers, its validation."""
        spec = node.spec
        if spec.given_weights:
            return 0.0
        steps, batch = epoch_steps(spec, self.images.examples)
        group, gpu = _batches_of(node), self.card.name != "cpu"
        together = gpu and self.together[group] > 1
        model = self._role_models(spec)
        key = node.listing.label, spec.method, *model.items(), batch, spec.recipe.precision
        if key not in self.works:
            self.works[key] = step_work(spec, model, self.images, batch)
        step = self._seconds(self.works[key], spec.recipe.precision, together)
        sharing = self.live[group] if gpu else -(-self.live[group] // self.workers)
        for role in self._live_roles(node):
            asked = self._forward(model[role], batch, self._layers(spec))
            step += self._seconds(asked, "fp32", together) / min(self.most, max(1, sharing))
        held_out = spec.data.validation if spec.data.train_on == "fit" else 0
        validated = self._forward(spec.models["student"], FORWARD, ()) * (held_out / FORWARD)
        epoch = steps * step + self._seconds(validated, "fp32", together)
        return spec.recipe.epochs * epoch + (CAPTURE * SIZES if gpu else 0.0)

    def outputs(self, without: Plan | None = None) -> Part:
        """The caches of teacher outputs, each filled by all workers together; those that the plan
        `without` has too left out."""
        part = Part("teacher outputs")
        known = self.planner.outputs.layers_read(without) if without else {}
        for run, layers in self.planner.outputs.layers_read(self.plan).items():
            if run in known:
                continue
            spec = self.plan.nodes[run].spec
            views = VIEWS[self.planner.study.data.augment]
            forwards = self.images.examples * views / FORWARD
            work = self._forward(spec.models["student"], FORWARD, layers) * forwards
            part = part.with_runs(self._seconds(work, "fp32", False))
        return Part(part.name, part.runs, part.seconds)

    def cache_bytes(self) -> int:
        """The bytes of all cached outputs."""
        study, shape, classes = self.planner.study, self.images.shape, self.images.classes
        row = TYPES[study.recipe.storage].itemsize * VIEWS[study.data.augment]
        values = 0
        for run, layers in self.planner.outputs.layers_read(self.plan).items():
            model = self.plan.nodes[run].spec.models["student"]
            shapes = models.feature_shapes(model, shape, classes)
            values += classes + sum(prod(shapes[layer]) for layer in layers)
        return row * self.images.examples * values

    def _live_roles(self, node: Node) -> list[str]:
        """The roles whose network is asked batch by batch, for all runs of a cohort at once."""
        method = METHODS[node.spec.method](**node.spec.hparams)
        if method.image_score() is not None:
            return []
        access = self.planner.outputs.access(self.plan, node.id)
        return [role for role, how in access.items() if how == "live"]

    def _role_models(self, spec: RunSpec) -> Mapping[str, str]:
        return role_models_of_run(spec, METHODS[spec.method](**spec.hparams), self._model_of)

    def _layers(self, spec: RunSpec) -> tuple[str, ...]:
        method = METHODS[spec.method](**spec.hparams)
        return layers_of_run(spec, method, self._model_of, self.images.shape, self.images.classes)

    def _model_of(self, run: str) -> str:
        return self.plan.nodes[run].spec.models["student"]

    def _forward(self, model: str, batch: int, layers: tuple[str, ...]) -> Work:
        key = model, batch, layers
        if key not in self.works:
            self.works[key] = forward_work(model, self.images, batch, layers)
        return self.works[key]

    def _seconds(self, work: Work, precision: str, together: bool) -> float:
        return self.factors.seconds(work, self.card, precision, together)


def _batches_of(node: Node) -> tuple[Any, ...]:
    """What runs have in common that see the same batches, and so are trained together."""
    spec = node.spec
    recipe = {**spec.recipe.__dict__, "lr": None}
    return spec.data, spec.models.get("student"), *recipe.items(), spec.seed, spec.lineage
