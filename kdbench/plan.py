"""From a study to the runs it needs: a pure function of the study and the records.

Asked again after each finished run, it knows more: the knobs that tuning chose, the
next round of a sampler that learns. So an interrupted study needs no state but its
records.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from kdbench import ledger, models
from kdbench.data import TrainingData, split
from kdbench.methods import METHODS, origin
from kdbench.methods.base import Method, Range, Unfit
from kdbench.networks import TEACHER, Frozen, Stage, Trained
from kdbench.run import DataSpec, Recipe, RunSpec, digest
from kdbench.schema import Entry, Study
from kdbench.store import Store
from kdbench.study import StudyError
from kdbench.taps import resolve_taps
from kdbench.types import Shapes

#: The validation split of every data set, the same in all studies.
SPLIT_SEED = 0


@dataclass(frozen=True)
class Node:
    """A run of the plan: `score` says that the test set may be opened for it once."""

    spec: RunSpec
    score: bool
    listing: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The run's id."""
        return self.spec.id


@dataclass
class Row:
    """A row of the leaderboard to be: its knobs and its run for each seed."""

    label: str
    row: str
    method: str
    cite: str
    knobs: dict[str, Any] = field(default_factory=dict)
    searched: list[str] = field(default_factory=list)
    runs: dict[str, str] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)
    best_trial: int | None = None
    unfit: str | None = None


@dataclass
class Plan:
    """All runs that are known to be needed, and the rows they make.

    `open` counts rows whose runs are not known yet, since their tuning is not finished.
    """

    nodes: dict[str, Node] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    teachers: dict[str, str] = field(default_factory=dict)
    open: int = 0


@dataclass(frozen=True)
class Point:
    """What a row or a trial sets: knobs of the method, and recipe values tuned for all."""

    knobs: Mapping[str, Any]
    lr: float | None = None


