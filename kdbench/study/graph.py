"""The runs that a run needs: the networks that it freezes are trained first, and so on down.

The graph grows into a plan, one run at a time; a run that several need is there once.
"""

from dataclasses import replace
from typing import Any

from kdbench.data.load import TrainingData
from kdbench.methods import METHODS
from kdbench.methods.base import Method
from kdbench.methods.networks import TEACHER, Frozen, Stage, Trained
from kdbench.records.plan_file import PlannedRun
from kdbench.records.spec import DataSpec, Recipe, RunSpec
from kdbench.records.store import Store
from kdbench.study.compatibility import model_of
from kdbench.study.load import StudyError
from kdbench.study.plan import Node, Plan, Settings, hparams_of, validated_by
from kdbench.study.schema import Data, Entry, Study
from kdbench.study.weights_files import checksum_of

#: The validation split of every data set, the same in all studies.
SPLIT_SEED = 0
#: The recipe of a run whose weights are given.
NOT_TRAINED = Recipe(0, 0, "none", 0.0, 0.0, 0.0, "constant", (), 0.0, "fp32", "auto")


def labelled_count(data: Data, images: int) -> int:
    """How many of a study's training images keep their labels; 0 for all."""
    if isinstance(data.labelled, float):
        return round(data.labelled * (images - data.validation))
    return data.labelled or 0


