"""From a study to the runs it needs: a pure function of the study and the records.

Asked again after each finished run, it knows more: the hyperparameters that tuning chose, the
next round of a sampler that learns. So an interrupted study needs no state but its
records.
"""

from collections.abc import Mapping
from typing import Any

from kdbench import models
from kdbench.data.load import TrainingData, split
from kdbench.methods import METHODS
from kdbench.methods.base import Range
from kdbench.records.spec import RunSpec
from kdbench.records.store import Store
from kdbench.study import sampling as search
from kdbench.study.compatibility import incompatible
from kdbench.study.graph import SPLIT_SEED, Graph
from kdbench.study.load import StudyError
from kdbench.study.plan import Plan, Point, Row, hparams_of, point_of
from kdbench.study.schema import Entry, Study
from kdbench.study.teacher_outputs import Outputs


class Planner:
    """Expands one study. Raises `StudyError` where a layer or a split cannot be had."""

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
        self.incompatible = {
            entry.label: incompatible(study, data, entry) for entry in study.methods
        }
        self.graph = Graph(study, data, store)
        self.outputs = Outputs(data)

    # -- the whole plan

    def plan(self) -> Plan:
        """What is needed as far as the records tell."""
        plan = Plan()
        for seed in self.study.final.seeds:
            teacher = self.graph.teacher(plan, seed, self.study.final.train_on, score=True)
            plan.teachers[str(self.graph.teacher_seed(seed))] = teacher
        for entry in self.study.methods:
            self._entry(plan, entry)
        return plan

    def _entry(self, plan: Plan, entry: Entry) -> None:
        kind = METHODS[entry.method]
        defaults = kind(**entry.hparams)
        searched = self.searched(entry)
        pinned = entry.hparams and not self._moves(entry)
        name = "default" if searched else "pinned" if pinned else "only"
        reason = self.incompatible[entry.label]
        first = Row(
            entry.label,
            name,
            entry.method,
            kind.paper.key,
            hparams_of(defaults),
            incompatible=reason,
        )
        plan.rows.append(first)
        if reason:
            return
        first.runs = self._finals(plan, entry, Point(entry.hparams), default=bool(searched))
        first.incompatible = self._without_source(plan, first)
        if searched:
            self._tuned(plan, entry, searched, first)

    def work(self, spec: RunSpec) -> float:
        """About how much compute a run is: for showing how far a study is, nothing else."""
        macs = sum(models.macs(m, self.shape, self.classes) for m in spec.models.values())
        # Even the smallest step has the cost of its calls, about a million MACs' worth.
        return spec.recipe.epochs * (macs + 1e6)

    def searched(self, entry: Entry) -> dict[str, Range]:
        """What is tuned for an entry, with its ranges: the hyperparameters that it leaves open and the
        study's shared values; nothing where the entry sets every hyperparameter."""
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
            points = search.points(
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
            row.best_trial = search.best(scores)
        except ValueError:
            row.incompatible = f"all {self.tune.trials} trials diverged"
            return
        best = point_of(entry, finished[row.best_trial][0])
        row.hparams = hparams_of(METHODS[entry.method](**best.hparams))
        if best.lr is not None:
            row.hparams["recipe.lr"] = best.lr
        row.runs = self._finals(plan, entry, best, default=False)
        row.incompatible = self._without_source(plan, row)

    def _trial(
        self, plan: Plan, entry: Entry, number: int, values: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Trial `number` at these values: its runs, and its validation score once it has one."""
        assert self.tune is not None
        point = point_of(entry, values)
        runs = []
        for seed in self.tune.seeds:
            more = f" seed {seed}" if len(self.tune.seeds) > 1 else ""
            name = f"{entry.label} trial {number}{more}"
            listing = {"name": name, "kind": "trial", "trial": number, "seed": seed}
            runs.append(self.graph.run(plan, entry, point, seed, "fit", listing, self.tune.epochs))
        results = [self.graph.diverged_source(plan, run) or self.graph.result(run) for run in runs]
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
            "hparams": dict(values),
            "score": score,
            "finished": len(over) == len(runs),
        }

    def _finals(self, plan: Plan, entry: Entry, point: Point, default: bool) -> dict[str, str]:
        more = " (default hyperparameters)" if default else ""
        return {
            str(seed): self.graph.run(
                plan,
                entry,
                point,
                seed,
                self.study.final.train_on,
                {"name": f"{entry.label} seed {seed}{more}", "kind": "final", "seed": seed},
            )
            for seed in self.study.final.seeds
        }

    def _without_source(self, plan: Plan, row: Row) -> str | None:
        """Why none of a row's runs can ever be trained, or None."""
        lost = [self.graph.diverged_source(plan, run) for run in row.runs.values()]
        if not lost or None in lost:
            return None
        names = sorted({plan.nodes[r["id"]].listing["name"] for r in lost if r})
        return f"what it learns from diverged: {', '.join(names)}"
