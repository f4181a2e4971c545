"""The runs that a run needs: what it freezes is trained first, and so on down.

The graph grows into a plan, one run at a time; a run that several need is there once.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kdbench.data.load import TrainingData
from kdbench.methods import METHODS
from kdbench.methods.base import Method
from kdbench.methods.networks import TEACHER, Frozen, Stage, Trained
from kdbench.records.spec import DataSpec, Recipe, RunSpec
from kdbench.records.store import Store
from kdbench.study.compatibility import model_of
from kdbench.study.load import StudyError
from kdbench.study.plan import Node, Plan, Point, hparams_of
from kdbench.study.schema import Entry, Study

#: The validation split of every data set, the same in all studies.
SPLIT_SEED = 0


class Graph:
    """Adds a study's runs to a plan, each with the runs whose weights it needs."""

    def __init__(self, study: Study, data: TrainingData, store: Store) -> None:
        self.study = study
        self.data = data
        self.store = store
        self._known: dict[str, Any] = {}

    def run(
        self,
        plan: Plan,
        entry: Entry,
        point: Point,
        seed: int,
        train_on: str,
        listing: Mapping[str, Any],
        epochs: int | None = None,
    ) -> str:
        recipe = self.study.recipe.resolve(epochs, point.lr, entry.precision)
        stage = Stage("student", entry.method, point.hparams)
        teacher = self.teacher(plan, seed, train_on, score=listing["kind"] == "final")
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
        here = (stage.model, stage.method, tuple(sorted(stage.hparams.items())))
        if here in above:
            chain = " -> ".join(method for _, method, _ in (*above, here))
            raise StudyError(self.study.name, [f"a method needs itself to be trained: {chain}"])
        method = METHODS[stage.method](**stage.hparams)
        frozen = {}
        for role, source in method.networks().items():
            if not isinstance(source, Frozen):
                continue
            need = source.run
            if need == TEACHER and not self._fills(entry, "teacher"):
                above_it = (*above, here)
                frozen[role] = self.teacher(plan, seed, train_on, score=False, above=above_it)
                continue
            if need == replace(TEACHER, member=need.member):
                need = replace(need, method=self.study.teacher.method)
            if need.model == "student":  # of the run that needs it, which may be a stage itself
                need = replace(need, model=stage.model)
            its_seed = seed if need.own_seed else self.teacher_seed(seed)
            further = lineage + 1 + need.member
            name = (
                f"{listing['label']} stage {model_of(self.study, entry, need.model)} {need.method}"
            )
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
                self.study.recipe.resolve(precision=entry.precision if entry else None),
                stage_listing,
                False,
                (*above, here),
            )
        spec = RunSpec(
            data=self._data(train_on),
            models=self._models(entry, stage, method),
            method=stage.method,
            version=method.version,
            origin=METHODS.origin(stage.method),
            hparams=hparams_of(method),
            recipe=recipe,
            seed=seed,
            lineage=lineage,
            frozen_runs=frozen,
            frozen_epoch=self.study.final.epoch if frozen else "last",
        )
        return _add(plan, Node(spec, score, listing))

    def teacher(
        self, plan: Plan, seed: int, train_on: str, score: bool, above: tuple[Any, ...] = ()
    ) -> str:
        """The study's teacher for runs of this seed; its id."""
        its_seed = self.teacher_seed(seed)
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

    def teacher_seed(self, seed: int) -> int:
        fixed = self.study.teacher.seed
        return seed if fixed == "per-seed" else int(fixed)

    def _fills(self, entry: Entry | None, slot: str) -> bool:
        return entry is not None and slot in entry.slots

    def _models(self, entry: Entry | None, stage: Stage, method: Method) -> dict[str, str]:
        """The slots of the networks that a run trains. In a stage's own run its student
        is the model that the stage names."""
        return {
            source.slot: model_of(
                self.study, entry, stage.model if source.slot == "student" else source.slot
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
        for source in plan.nodes[run_id].spec.frozen_runs.values():
            result = self.result(source)
            if result is not None and result["state"] == "diverged":
                return result
            if result is None and (deeper := self.diverged_source(plan, source)):
                return deeper
        return None

    def result(self, run_id: str) -> dict[str, Any] | None:
        """A run's result; results never change, so each is read once."""
        if run_id not in self._known:
            result = self.store.record(run_id).result
            if result is None:
                return None
            self._known[run_id] = result
        return self._known[run_id]


def _add(plan: Plan, node: Node) -> str:
    """Add a run, or say of one already there that it may be scored too."""
    known = plan.nodes.get(node.id)
    if known is None:
        plan.nodes[node.id] = node
    elif node.score and not known.score:
        plan.nodes[node.id] = Node(known.spec, True, known.listing)
    return node.id
