"""From a study to the runs it needs: a pure function of the study and the records.

Asked again after each finished run, it knows more: the hyperparameters that tuning chose, the
next round of a sampler that learns. So an interrupted study needs no state but its
records.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kdbench import models
from kdbench.data.load import TrainingData, few_labels, split
from kdbench.methods import METHODS
from kdbench.methods.base import Range
from kdbench.records.spec import RunSpec
from kdbench.records.store import Store
from kdbench.study import sampling
from kdbench.study.base_report import BaseReport
from kdbench.study.compatibility import check_models, incompatible
from kdbench.study.graph import SPLIT_SEED, Graph, labelled_count
from kdbench.study.load import StudyError
from kdbench.study.looks import compared_rows, undecided
from kdbench.study.plan import Plan, Row, Settings, Trial, hparams_of, measure_of, settings_of
from kdbench.study.schema import Entry, Study
from kdbench.study.teacher_input import with_teacher_input
from kdbench.study.teacher_outputs import TeacherOutputs


class Planner:
    """Expands one study; with `base` one of a single method, whose reference and other methods
    are that report's. `lr` is the learning rate of the methods' untuned runs where it is not the
    recipe's, which stays that of the runs that they learn from. Raises `StudyError` where a layer
    or a split cannot be had, and for a model that cannot be used."""

    def __init__(
        self,
        study: Study,
        data: TrainingData,
        store: Store,
        tune: bool = True,
        base: BaseReport | None = None,
        lr: float | None = None,
    ) -> None:
        self.study, self.base, self.lr = with_teacher_input(study, data), base, lr
        study = self.study
        self.data = data
        self.store = store
        self.tune = study.tune if tune else None
        self.shape, self.classes = data.shape, data.classes
        self._check_split()
        check_models(study, data)
        self.incompatible = {
            entry.label: incompatible(study, data, entry) for entry in study.methods
        }
        self.graph = Graph(study, data, store)
        self.outputs = TeacherOutputs(data)

    def _check_split(self) -> None:
        """Raise `StudyError` where the images cannot be divided as the study says."""
        part, labels, key = self.study.data, self.data.labels, "validation"
        try:
            fit, _ = split(labels, part.validation, SPLIT_SEED)
            key = "labelled"
            if part.labelled is not None:
                few_labels(labels, fit, labelled_count(part, len(labels)), SPLIT_SEED)
        except ValueError as error:
            raise StudyError(self.study.name, [f"data.{key}: {error}"]) from None

    # -- the whole plan

    def plan(self) -> Plan:
        """All runs that are needed, as far as the records tell. Raises `DifferentSetting` where a
        teacher is not that of the report whose rows are taken."""
        plan = Plan()
        self._teachers(plan, self._first_seeds)
        for entry in self.study.methods:
            self._entry(plan, entry)
        self._later_looks(plan)
        if self.base:
            for teacher in plan.teachers.values():
                self.base.check_teacher(self.store.record(teacher))
        return plan

    @property
    def _first_seeds(self) -> Sequence[int]:
        """The final seeds that every row has, whatever they show."""
        final = self.study.final
        return final.seeds[: final.looks[0]] if final.looks else final.seeds

    def _teachers(self, plan: Plan, seeds: Sequence[int]) -> None:
        for seed in seeds:
            teacher = self.graph.teacher(plan, seed, self.study.final.train_on, score=True)
            plan.teachers[str(self.graph.teacher_seed(seed))] = teacher

    def _later_looks(self, plan: Plan) -> None:
        """Give the methods that the looks before leave undecided, and the reference, the seeds
        of the next look; rows that are not compared have those of the first."""
        final, reference = self.study.final, self.study.report.reference
        taken = self.base.scores() if self.base else {}
        for reached, count in enumerate(final.looks[1:], start=1):
            if plan.open or (self.base and count > len(self.base.seeds)):
                return
            left = undecided(self.study, plan, self.graph, reached, taken)
            if not left:
                return
            rows = compared_rows(plan, reference)
            self._teachers(plan, final.seeds[:count])
            for label in rows.keys() & {reference, *left}:
                self._finals(plan, rows[label], final.seeds[:count])

    def _entry(self, plan: Plan, entry: Entry) -> None:
        kind = METHODS[entry.method]
        defaults = kind(**entry.hparams)
        searched = self.searched(entry)
        # Values chosen by hand are not judged beside tuned ones: their budget is not known.
        pinned = self.tune is not None and entry.hparams and not self._moves(entry)
        row = "default" if searched else "pinned" if pinned else "only"
        reason = self.incompatible[entry.label]
        first = Row(
            entry.label,
            row,
            entry.method,
            kind.paper.key,
            hparams_of(defaults),
            incompatible=reason,
        )
        plan.rows.append(first)
        if reason:
            return
        first.settings = Settings(entry.hparams, self.lr)
        self._finals(plan, first, self._first_seeds)
        first.incompatible = self._without_source(plan, first)
        if searched:
            self._tuned(plan, entry, searched, first)

    def work(self, spec: RunSpec) -> float:
        """A rough estimate of a run's compute, in MACs: for progress and for sharing out work."""
        macs = sum(models.macs(m, self.shape, self.classes) for m in spec.models.values())
        # Even the smallest step has the cost of its calls, about a million MACs' worth.
        return spec.recipe.epochs * (macs + 1e6)

    def searched(self, entry: Entry) -> dict[str, Range]:
        """What is tuned for an entry, with its ranges: the hyperparameters that it leaves open
        and the study's shared values; nothing where the entry sets every hyperparameter."""
        ranges = self._moves(entry)
        if self.tune is None or (entry.hparams and not ranges):
            return {}
        if lr := self.tune.shared.lr:
            ranges["recipe.lr"] = Range(lr.low, lr.high, log=True)
        return ranges

    def _moves(self, entry: Entry) -> dict[str, Range]:
        searched = METHODS[entry.method].searched()
        return {name: range for name, range in searched.items() if name not in entry.hparams}

    def _tuned(self, plan: Plan, entry: Entry, searched: Mapping[str, Range], default: Row) -> None:
        assert self.tune is not None
        defaults = {k: default.hparams.get(k, self.study.recipe.lr) for k in searched}
        row = Row(entry.label, "tuned", entry.method, default.cite, searched=list(searched))
        finished: dict[int, tuple[dict[str, Any], float | None]] = {}
        scores: dict[int, tuple[float, float] | None] = {}
        while True:
            suggested = sampling.suggest(
                self.tune.sampler,
                searched,
                defaults,
                self.tune.trials,
                self.tune.seed,
                entry.label,
                finished,
            )
            added = range(len(row.trials), len(suggested))
            for number in added:
                trial = self._trial(plan, entry, number, suggested[number])
                row.trials.append(trial)
                if trial.finished:
                    scores[number] = trial.score
                    finished[number] = (suggested[number], trial.score and trial.score[0])
            if not added or len(finished) < len(row.trials):
                break
        plan.rows.append(row)
        if len(finished) < self.tune.trials:
            plan.open += 1
            return
        try:
            row.best_trial = self._best_trial(plan, entry, row, scores)
        except ValueError:
            row.incompatible = f"all {self.tune.trials} trials diverged"
            return
        if row.best_trial is None:
            plan.open += 1
            return
        best = settings_of(entry, finished[row.best_trial][0])
        row.hparams = hparams_of(METHODS[entry.method](**best.hparams))
        if best.lr is not None:
            row.hparams["recipe.lr"] = best.lr
        row.settings = best
        self._finals(plan, row, self._first_seeds)
        row.incompatible = self._without_source(plan, row)

    def _best_trial(
        self, plan: Plan, entry: Entry, row: Row, scores: Mapping[int, sampling.Score | None]
    ) -> int | None:
        """The number of the trial to use, or None while the second stage is not finished. Raises
        `ValueError` where all trials diverged."""
        assert self.tune is not None
        stage = self.tune.confirm
        if stage is None:
            return sampling.best(scores)
        all_finished, confirmed = True, dict[int, tuple[float, ...] | None]()
        for number in sampling.shortlist(scores, stage.points):
            trial = row.trials[number]
            runs, finished, scored = self._trained(
                plan, entry, number, trial.hparams, self.tune.seeds + stage.seeds
            )
            again = scored[len(self.tune.seeds) :]
            scores_again = (result[measure_of(self.study).validation] for result in again)
            confirmed[number] = tuple(scores_again) or None
            row.trials[number] = replace(trial, runs=runs, confirmed=confirmed[number])
            all_finished &= finished
        return sampling.confirmed_best(confirmed) if all_finished else None

    def _trial(self, plan: Plan, entry: Entry, number: int, values: Mapping[str, Any]) -> Trial:
        """Trial `number` at these values: its runs, and its validation score once it has one."""
        assert self.tune is not None
        runs, finished, scored = self._trained(plan, entry, number, values, self.tune.seeds)
        names = measure_of(self.study).validation, "val.nll"
        score = (_mean(scored, names[0]), _mean(scored, names[1])) if scored else None
        return Trial(number, runs, dict(values), score, finished)

    def _trained(
        self,
        plan: Plan,
        entry: Entry,
        number: int,
        values: Mapping[str, Any],
        seeds: Sequence[int],
    ) -> tuple[tuple[str, ...], bool, Sequence[Mapping[str, float]]]:
        """The runs of a trial with these seeds, whether all have ended, and their validation
        scores; no scores where not all are done."""
        assert self.tune is not None
        settings, runs = settings_of(entry, values), []
        for seed in seeds:
            of_seed = f" seed {seed}" if len(seeds) > 1 else ""
            name = f"{entry.label} trial {number}{of_seed}"
            epochs = self.tune.epochs
            runs.append(self.graph.run(plan, entry, settings, seed, "fit", name, number, epochs))
        results = [self.graph.diverged_source(plan, run) or self.graph.result(run) for run in runs]
        ended = [r for r in results if r is not None]
        finished = len(ended) == len(runs)
        done = finished and all(r["state"] == "done" for r in ended)
        return tuple(runs), finished, [r[self.study.final.epoch] for r in ended] if done else []

    def _finals(self, plan: Plan, row: Row, seeds: Sequence[int]) -> None:
        """Give a row, whose settings are known, its final runs with these seeds."""
        assert row.settings is not None
        entry = next(entry for entry in self.study.methods if entry.label == row.label)
        kind = " (default hyperparameters)" if row.row == "default" else ""
        for seed in seeds:
            name, train_on = f"{row.label} seed {seed}{kind}", self.study.final.train_on
            run = self.graph.run(plan, entry, row.settings, seed, train_on, name)
            row.runs[str(seed)] = run

    def _without_source(self, plan: Plan, row: Row) -> str | None:
        """Why none of a row's runs can ever be trained, or None."""
        diverged = [self.graph.diverged_source(plan, run) for run in row.runs.values()]
        if not diverged or None in diverged:
            return None
        names = sorted({plan.nodes[result["id"]].listing.name for result in diverged if result})
        return f"what it learns from diverged: {', '.join(names)}"


def _mean(scores: Sequence[Mapping[str, float]], name: str) -> float:
    return sum(score[name] for score in scores) / len(scores)