class Graph:
    """Adds a study's runs to a plan, each with the runs whose weights it needs."""

    def __init__(self, study: Study, data: TrainingData, store: Store) -> None:
        self.study = study
        self.data = data
        self.store = store
        self._results: dict[str, dict[str, Any]] = {}
        self._tests: dict[str, dict[str, Any]] = {}

    def run(
        self,
        plan: Plan,
        entry: Entry,
        settings: Settings,
        seed: int,
        train_on: str,
        name: str,
        trial: int | None = None,
        epochs: int | None = None,
    ) -> str:
        """Add a run of an entry and the runs that it needs; its id.

        It is run number 0 ... of the row's tuning where `trial` says so, and a final run, which
        may be scored on the test set, where it is None. `epochs` overrides the recipe's.
        """
        recipe = self.study.recipe.resolve(epochs, settings.lr, entry.precision)
        stage = Stage("student", entry.method, settings.hparams)
        final = trial is None
        listing = PlannedRun(
            name=name,
            kind="final" if final else "trial",
            group=entry.label,
            method=entry.method,
            label=entry.label,
            seed=seed,
            trial=trial,
            teacher=self.teacher(plan, seed, train_on, score=final),
        )
        return self._expand(plan, entry, stage, seed, 0, train_on, recipe, listing, final, ())

    def _expand(
        self,
        plan: Plan,
        entry: Entry | None,
        stage: Stage,
        seed: int,
        lineage: int,
        train_on: str,
        recipe: Recipe,
        listing: PlannedRun,
        score: bool,
        above: tuple[Any, ...],
        of_teacher: bool = False,
    ) -> str:
        """Add a run and, first, the runs whose weights it needs; its id. A run `of_teacher` is
        the study's teacher or one more of its kind."""
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
            if need == TEACHER and not (entry and "teacher" in entry.slots):
                frozen[role] = self.teacher(plan, seed, train_on, False, (*above, here))
                continue
            is_teacher = need == replace(TEACHER, member=need.member, epochs=need.epochs)
            if is_teacher:
                need = replace(need, method=self.study.teacher.method)
            if need.model == "student":  # of the run that needs it, which may be a stage itself
                need = replace(need, model=stage.model)
            stage_seed = seed if need.own_seed else self.teacher_seed(seed)
            stage_lineage = lineage + 1 + need.member
            model = model_of(self.study, entry, need.model)
            name = f"{listing.label} stage {model} {need.method} {stage_lineage} seed {stage_seed}"
            stage_listing = replace(
                listing,
                name=name + self._purpose(train_on),
                kind="stage",
                seed=stage_seed,
                trial=None,
            )
            frozen[role] = self._expand(
                plan,
                entry,
                need,
                stage_seed,
                stage_lineage,
                train_on,
                self._stage_recipe(entry, need),
                stage_listing,
                False,
                (*above, here),
                is_teacher,
            )
        spec = RunSpec(
            data=self._data(train_on, of_teacher),
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
            validated_by=validated_by(self.study, listing.kind),
        )
        return _add(plan, Node(spec, score, listing))

    def teacher(
        self, plan: Plan, seed: int, train_on: str, score: bool, above: tuple[Any, ...] = ()
    ) -> str:
        """The study's teacher for runs of this seed; its id."""
        if self.study.teacher.weights:
            return _add(plan, self.given_teacher())
        seed = self.teacher_seed(seed)
        teacher = self.study.teacher
        listing = PlannedRun(
            name=f"teacher {teacher.model} seed {seed}{self._purpose(train_on)}",
            kind="teacher",
            group="teachers",
            method=teacher.method,
            label="teacher",
            seed=seed,
        )
        return self._expand(
            plan,
            None,
            Stage("teacher", teacher.method),
            seed,
            # A teacher of the student's own kind is no twin of the student with its seed.
            int(teacher.model == self.study.student.model),
            train_on,
            self.study.recipe.resolve(),
            listing,
            score,
            above,
            True,
        )

    def given_teacher(self) -> Node:
        """The run of a teacher whose weights are given: no training, and so no recipe, no seed and
        no part of the data that it would be trained on."""
        teacher = self.study.teacher
        assert teacher.weights is not None
        part = self.study.data
        spec = RunSpec(
            data=DataSpec(part.name, self.data.checksum, 0, SPLIT_SEED, "none", "all"),
            models={"student": teacher.model},
            method=teacher.method,
            version=METHODS[teacher.method].version,
            origin=METHODS.origin(teacher.method),
            hparams=hparams_of(METHODS[teacher.method]()),
            recipe=NOT_TRAINED,
            seed=0,
            given_weights=checksum_of(teacher.weights),
        )
        listing = PlannedRun(
            name=f"teacher {teacher.model} from {teacher.weights}",
            kind="teacher",
            group="teachers",
            method=teacher.method,
            label="teacher",
            seed=0,
        )
        return Node(spec, True, listing)

    def _stage_recipe(self, entry: Entry | None, stage: Stage) -> Recipe:
        epochs = max(1, round(stage.epochs * self.study.recipe.epochs))
        return self.study.recipe.resolve(epochs, precision=entry.precision if entry else None)

    def _purpose(self, train_on: str) -> str:
        return "" if train_on == self.study.final.train_on else " (for tuning)"

    def teacher_seed(self, seed: int) -> int:
        """The seed of the study's teacher for runs of this seed."""
        fixed = self.study.teacher.seed
        return seed if fixed == "per-seed" else int(fixed)

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

    def _data(self, train_on: str, of_teacher: bool) -> DataSpec:
        part = self.study.data
        labelled = labelled_count(part, len(self.data.labels))
        if of_teacher and self.study.teacher.labelled == "all":
            labelled = 0
        return DataSpec(
            part.name,
            self.data.checksum,
            part.validation,
            SPLIT_SEED,
            part.augment,
            train_on,
            labelled,
            part.unlabelled.ratio if labelled else 0,
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
        if run_id not in self._results:
            result = self.store.record(run_id).result
            if result is None:
                return None
            self._results[run_id] = result
        return self._results[run_id]

    def test(self, run_id: str) -> dict[str, Any] | None:
        """A run's test scores; they never change either."""
        if run_id not in self._tests:
            test = self.store.record(run_id).test
            if test is None:
                return None
            self._tests[run_id] = test
        return self._tests[run_id]

    def forget(self, run_id: str) -> None:
        """Forget what a run gave, since its record was moved away."""
        self._results.pop(run_id, None)
        self._tests.pop(run_id, None)


def _add(plan: Plan, node: Node) -> str:
    """Add a run, or say of one already there that it may be scored too."""
    present = plan.nodes.get(node.id)
    if present is None:
        plan.nodes[node.id] = node
    elif node.score and not present.score:
        plan.nodes[node.id] = Node(present.spec, True, present.listing)
    return node.id