class Planner:
    """Expands one study. Raises `StudyError` where a tap or a split cannot be had."""

    def __init__(self, study: Study, data: TrainingData, store: Store, tune: bool = True) -> None:
        self.study = study
        self.data = data
        self.store = store
        self.tune = study.tune if tune else None
        self.shape, self.classes = data.shape, data.classes
        try:
            split(data.labels, study.data.validation, SPLIT_SEED)
        except ValueError as error:
            raise StudyError(study.name, [f"data.validation: {error}"]) from None
        self.unfit = {entry.label: self._unfit(entry) for entry in study.methods}
        self._known: dict[str, Any] = {}

    # -- the whole plan

    def plan(self) -> Plan:
        """What is needed as far as the records tell."""
        plan = Plan()
        for seed in self.study.final.seeds:
            teacher = self._teacher(plan, seed, self.study.final.train_on, score=True)
            plan.teachers[str(self._teacher_seed(seed))] = teacher
        for entry in self.study.methods:
            self._entry(plan, entry)
        return plan

    def _entry(self, plan: Plan, entry: Entry) -> None:
        kind = METHODS[entry.method]
        defaults = kind(**entry.knobs)
        searched = self.searched(entry)
        pinned = entry.knobs and not self._moves(entry)
        name = "default" if searched else "pinned" if pinned else "only"
        reason = self.unfit[entry.label]
        first = Row(entry.label, name, entry.method, kind.paper.key, _knobs(defaults), unfit=reason)
        plan.rows.append(first)
        if reason:
            return
        first.runs = self._finals(plan, entry, Point(entry.knobs), default=bool(searched))
        first.unfit = self._without_source(plan, first)
        if searched:
            self._tuned(plan, entry, searched, first)

    def work(self, spec: RunSpec) -> float:
        """About how much compute a run is: for showing how far a study is, nothing else."""
        macs = sum(models.macs(m, self.shape, self.classes) for m in spec.models.values())
        # Even the smallest step has the cost of its calls, about a million MACs' worth.
        return spec.recipe.epochs * (macs + 1e6)

    def searched(self, entry: Entry) -> dict[str, Range]:
        """What is tuned for an entry, with its ranges: the knobs that it leaves open and the
        study's shared values; nothing where the entry sets every knob."""
        ranges = self._moves(entry)
        if self.tune is None or (entry.knobs and not ranges):
            return {}
        if lr := self.tune.shared.lr:
            ranges["recipe.lr"] = Range(lr.low, lr.high, log=True)
        return ranges

    def _moves(self, entry: Entry) -> dict[str, Range]:
        searched = METHODS[entry.method].searched()
        return {name: range for name, range in searched.items() if name not in entry.knobs}

    def _tuned(self, plan: Plan, entry: Entry, searched: Mapping[str, Range], default: Row) -> None:
        assert self.tune is not None
        defaults = {k: default.knobs.get(k, self.study.recipe.lr) for k in searched}
        row = Row(entry.label, "tuned", entry.method, default.cite, searched=list(searched))
        finished: dict[int, tuple[dict[str, Any], float | None]] = {}
        scores: dict[int, tuple[float, float] | None] = {}
        while True:
            points = ledger.points(
                self.tune.sampler,
                searched,
                defaults,
                self.tune.trials,
                self.tune.seed,
                entry.label,
                finished,
            )
            news = range(len(row.trials), len(points))
            for number in news:
                trial = self._trial(plan, entry, number, points[number])
                row.trials.append(trial)
                if trial["finished"]:
                    score = trial["score"]
                    scores[number] = score
                    finished[number] = (points[number], score and score[0])
            if not news or len(finished) < len(row.trials):
                break
        plan.rows.append(row)
        if len(finished) < self.tune.trials:
            plan.open += 1
            return
        try:
            row.best_trial = ledger.best(scores)
        except ValueError:
            row.unfit = f"all {self.tune.trials} trials diverged"
            return
        best = _point(entry, finished[row.best_trial][0])
        row.knobs = _knobs(METHODS[entry.method](**best.knobs))
        if best.lr is not None:
            row.knobs["recipe.lr"] = best.lr
        row.runs = self._finals(plan, entry, best, default=False)
        row.unfit = self._without_source(plan, row)

    def _trial(
        self, plan: Plan, entry: Entry, number: int, values: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Trial `number` at these values: its runs, and its validation score once it has one."""
        assert self.tune is not None
        point = _point(entry, values)
        runs = []
        for seed in self.tune.seeds:
            more = f" seed {seed}" if len(self.tune.seeds) > 1 else ""
            name = f"{entry.label} trial {number}{more}"
            listing = {"name": name, "kind": "trial", "trial": number, "seed": seed}
            runs.append(self._run(plan, entry, point, seed, "fit", listing, self.tune.epochs))
        results = [self.diverged_source(plan, run) or self._result(run) for run in runs]
        over = [r for r in results if r is not None]
        score = None
        if len(over) == len(runs) and all(r["state"] == "done" for r in over):
            rule = self.study.final.epoch
            score = tuple(
                sum(r[rule][key] for r in over) / len(over) for key in ("val.accuracy", "val.nll")
            )
        return {
            "number": number,
            "runs": runs,
            "knobs": dict(values),
            "score": score,
            "finished": len(over) == len(runs),
        }

    def _finals(self, plan: Plan, entry: Entry, point: Point, default: bool) -> dict[str, str]:
        more = " (default knobs)" if default else ""
        return {
            str(seed): self._run(
                plan,
                entry,
                point,
                seed,
                self.study.final.train_on,
                {"name": f"{entry.label} seed {seed}{more}", "kind": "final", "seed": seed},
            )
            for seed in self.study.final.seeds
        }

    # -- one run

    def _run(
        self,
        plan: Plan,
        entry: Entry,
        point: Point,
        seed: int,
        train_on: str,
        listing: Mapping[str, Any],
        epochs: int | None = None,
    ) -> str:
        recipe = self.study.recipe.resolve(epochs, point.lr)
        stage = Stage("student", entry.method, point.knobs)
        teacher = self._teacher(plan, seed, train_on, score=listing["kind"] == "final")
        listed = {
            "group": entry.label,
            "method": entry.method,
            "label": entry.label,
            "trial": None,
            "teacher": teacher,
            **listing,
        }
        score = listing["kind"] == "final"
        return self._expand(plan, entry, stage, seed, 0, train_on, recipe, listed, score, ())

    def _expand(
        self,
        plan: Plan,
        entry: Entry | None,
        stage: Stage,
        seed: int,
        lineage: int,
        train_on: str,
        recipe: Recipe,
        listing: Mapping[str, Any],
        score: bool,
        above: tuple[Any, ...],
    ) -> str:
        """Add a run and, first, the runs whose weights it needs; its id."""
        here = (stage.model, stage.method, tuple(sorted(stage.knobs.items())))
        if here in above:
            chain = " -> ".join(method for _, method, _ in (*above, here))
            raise StudyError(self.study.name, [f"a method needs itself to be trained: {chain}"])
        method = METHODS[stage.method](**stage.knobs)
        frozen = {}
        for role, source in method.networks().items():
            if not isinstance(source, Frozen):
                continue
            need = source.run
            if need == TEACHER and not self._fills(entry, "teacher"):
                above_it = (*above, here)
                frozen[role] = self._teacher(plan, seed, train_on, score=False, above=above_it)
                continue
            if need == replace(TEACHER, member=need.member):
                need = replace(need, method=self.study.teacher.method)
            if need.model == "student":  # of the run that needs it, which may be a stage itself
                need = replace(need, model=stage.model)
            its_seed = seed if need.own_seed else self._teacher_seed(seed)
            further = lineage + 1 + need.member
            name = f"{listing['label']} stage {self._model(entry, need.model)} {need.method}"
            number = f" {further}" if further else ""
            part = "" if train_on == self.study.final.train_on else " (for tuning)"
            stage_listing = {
                **listing,
                "name": f"{name}{number} seed {its_seed}{part}",
                "kind": "stage",
                "seed": its_seed,
                "trial": None,
            }
            frozen[role] = self._expand(
                plan,
                entry,
                need,
                its_seed,
                further,
                train_on,
                self.study.recipe.resolve(),
                stage_listing,
                False,
                (*above, here),
            )
        spec = RunSpec(
            data=self._data(train_on),
            models=self._models(entry, stage, method),
            method=stage.method,
            version=method.version,
            origin=origin(stage.method),
            knobs=_knobs(method),
            recipe=recipe,
            seed=seed,
            lineage=lineage,
            frozen=frozen,
            weights=self.study.final.epoch if frozen else "last",
        )
        return _add(plan, Node(spec, score, listing))

    def _teacher(
        self, plan: Plan, seed: int, train_on: str, score: bool, above: tuple[Any, ...] = ()
    ) -> str:
        """The study's teacher for runs of this seed; its id."""
        its_seed = self._teacher_seed(seed)
        teacher = self.study.teacher
        part = "" if train_on == self.study.final.train_on else " (for tuning)"
        listing = {
            "name": f"teacher {teacher.model} seed {its_seed}{part}",
            "kind": "teacher",
            "group": "teachers",
            "method": teacher.method,
            "label": "teacher",
            "seed": its_seed,
            "trial": None,
            "teacher": None,
        }
        return self._expand(
            plan,
            None,
            Stage("teacher", teacher.method),
            its_seed,
            # A teacher of the student's own kind is no twin of the student with its seed.
            int(teacher.model == self.study.student.model),
            train_on,
            self.study.recipe.resolve(),
            listing,
            score,
            above,
        )

    def _teacher_seed(self, seed: int) -> int:
        fixed = self.study.teacher.seed
        return seed if fixed == "per-seed" else int(fixed)

    def _fills(self, entry: Entry | None, slot: str) -> bool:
        return entry is not None and slot in entry.slots

    def _model(self, entry: Entry | None, slot: str) -> str:
        if entry is not None and slot in entry.slots:
            return entry.slots[slot]
        return self.study.teacher.model if slot == "teacher" else self.study.student.model

    def _models(self, entry: Entry | None, stage: Stage, method: Method) -> dict[str, str]:
        """The slots of the networks that a run trains. In a stage's own run its student
        is the model that the stage names."""
        return {
            source.slot: self._model(
                entry, stage.model if source.slot == "student" else source.slot
            )
            for source in method.networks().values()
            if isinstance(source, Trained)
        }

    def _data(self, train_on: str) -> DataSpec:
        part = self.study.data
        return DataSpec(
            part.name, self.data.checksum, part.validation, SPLIT_SEED, part.augment, train_on
        )

    def diverged_source(self, plan: Plan, run_id: str) -> dict[str, Any] | None:
        """The result of a diverged run whose weights this one needs, so that it can never be
        trained; None where there is none."""
        for source in plan.nodes[run_id].spec.frozen.values():
            result = self._result(source)
            if result is not None and result["state"] == "diverged":
                return result
            if result is None and (deeper := self.diverged_source(plan, source)):
                return deeper
        return None

    def _without_source(self, plan: Plan, row: Row) -> str | None:
        """Why none of a row's runs can ever be trained, or None."""
        lost = [self.diverged_source(plan, run) for run in row.runs.values()]
        if not lost or None in lost:
            return None
        names = sorted({plan.nodes[r["id"]].listing["name"] for r in lost if r})
        return f"what it learns from diverged: {', '.join(names)}"

    def _result(self, run_id: str) -> dict[str, Any] | None:
        """A run's result; results never change, so each is read once."""
        if run_id not in self._known:
            result = self.store.record(run_id).result
            if result is None:
                return None
            self._known[run_id] = result
        return self._known[run_id]

    # -- whether a method can serve

    def _unfit(self, entry: Entry) -> str | None:
        """Why a method cannot serve this pair of models, or None."""
        method = METHODS[entry.method](**entry.knobs)
        try:
            shapes = self.shapes(entry, method)
        except ValueError as error:
            # Taps that somebody asked for are a mistake; the method's own, a reason.
            if method.taps() != METHODS[entry.method]().taps():
                raise StudyError(self.study.name, [f"methods ({entry.label}): {error}"]) from None
            return str(error)
        try:
            with torch.random.fork_rng(devices=[]):
                method.helpers(shapes)
        except Unfit as reason:
            return str(reason)
        return None

    def shapes(self, entry: Entry, method: Method) -> Shapes:
        """The tap shapes that an entry's method will see, by role. Raises `ValueError` for a
        tap that a model lacks."""
        role_models = {}
        for role, source in method.networks().items():
            slot = (
                source.slot
                if isinstance(source, Trained)
                else source.run.model
                if isinstance(source, Frozen)
                else "student"
            )
            role_models[role] = self._model(entry, slot)
        known = {r: models.taps_of(m, self.shape, self.classes) for r, m in role_models.items()}
        taps = resolve_taps(method.taps(), known, role_models)
        chosen = {role: {t: shapes[t] for t in taps} for role, shapes in known.items()}
        return Shapes(self.classes, len(self.data.labels), chosen)


def plan_file(planner: Planner, plan: Plan) -> dict[str, Any]:
    """The plan as it is kept on disk for reports: ids, chosen knobs, listing."""
    study = planner.study
    first = next(iter(plan.nodes.values())).spec
    return {
        "study": study.name,
        "question": study.question,
        "hash": digest(study.model_dump(mode="json")),
        "data": {
            "name": study.data.name,
            "checksum": planner.data.checksum,
            "validation": study.data.validation,
            "augment": study.data.augment,
            "train_on": study.final.train_on,
            "classes": list(planner.data.class_names),
        },
        "models": {"student": study.student.model, "teacher": study.teacher.model},
        "recipe": {**first.recipe.__dict__, "milestones": list(first.recipe.milestones)},
        "selection": study.final.epoch,
        "reference": study.report.reference,
        "margin": study.report.margin,
        "tune": planner.tune
        and {
            "trials": planner.tune.trials,
            "epochs": planner.tune.epochs,
            "seeds": list(planner.tune.seeds),
            "sampler": planner.tune.sampler,
        },
        "teachers": plan.teachers,
        "complete": not plan.open
        and all(
            _over(planner.store, n) or planner.diverged_source(plan, n.id)
            for n in plan.nodes.values()
        ),
        "rows": [_row(row) for row in plan.rows],
        "listing": {id: dict(node.listing) for id, node in plan.nodes.items()},
    }


def _over(store: Store, node: Node) -> bool:
    record = store.record(node.id)
    result = record.result
    if result is None:
        return False
    return not node.score or result["state"] != "done" or record.test is not None


def _row(row: Row) -> dict[str, Any]:
    trials = [
        {
            "number": t["number"],
            "runs": t["runs"],
            "knobs": t["knobs"],
            "accuracy": t["score"][0] if t["score"] else None,
            "nll": t["score"][1] if t["score"] else None,
        }
        for t in row.trials
    ]
    return {**row.__dict__, "trials": trials}


def _add(plan: Plan, node: Node) -> str:
    """Add a run, or say of one already there that it may be scored too."""
    known = plan.nodes.get(node.id)
    if known is None:
        plan.nodes[node.id] = node
    elif node.score and not known.score:
        plan.nodes[node.id] = Node(known.spec, True, known.listing)
    return node.id


def _point(entry: Entry, values: Mapping[str, Any]) -> Point:
    """What a trial's values set, beside what the study file has set for good."""
    knobs = {k: v for k, v in values.items() if k != "recipe.lr"}
    return Point({**entry.knobs, **knobs}, values.get("recipe.lr"))


def _knobs(method: Method) -> dict[str, Any]:
    return {name: getattr(method, name) for name in method.knobs()}
