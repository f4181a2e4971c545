"""Which run of a study is meant: a method's row and a seed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kdbench.export.errors import CannotExport
from kdbench.records.measures import MEASURES
from kdbench.records.plan_file import PlanData, PlanFile, PlanRow
from kdbench.records.spec import RunSpec
from kdbench.records.store import Record, Store
from kdbench.records.students import studies_of
from kdbench.registry import UnknownName
from kdbench.report.rows import PRECEDENCE

BEST = "best"


@dataclass(frozen=True)
class Choice:
    """A finished and scored final run: of which plan, row and seed. `how` says in words how the
    seed was chosen."""

    plan: PlanFile
    data: PlanData
    row: PlanRow
    seed: int
    record: Record
    spec: RunSpec
    how: str

    @property
    def which(self) -> str:
        """Whose weights are taken: `last` or `best`, the study's selection rule."""
        return self.plan.selection

    @property
    def teacher(self) -> str | None:
        """The run of the study's teacher."""
        listed = self.plan.listing.get(self.record.id)
        return listed.teacher if listed else None


def load_plan(store: Store, study: str) -> PlanFile:
    """The plan of a study that has run in a root. Raises `UnknownName`."""
    if len(studies := studies_of(store, study)) > 1:
        raise UnknownName(f"'{study}' has several students; name one of {', '.join(studies)}")
    plan = PlanFile.load(store.plan_path(study))
    if plan is None or plan.data is None:
        raise UnknownName(f"study '{study}' has not run under {store.root}")
    return plan


def find_row(plan: PlanFile, method: str, row: str | None) -> PlanRow:
    """A method's row of this name, or the one that the leaderboard ranks. Raises `UnknownName`."""
    rows = {r.row: r for r in plan.rows if r.label == method}
    where = f"study '{plan.study}'"
    if not rows:
        labels = dict.fromkeys(r.label for r in plan.rows)
        raise UnknownName(f"{where} has no method {method!r}; {_known(labels)}")
    chosen = row or min(rows, key=PRECEDENCE.index)
    if chosen not in rows:
        raise UnknownName(f"{where} has no row {chosen!r} of {method}; {_known(rows)}")
    return rows[chosen]


def final_run(plan: PlanFile, row: PlanRow, seed: int) -> str:
    """The id of the final run of a row with a seed. Raises `UnknownName`."""
    if str(seed) not in row.runs:
        raise UnknownName(
            f"study '{plan.study}' has no run of {row.label} ({row.row}) with seed {seed}; "
            f"{_known(row.runs)}"
        )
    return row.runs[str(seed)]


def choose(store: Store, study: str, method: str, seed: str, row: str | None = None) -> Choice:
    """The run of a method's row with `seed`, or with `best` the one of the highest validation
    score by the study's selection rule (ties: the lower NLL, then the lower seed).

    Raises `UnknownName` where the study, method, row or seed is not there, and `CannotExport`
    where the run is not finished or diverged, or no validation score tells the seeds apart.
    """
    plan = load_plan(store, study)
    assert plan.data is not None, "checked when it was loaded"
    planned = find_row(plan, method, row)
    if planned.incompatible:
        raise CannotExport(f"{method} has no runs: {planned.incompatible}")
    if seed == BEST:
        number, how = _best_seed(store, plan, planned)
    elif seed.isdecimal():
        number, how = int(seed), "named with --seed"
    else:
        raise CannotExport(f"--seed {seed}: write a number or {BEST}")
    record = store.record(final_run(plan, planned, number))
    require_scored(record, f"{method} ({planned.row}) seed {number}")
    spec = record.spec()
    assert spec is not None, "a finished run has a spec"
    return Choice(plan, plan.data, planned, number, record, spec, how)


def require_scored(record: Record, name: str) -> None:
    """Raise `CannotExport` unless a run is finished, did not diverge, and was scored on test."""
    result = record.result
    if result is None:
        raise CannotExport(f"{name} is not finished; `kdbench study` continues it")
    if result["state"] != "done":
        raise CannotExport(
            f"{name} diverged in epoch {result.get('diverged_epoch')} and has no weights; "
            "take another seed"
        )
    if record.test is None:
        raise CannotExport(f"{name} is not scored on test yet; `kdbench study` continues it")


def scored_seeds(store: Store, row: PlanRow) -> dict[int, Record]:
    """The finished and scored runs of a row by seed."""
    records = {int(seed): store.record(run) for seed, run in row.runs.items()}
    return {s: r for s, r in sorted(records.items()) if _state(r) == "done" and r.test is not None}


def _state(record: Record) -> str | None:
    result = record.result
    return result["state"] if result else None


def _best_seed(store: Store, plan: PlanFile, row: PlanRow) -> tuple[int, str]:
    measure = MEASURES[plan.measure]
    results = {seed: r.result or {} for seed, r in scored_seeds(store, row).items()}
    name = f"{row.label} ({row.row}) of study '{plan.study}'"
    if not results:
        raise CannotExport(f"{name} has no finished run; `kdbench study` continues it")
    scores = {seed: _validation(r[plan.selection], measure.validation) for seed, r in
              results.items()}  # fmt: skip
    known = {seed: score for seed, score in scores.items() if score is not None}
    if not known:
        raise CannotExport(
            f"{name} was trained on all training images, so no validation score says which seed "
            f"is best, and the test set may not; name one, as in --seed {min(results)} "
            f"({_known(map(str, results))})"
        )
    best = max(known, key=lambda seed: (known[seed], -seed))
    words = f"the highest validation {measure.words} of {len(known)} seeds"
    return best, f"{words}, {100 * known[best][0]:.2f} %"


def _validation(result: Mapping[str, Any], score: str) -> tuple[float, float] | None:
    """Validation score and negative NLL; None for a run without validation images."""
    if result.get(score) is None:
        return None
    return float(result[score]), -float(result["val.nll"])


def _known(names: Iterable[str]) -> str:
    return f"it has {', '.join(names) or 'none'}"
